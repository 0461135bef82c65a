/* Inner side of the exporter: one real open description with the requests that wait for it. Used by export.c and desc.c only. */
#pragma once

#include <sys/types.h>
#include <uthash.h>

#include "stream/export.h"
#include "stream/proto.h"
#include "stream/ring.h"

enum { DIR_READ, DIR_WRITE, N_DIRS };

/* How reads or writes are done without blocking. */
enum desc_how {
	HOW_NOWAIT,   /* preadv2/pwritev2 with RWF_NOWAIT */
	HOW_REOPENED, /* kernels whose pipes refuse RWF_NOWAIT: through an O_NONBLOCK description of our own */
	HOW_THREAD,   /* when poll says ready, in a thread that can be interrupted */
};

/* What outlives the process. Each may be missing (NULL) when there was no room: then it does not. */
struct xdesc_rec {
	uint64_t id;
	uint32_t kind;
	char name[];
};

struct grant_rec {
	uint64_t desc;
	uint64_t expires_ms;
	uint32_t n_unused;
	uint16_t node;
	uint8_t key[PMSG_KEY_SIZE];
};

struct xhandle_rec {
	uint64_t session, fh, desc;
};

struct progress_rec {
	uint64_t session, req;
	uint64_t n_done;
	int64_t before;     /* a file: the shared offset (or the end, for appending) when the call began; -1: it has not */
	uint32_t is_read;
};

struct grant {
	struct grant_rec *r; /* owned */
	uint16_t node;
	uint32_t n_unused;
	uint64_t expires_ms;
	uint8_t key[PMSG_KEY_SIZE];
};

/* An answer that waits to be asked for again. */
struct xresult {
	uint64_t req;
	struct sess_frame *f; /* owned */
	UT_hash_handle hh;
};

/* The same of a write that was done in part. */
struct xprogress {
	struct progress_rec *r; /* owned */
	struct xprogress *next;
};

struct xdesc {
	struct exporter *x;  /* borrowed */
	struct xdesc_rec *r; /* owned */
	uint64_t id;
	int fd;              /* owned */
	int nb_fd;           /* owned: HOW_REOPENED; -1 */
	enum stream_kind kind;
	int is_readable, is_writable;
	enum desc_how how[N_DIRS];
	int epoll_state;     /* 0: not registered, 1: registered, -1: cannot be polled */
	dev_t dev;
	ino_t ino;
	char *name;          /* owned */
	unsigned n_refs;     /* handles, requests, the table while it has grants */
	struct grant *grants; /* owned */
	size_t n_grants;
	struct xhandle *handles; /* list */
	struct xop *queue[N_DIRS]; /* first is the one being done; files use DIR_READ for both */
	int is_busy[N_DIRS];       /* the first is in a thread */
	uint64_t n_reads, n_writes;
	uint32_t refused_ioctl;    /* last command that was refused */
	UT_hash_handle hh;
};

struct xhandle {
	uint64_t fh;
	struct xhandle_rec *r; /* owned */
	int is_kept;
	struct xsess *s;   /* borrowed */
	struct xdesc *d;   /* counted */
	uint32_t armed;    /* poll events for which the next edge is told */
	size_t bytes;      /* of writes not answered */
	struct xhandle *prev, *next; /* of the description */
	UT_hash_handle hh;
};

/* One request that is not answered yet. */
struct xop {
	struct job job;      /* first: a job is its op */
	struct xdesc *d;     /* counted; NULL for SYNC */
	struct xsess *s;     /* borrowed; NULL when the session is gone (the answer is dropped) */
	uint64_t req, fh, fh2;
	uint16_t type;
	uint32_t flags, oflags, size, uid, gid;
	int64_t off;
	uint64_t len;
	struct pmsg_attr attr;
	uint8_t *buf;        /* owned: data to write, room to read, argument of an ioctl */
	size_t n_buf, n_done, charged;
	int64_t result;      /* of a job: >= 0 or -errno */
	int new_fd;          /* owned: REOPEN */
	int is_wanted;       /* it was asked for since the session started anew */
	struct progress_rec *progress; /* owned: READ of files and WRITE */
	int is_queued, is_running, is_cancelled;
	struct xop *prev, *next; /* queue of the description */
	UT_hash_handle hh;       /* of the session, by req */
};

struct xsess {
	struct exporter *x; /* borrowed */
	void *p;            /* borrowed: for config.send */
	uint16_t node;
	uint64_t id;
	struct xresult *results;    /* hash by req */
	struct xprogress *progress; /* list */
	struct xhandle *handles; /* hash */
	struct xop *ops;         /* hash */
	struct xop *syncs;       /* list: SYNC that wait for closes */
	size_t n_ops, bytes;
	unsigned n_closing;      /* closes that run in the pool */
	int is_starved;          /* a read waits until the backlog is smaller */
	int is_closed;           /* freed when n_closing is 0 */
	uint64_t refused_ms, n_refused;
	struct xsess *prev, *next;
};

struct exporter {
	struct exporter_config cfg;
	int epfd;                /* owned */
	uv_poll_t poll;
	struct xdesc *descs;     /* hash by id */
	struct xsess *sessions;  /* list */
	uint64_t last_id;
	int is_restored;         /* descriptions have a reference until exporter_tidy */
	unsigned n_jobs;         /* that must end before the exporter can */
	struct ring *ring;       /* owned */
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* export_keep.c */

/* Notes d, and a description and its handles of before. */
void xdesc_note(struct xdesc *d);
void xdesc_forget(struct xdesc *d);
int xdesc_restore_all(struct exporter *x);
/* A read or write that the process before us was killed in counts. */
void xring_restore(struct exporter *x);
void xsess_restore(struct xsess *s);
void xsess_keep(struct xsess *s, const uint8_t *p, size_t n); /* KEEP */
void xsess_resynced(struct xsess *s);
void xsess_forget(struct xsess *s);                           /* results and the like */

/* A request that comes again, or might: 1 when nothing is to be done for it any more. */
int xsess_again(struct xsess *s, const struct pmsg *m);

/* Notes how far a read or write is; op->n_done is what was done before, if it comes again. */
void xop_progress(struct xop *op);

/* Any thread: whether the call of op on a file, which an agent before us began, had its effect: the number of bytes, 0 when not. */
size_t xop_was_done(struct xop *op);

/* export.c */
void xdesc_enter(struct exporter *x, struct xdesc *d);
int xhandle_new(struct xsess *s, struct xdesc *d, uint64_t fh, struct xhandle_rec *r); /* r NULL: made */
void xhandle_free(struct xhandle *h);
struct xdesc *xdesc_find(const struct exporter *x, uint64_t id);
/* op is not asked for any more: ends without an answer. Others may have waited behind it: desc_pump. */
void xsess_abandon(struct xsess *s, struct xop *op);
int xgrant_restore(struct xdesc *d, struct grant_rec *r);

/* Answers op (m->type and m->req are filled in) and frees it. */
void xop_answer(struct xop *op, struct pmsg *m);
void xop_status(struct xop *op, int status);

/* Does op, now or later; it is answered exactly once. */
void desc_submit(struct xop *op);

/* Tries what waits on d (after an edge, or when the session of a starved read has room again). */
void desc_pump(struct xdesc *d);

/* Ends op early: with -EINTR, or with what was done. No effect on what cannot wait. */
void desc_cancel(struct xop *op);

/* The session of op is gone (op->s is NULL): ends it now when it waits, or when its job is done. Serves nobody else. */
void desc_drop(struct xop *op);

/* Registers d in the exporter's epoll set, once. */
void desc_watch(struct xdesc *d);

/* Whether the real description is in non-blocking mode now. */
int desc_is_nonblocking(const struct xdesc *d);

void desc_attr(const struct xdesc *d, const struct stat *st, struct pmsg_attr *ret);

/* One reference less; the last one closes. s, when not NULL, is the session whose SYNC waits for that. */
void desc_unref(struct xdesc *d, struct xsess *s);

/* Kind and capabilities of fd into d. -EOPNOTSUPP with words. */
int desc_init(struct xdesc *d, int fd, const char *name, struct err *e);

/* Continues REOPEN after its job (export.c). */
void export_reopened(struct xop *op);

/* The session has a close less under way. */
void export_close_done(struct xsess *s);
