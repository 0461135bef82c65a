/* What must outlive pandod: the table of processes that two nodes know of, and the journal of trapped calls received but not
 * yet answered. It lies in a memfd that the keeper holds; a successor maps it and goes on. Plain data, no pointers, native
 * layout (the same machine, and `magic` and `size` guard against another build). Loop thread. */
#pragma once

#include <stdint.h>

#include <linux/seccomp.h>

#include "base/err.h"

enum {
	SHARED_PROCS = 65536,
	SHARED_JOURNAL = 4096,
	SHARED_WATCHES = 8192,
	SHARED_MAGIC = 0x50414e31,
};

enum prec_kind {
	PREC_FREE = 0,
	PREC_GHOST,    /* stands here for a process whose body is on `node` */
	PREC_BODY,     /* runs here; its ghost under the real parent is on node `node` */
	PREC_LOCAL,    /* runs here under its real parent, but other nodes have ghosts of it; or a session process */
};

enum prec_flags {
	PREC_HOME = 1,       /* ghost: a real parent here waits for it, it must end with the body's status */
	PREC_EXITED = 2,     /* the body has ended: status below */
	PREC_SESSION = 4,    /* root of a `pando run` session here: a stub that is the command's parent */
	PREC_HELD = 8,       /* body: stopped at its exec event, until its origin says go */
	PREC_KILLED = 16,    /* end of the body is not to be reported (given up, or moved on) */
	PREC_ORPHAN = 32,    /* ghost: the real parent is gone */
	PREC_UNACKED = 64,   /* body: has ended, the home node has not acknowledged yet */
	PREC_STOPPED = 128,  /* ghost: body is stopped, by signal status >> 8 */
};

struct prec {
	int32_t pid, ppid, pgid, sid;
	uint8_t kind, pad;
	uint16_t node;
	uint32_t flags;
	uint64_t ghosts[3];      /* bit n: node n has a ghost of it (as a parent) */
	uint32_t watch;          /* index of its session's listener */
	int32_t status;          /* wait status */
	uint64_t utime_us, stime_us, maxrss_kb;
	uint32_t incarnation;    /* of `node`, when it was placed */
	uint32_t uid;
	uint64_t features;
};

struct jrec {
	uint32_t used;
	uint32_t watch;
	struct seccomp_notif req;
};

struct shared {
	uint32_t magic, size;
	struct prec procs[SHARED_PROCS];
	struct jrec journal[SHARED_JOURNAL];
};

/* Maps fd (made by shared_create) or says what does not fit. On 0 *ret lives until shared_unmap. */
int shared_map(int fd, struct shared **ret, struct err *e);
/* A new, empty one. On 0 the caller owns *ret_fd. */
int shared_create(int *ret_fd, struct err *e);
void shared_unmap(struct shared *s);
