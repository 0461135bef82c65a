/* Inner side of the importer, shared by import.c (imports, requests, peers) and import_fs.c (the kernel's requests). */
#pragma once

#include <linux/fuse.h>
#include <uthash.h>

#include "stream/fuse_dev.h"
#include "stream/import.h"
#include "stream/names.h"
#include "stream/opener.h"
#include "stream/restart.h"
#include "stream/store.h"

struct ireq;

struct imp_peer {
	uint16_t node;
	uint64_t n_sent, n_synced;  /* messages sent; sent before the last answered SYNC */
	size_t n_reqs, bytes;       /* not answered */
	struct ireq *held;          /* list: wait until fewer are not answered */
	UT_hash_handle hh;
};

/* What outlives the process, of imports, handles and requests. */
struct import_rec {
	uint64_t id;           /* ours: node in the upper 16 bits */
	uint64_t export_id;    /* the home's */
	uint64_t nodeid;       /* of its place */
	uint32_t kind, oflags;
	uint32_t index;        /* of its place */
	uint16_t peer;
	struct pmsg_attr attr; /* last known */
};

struct ihandle_rec {
	uint64_t fh, import;
	uint64_t export_id;  /* differs from the import's for one opened again through /proc */
	int64_t expect;      /* where the kernel's own position is, if only read and write moved it */
	uint64_t kh;         /* the kernel's handle for poll */
	uint32_t oflags;     /* access mode and so on at the open */
	uint32_t last_flags; /* O_NONBLOCK and O_APPEND as the kernel last told them */
	uint8_t is_stream;   /* no position */
	uint8_t is_trapped;  /* positions are exact without us */
	uint8_t has_kh;
};

struct pending_rec {
	uint64_t unique;
	uint32_t pid;
};

/* A description of another node, with its place in our file system. */
struct import {
	struct importer *im;   /* borrowed */
	struct imp_peer *peer; /* borrowed, lives as long as the importer */
	struct import_rec *r;  /* owned */
	uint64_t id;           /* as r's */
	enum stream_kind kind;
	struct fnode *node;    /* borrowed from names */
	int is_dead;           /* the home is gone */
	unsigned n_refs;       /* handles and those about to be opened */
	struct ihandle *handles; /* list */
	UT_hash_handle hh;       /* by id */
};

/* One open file of the kernel. */
struct ihandle {
	uint64_t fh;            /* as r's */
	struct ihandle_rec *r;  /* owned */
	struct import *imp;     /* counted */
	size_t bytes;           /* of writes not answered */
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
	struct pmsg held;      /* when not sent, and of our own; data is owned by us */
	struct pending_rec *pending; /* owned, or NULL */
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
	int has_resend;        /* the kernel can send unanswered requests again */
	dev_t st_dev;
	uv_poll_t poll;
	int is_closing;
	struct restart *restart; /* owned */
	struct opener *opener;   /* owned */
	struct names *names;     /* owned */
	struct imp_peer *peers;  /* hash by node */
	struct import *imports;  /* hash by id */
	struct ihandle *handles; /* hash by fh */
	struct ireq *reqs;       /* hash by req */
	struct ireq *uniques;    /* hash by unique (hh_unique) */
	struct open_job *opens;  /* list: opens in the pool */
	struct ioctl_job *ioctls; /* list: requests whose data is being copied */
	uint64_t last_fh, last_req, last_import;
	unsigned n_jobs;
	uint8_t *buf;            /* owned, FUSE_DEV_BUF_SIZE */
	uint64_t n_requests, n_notifies, n_sigpipes;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* An open of our own that the kernel turns into requests to us. */
struct open_job {
	struct importer *im;
	struct import *imp;     /* counted */
	struct ihandle *handle; /* owned until the kernel's OPEN takes it */
	import_fn done;
	void *ctx;
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
/* NULL: out of memory. fh 0: a new number. The caller fills in h->r and then calls store_commit on it. */
struct ihandle *ihandle_new(struct import *imp, uint64_t fh);
void ihandle_free(struct ihandle *h);            /* without telling the home */
void import_unref(struct import *imp);
/* Not counted, without a place; NULL: out of memory. */
struct import *import_of(struct importer *im, struct imp_peer *p, struct import_rec *r);

/* How a handle of the import is opened in the kernel (FOPEN_...), and the size that the kernel shall believe in. */
uint32_t import_fopen_flags(const struct import *imp, int is_stream);
uint64_t import_size(const struct import *imp);

/* import_keep.c: what was there before this process */

/* Takes over the file system, or mounts one. */
int import_keep_open(struct importer *im, struct err *e);
/* Imports and handles of the store, once names are there. */
int import_keep_restore(struct importer *im, struct err *e);
/* The kernel's answer to INIT is known. */
void import_keep_init(struct importer *im, int has_resend);
/* Lets the kernel send what is not answered again. */
void import_keep_resend(struct importer *im);
/* A request that came again: whether it is under way already. */
int import_keep_is_known(const struct importer *im, uint64_t unique);

/* import_ioctl.c */
void import_ioctl(struct importer *im, const struct fuse_in_header *h, const uint8_t *p, size_t n);
void import_ioctl_answered(struct importer *im, const struct ireq *r, const struct pmsg *a);
int import_ioctl_has(const struct importer *im, uint64_t unique);

/* import_fs.c */

/* Passes m on for the kernel's request h. NULL: it was answered here. */
struct ireq *import_fs_forward(struct importer *im, const struct fuse_in_header *h, struct import *imp, struct pmsg *m);

/* The kernel's request of r is interrupted: ends it so that the system call is made again. */
void import_fs_again(struct importer *im, const struct ireq *r);

/* Reads and serves the kernel's requests until there are none. */
void import_fs_drain(struct importer *im);

/* Replies to the kernel's request r with the home's answer a. */
void import_fs_answer(struct importer *im, struct ireq *r, const struct pmsg *a);

/* The answer for a file whose home is dead, to a request of that type and kind. */
void import_dead_answer(const struct import *imp, uint16_t type, uint32_t flags, struct pmsg *ret);

/* Lets those who poll h look again. */
void import_fs_notify(struct importer *im, struct ihandle *h);
