/* The requests that the /proc server took from the kernel and has not answered yet, in shared memory that outlives it.
 *
 * A request that a FUSE server has read belongs to it: when it dies while the connection lives on (the keeper holds /dev/fuse),
 * the caller waits for ever, SIGKILL or not; FUSE_NOTIFY_RESEND helps on Linux 6.9 and later only. So each request is read straight
 * into a slot of this file, and the slot is emptied when the answer is written: the next server finds the slots, answers them
 * first (an answer twice is refused by the kernel with ENOENT and harmless) and nobody hangs on any kernel. The first request of all,
 * FUSE_INIT, is kept as well: the next server feeds it to libfuse, which serves no connection without it.
 *
 * A slot is in use when the `unique` of the request header in it is not 0: the kernel's copy is atomic enough for that, as a
 * server killed within read(2) makes the kernel end the request with an error. One reader, one thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
	JOURNAL_SLOTS = 256,
	JOURNAL_MAX_WRITE = 128 << 10,                /* of the connection; also what one read of a file asks for at most */
	JOURNAL_SLOT_SIZE = JOURNAL_MAX_WRITE + 4096, /* the kernel wants room for a write and its headers */
	JOURNAL_INIT_MAX = 256,
};

struct journal;

/* Makes the shared memory of a new FUSE connection (a memfd with holes: a page for each request that was ever under way at once). The caller owns *ret_fd. Whoever
 * keeps /dev/fuse for the next server keeps this beside it. */
int procfs_journal_new(int *ret_fd, struct err *e);

/* Maps it. -EBADMSG when it is no journal of this version. On 0 the caller owns *ret; fd stays the caller's. */
int journal_open(int fd, struct journal **ret, struct err *e);
void journal_close(struct journal *j);

/* An empty slot of JOURNAL_SLOT_SIZE bytes to read the next request into, NULL when all are in use. The same one until it is used. */
void *journal_slot(struct journal *j);
/* The slot just filled holds a request from now on. */
void journal_taken(struct journal *j, void *slot);
/* The request of that number was answered (or needs no answer). Unknown numbers are ignored. */
void journal_answered(struct journal *j, uint64_t unique);

/* Calls fn for each request that the server before left, oldest first (numbers rise). Slots are emptied by journal_answered only.
 * *slot_n is the length that the request's header gives. */
void journal_left(struct journal *j, void (*fn)(void *ctx, void *slot, size_t slot_n), void *ctx);

/* Number of requests in use. */
size_t journal_used(const struct journal *j);

/* The FUSE_INIT of this connection: n is 0 when none was kept. */
const void *journal_init(const struct journal *j, size_t *ret_n);
void journal_init_set(struct journal *j, const void *p, size_t n);
