/* Inner side of the importer, shared by import.c (imports, requests, peers) and import_fs.c (the kernel's requests). */
#pragma once

#include <linux/fuse.h>
#include <uthash.h>

#include "stream/fuse_dev.h"
#include "stream/import.h"
#include "stream/names.h"
#include "stream/restart.h"

struct ireq;

struct imp_peer {
	uint16_t node;
	uint64_t n_sent, n_synced;  /* messages sent; sent before the last answered SYNC */
	size_t n_reqs, bytes;       /* not answered */
	struct ireq *held;          /* list: wait until fewer are not answered */
	UT_hash_handle hh;
};

/* A description of another node, with its place in our file system. */
struct import {
	struct importer *im;   /* borrowed */
	struct imp_peer *peer; /* borrowed, lives as long as the importer */
	uint64_t id;           /* ours: node in the upper 16 bits */
	uint64_t export_id;    /* the home's */
	enum stream_kind kind;
	uint32_t oflags;
	struct fnode *node;    /* borrowed from names */
	unsigned index;        /* of its place */
	int is_dead;           /* the home is gone */
	unsigned n_refs;       /* handles and those about to be opened */
	struct pmsg_attr attr; /* last known */
	struct ihandle *handles; /* list */
	UT_hash_handle hh;       /* by id */
};

/* One open file of the kernel. */
struct ihandle {
	uint64_t fh;
	struct import *imp;  /* counted */
	uint64_t export_id;  /* differs from the import's for one opened again through /proc */
	uint32_t oflags;     /* access mode and so on at the open */
	uint32_t last_flags; /* O_NONBLOCK and O_APPEND as the kernel last told them */
	int is_stream;       /* no position */
	int is_trapped;      /* positions are exact without us */
	int64_t expect;      /* where the kernel's own position is, if only read and write moved it */
	uint64_t kh;         /* the kernel's handle for poll */
	int has_kh;
	size_t bytes;        /* of writes not answered */
	struct ihandle *prev, *next;
	UT_hash_handle hh;
};

/* A request to a home that is not answered yet: one of the kernel (unique != 0) or of our own. */
struct ireq {
	uint64_t req;
	struct imp_peer *peer; /* borrowed */
	uint64_t fh;
	uint16_t type;
	uint64_t unique;       /* of the kernel's request */
	uint32_t opcode, pid;
	uint64_t nodeid;
	int is_sent, is_interrupted, is_gone; /* gone: the kernel was answered, only the home's answer is awaited */
	int is_counted;        /* in peer->n_reqs */
	size_t charged;
	struct pmsg held;      /* when not sent; data is owned by us */
	int64_t off;           /* READ, WRITE: the kernel's offset; IOCTL: address of the argument */
	uint32_t size;         /* IOCTL: command; WRITE: bytes */
	/* Runs once with the home's answer or with one made up for its death. Our own requests only. */
	void (*done)(void *ctx, struct ireq *r, const struct pmsg *a);
	void *ctx;
	struct ireq *prev, *next; /* held */
	UT_hash_handle hh, hh_unique;
};

struct importer {
	struct importer_config cfg;
	int dev, mnt;          /* owned */
	dev_t st_dev;
	uv_poll_t poll;
	int is_closing;
	struct restart *restart; /* owned */
	struct names *names;     /* owned */
	struct imp_peer *peers;  /* hash by node */
	struct import *imports;  /* hash by id */
	struct ihandle *handles; /* hash by fh */
	struct ireq *reqs;       /* hash by req */
	struct ireq *uniques;    /* hash by unique (hh_unique) */
	struct open_job *opens;  /* list: opens in the pool */
	uint64_t last_fh, last_req, last_import;
	unsigned n_jobs;
	uint8_t *buf;            /* owned, FUSE_DEV_BUF_SIZE */
	uint64_t n_requests, n_notifies, n_sigpipes;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* An open of our own that the kernel turns into requests to us. */
struct open_job {
	struct job job;
	struct importer *im;
	struct import *imp;     /* counted */
	struct ihandle *handle; /* owned until the kernel's OPEN takes it */
	_Atomic uint32_t tid;   /* of the pool's thread; written there before the open */
	int flags;
	int64_t off;
	int fd, result;
	import_fn done;
	void *ctx;
	char path[NAMES_PATH_MAX];
	struct open_job *prev, *next;
};

/* import.c */

/* A new request to peer for the kernel's request h (NULL: our own, with done). m gets the number. Sends it, or holds it back while
 * too much is under way. -errno: there is no request. */
int ireq_send(struct importer *im, struct imp_peer *peer, struct pmsg *m, const struct fuse_in_header *h, struct ireq **ret);

/* As ireq_send for one of our own: done always runs, with a made-up answer when it could not be sent (perhaps within the call). */
void ireq_own(struct importer *im, struct imp_peer *peer, struct pmsg *m,
	      void (*done)(void *ctx, struct ireq *r, const struct pmsg *a), void *ctx);

/* The kernel's request `unique` is interrupted. */
void ireq_interrupt(struct importer *im, uint64_t unique);

/* A message without an answer (RELEASE, CANCEL). */
void peer_tell(struct importer *im, struct imp_peer *peer, const struct pmsg *m);

struct imp_peer *peer_get(struct importer *im, uint16_t node); /* made when it is not there; NULL: out of memory */

struct ihandle *ihandle_find(const struct importer *im, uint64_t fh);
struct ihandle *ihandle_new(struct import *imp); /* NULL: out of memory */
void ihandle_free(struct ihandle *h);            /* without telling the home */
void import_unref(struct import *imp);

/* How a handle of the import is opened in the kernel (FOPEN_...), and the size that the kernel shall believe in. */
uint32_t import_fopen_flags(const struct import *imp, int is_stream);
uint64_t import_size(const struct import *imp);

/* import_fs.c */

/* Reads and serves the kernel's requests until there are none. */
void import_fs_drain(struct importer *im);

/* Replies to the kernel's request r with the home's answer a. */
void import_fs_answer(struct importer *im, struct ireq *r, const struct pmsg *a);

/* The answer for a file whose home is dead, to a request of that type and kind. */
void import_dead_answer(const struct import *imp, uint16_t type, uint32_t flags, struct pmsg *ret);

/* Lets those who poll h look again. */
void import_fs_notify(struct importer *im, struct ihandle *h);
