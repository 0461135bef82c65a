/* What the keeper and its programs say to each other, as one message each on a SOCK_SEQPACKET pair. Any thread; no I/O.
 *
 * Little endian: u8 op, u32 seq, then by op
 *   PUT    str name, with one descriptor        (no answer)
 *   DROP   str name                             (no answer)
 *   READY  -                                    (no answer)
 *   TAKE   str name                             ANSWER with one name and descriptor, or status -ENOENT
 *   EACH   str prefix                           ANSWERs, all but the last with more = 1
 *   SYNC   -                                    ANSWER, status -EDQUOT when puts were refused
 *   SPACE  i32 init, u8 freezer_v2, str cgroup, str lease path; init 0: no space      ANSWER
 *   ANSWER i32 status, u8 more, u32 n, n names, with n descriptors; seq is that of the request
 * An op that the keeper does not know is answered with -EOPNOTSUPP (a program may be newer than the keeper that runs). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "wire/wr.h"

enum keeper_op {
	KEEPER_PUT = 1,
	KEEPER_DROP,
	KEEPER_READY,
	KEEPER_TAKE,
	KEEPER_EACH,
	KEEPER_SYNC,
	KEEPER_SPACE,
	KEEPER_ANSWER,
};

enum {
	KEEPER_NAME_SIZE = 121,    /* KEEPER_NAME_MAX and NUL */
	KEEPER_CGROUP_SIZE = 256,
	KEEPER_LEASE_SIZE = 4096,
	KEEPER_REQUEST_MAX = 4608, /* bytes of a request */
	KEEPER_BATCH = 128,        /* names of an answer: below the kernel's 253 descriptors of a message */
	KEEPER_ANSWER_MAX = 32 + KEEPER_BATCH * (4 + KEEPER_NAME_SIZE),
};

struct keeper_request {
	uint8_t op;
	uint32_t seq;
	char name[KEEPER_NAME_SIZE]; /* or prefix */
	/* SPACE */
	int32_t init;
	uint8_t freezer_v2;
	char cgroup[KEEPER_CGROUP_SIZE];
	char lease[KEEPER_LEASE_SIZE];
};

struct keeper_answer {
	uint32_t seq;
	int32_t status;
	uint8_t more;
	uint32_t n;
	char name[KEEPER_BATCH][KEEPER_NAME_SIZE];
};

/* Appends r to w; wr_done tells whether there was memory. */
void keeper_request_encode(struct wr *w, const struct keeper_request *r);

/* 0; -EBADMSG with *ret undefined; -EOPNOTSUPP: an op of another version, of which op and seq are set. */
int keeper_request_decode(struct keeper_request *ret, const void *p, size_t n);

void keeper_answer_encode(struct wr *w, const struct keeper_answer *a);
int keeper_answer_decode(struct keeper_answer *ret, const void *p, size_t n); /* 0, -EBADMSG */

/* One message with n descriptors at most (KEEPER_BATCH). flags as of sendmsg. 0 or -errno. */
int keeper_msg_send(int sock, const void *p, size_t n, const int *fds, unsigned n_fds, int flags);

/* Receives one message. Returns its length, 0 at the end of the connection, -errno (-EMSGSIZE: too long for size). *n_fds descriptors
 * are the caller's, close-on-exec, at most KEEPER_FDS_PER_MSG; *ret_lost: descriptors could not be taken in. */
enum { KEEPER_FDS_PER_MSG = 253 };
int keeper_msg_recv(int sock, void *p, size_t size, int fds[static KEEPER_FDS_PER_MSG], unsigned *ret_n_fds, int *ret_lost, int flags);
