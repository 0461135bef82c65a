/* What of the agent outlives its process: records in shared memory and descriptors, both held by the keeper. Loop thread only.
 *
 * A process that is killed leaves the memory as it was after its last store, so a record is made in three steps: store_new, fill it in,
 * store_commit; only committed ones are found by the next process. Fields of a committed record are changed in place. Records are
 * bytes of this machine and this version of the program: with another version the old ones are dropped (STORE_VERSION).
 *
 * Recipe: store_open; store_each for what is there; store_new ...; store_close (the records stay with the keeper). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { STORE_VERSION = 1, STORE_RECORD_MAX = (2 << 20) - 64 };

enum store_type {
	STORE_AGENT = 1, /* who we are */
	STORE_PEER,      /* a member */
	STORE_META,      /* of the file system */
	STORE_OUT,      /* a session in which we are the importer */
	STORE_IMPORT,
	STORE_NAME,     /* a node of our file system */
	STORE_HANDLE,   /* an open file of the kernel */
	STORE_IN,       /* a session in which we are the exporter */
	STORE_DESC,     /* an exported description */
	STORE_GRANT,
	STORE_XHANDLE,
	STORE_FRAME,    /* a message that is not acknowledged */
	STORE_PROGRESS, /* a write that is done in part */
	STORE_RING,     /* the read or write that is just being done */
	STORE_PENDING,  /* a request of a kernel that cannot send it again */
	STORE_TYPES,
};

/* Who keeps descriptors beyond our death; all NULL: nobody. As struct space_keep. */
struct store_keep {
	void *ctx;
	int (*put)(void *ctx, const char *name, int fd); /* a dup is kept */
	int (*drop)(void *ctx, const char *name);
	int (*take)(void *ctx, const char *name);        /* the caller's fd, or -ENOENT; it stays kept */
	void (*each)(void *ctx, const char *prefix, void (*fn)(void *arg, const char *name, int fd), void *arg); /* fd: the callee's */
	int (*sync)(void *ctx);                          /* waits until all that was said is done */
};

struct store;

/* Takes the records that are kept, or begins anew. On 0 the caller owns *ret. */
int store_open(const struct store_keep *keep, struct store **ret, struct err *e);
struct store *store_close(struct store *s);

/* Forgets all records and descriptors of before. */
void store_wipe(struct store *s);

/* A record of n bytes, zeroed, not yet committed; NULL: no room. */
void *store_new(struct store *s, enum store_type type, size_t n);
void store_commit(void *p);
void store_free(struct store *s, void *p); /* NULL is fine */

/* Frees all records of the type. */
void store_drop_all(struct store *s, enum store_type type);

/* Calls fn for each committed record of the type; fn may free the record it is given. */
void store_each(struct store *s, enum store_type type, void (*fn)(void *ctx, void *p, size_t n), void *ctx);

/* Descriptors by name. With no keeper: put and drop do nothing, take finds nothing. */
int store_put_fd(struct store *s, const char *name, int fd);
void store_drop_fd(struct store *s, const char *name);
int store_take_fd(struct store *s, const char *name);
/* Waits until what was dropped is closed. */
void store_sync(struct store *s);
void store_each_fd(struct store *s, const char *prefix, void (*fn)(void *arg, const char *name, int fd), void *arg);
