/* Reads and writes whose result is written down by the kernel, so that a process that is killed within the call leaves it to its
 * successor: SIGKILL takes effect when a system call returns, after its effect and before we could note it.
 *
 * One operation at a time, through an io_uring whose memory is in the store: the kernel puts the result where our successor finds it. Each
 * operation has a slot there with what it is for. Without io_uring, or before Linux 6.5: plain calls, and the gap stays. Loop thread
 * only. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "stream/pmsg.h"
#include "stream/store.h"

struct ring;

/* What an operation is for, and the room for what is read. */
struct ring_slot {
	uint64_t seq;  /* of the operation; 0: none */
	uint64_t session, req;
	uint64_t base; /* bytes that were written before */
	uint32_t is_write;
	uint8_t data[PMSG_DATA_MAX];
};

/* The operation that the process before us was killed in: its slot, with *ret_result (>= 0 or -errno). NULL: there was none, or it had no
 * effect. To be called before ring_new. */
const struct ring_slot *ring_before(struct store *store, int64_t *ret_result);

/* On 0 the caller owns *ret. -ENOMEM. */
int ring_new(struct store *store, struct ring **ret);
void ring_free(struct ring *r); /* NULL is fine */

/* Room for the next read, PMSG_DATA_MAX bytes; what is in there stays until the next operation. */
uint8_t *ring_room(struct ring *r);

/* Reads into ring_room, or writes p, without waiting: RWF_NOWAIT when nowait, else fd is in non-blocking mode. The number of bytes or
 * -errno. The caller notes the result, then calls ring_noted. */
struct ring_io {
	int fd, is_write, nowait;
	const uint8_t *p;
	size_t n;
	uint64_t session, req, base;
};
ssize_t ring_do(struct ring *r, const struct ring_io *io);
void ring_noted(struct ring *r);
