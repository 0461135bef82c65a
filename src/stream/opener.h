/* Opens files of our own FUSE file system, and does the other calls that come back to us as requests, in a process of its own.
 *
 * Who waits for a FUSE server cannot be killed until it answers. Were that a thread of ours, then a kill of the agent would not
 * end it: it would wait for itself. The opener is a child that does one call after the other and ends when its socket ends.
 * Loop thread only. */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"
#include "stream/names.h"

struct opener;

/* The result of one call: >= 0 or -errno; value and fd (the receiver's, or -1) by kind. */
typedef void (*opener_fn)(void *ctx, int result, uint64_t value, int fd);

/* Starts the child. dev and mnt are borrowed. gone runs when the child has ended by itself: its calls do not end then, before
 * opener_close. On 0 the caller owns *ret. */
int opener_new(uv_loop_t *loop, int dev, int mnt, void (*gone)(void *ctx), void *ctx, struct opener **ret, struct err *e);

/* Calls under way end with -ECANCELED within. NULL is fine; freed when the loop has run on. */
void opener_close(struct opener *o);

/* The child, as FUSE requests show it. */
pid_t opener_pid(const struct opener *o);

/* Each: on 0 done runs once, later; done may be NULL. -ENOMEM, -EAGAIN, -ENAMETOOLONG. */

/* Opens path below mnt, or below its directory "~index" when index is not 0, and seeks to off. fd. */
int opener_open(struct opener *o, unsigned index, const char *path, int flags, int64_t off, opener_fn done, void *ctx);

/* Makes the kernel forget a name. */
int opener_forget(struct opener *o, uint64_t parent, const char *name);

/* Makes the kernel ask for the size of path again. */
int opener_stat(struct opener *o, const char *path);

/* IMPORT_IDENT on fd (borrowed, only during this call): value. */
int opener_ident(struct opener *o, int fd, opener_fn done, void *ctx);
