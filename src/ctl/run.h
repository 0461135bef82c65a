/* The run request: everything about a command that its caller decides, as `pando run` collects it and pandod gets it. Any thread.
 *
 * It travels in a sealed memfd, not in JSON, because its strings are bytes. Credentials are not in it: pandod reads them from the
 * peer. Format (wire/wr.h): u32 magic "PRUN", u16 version 1, then the fields in the order of the encoder in run.c. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <termios.h>

#include "base/err.h"
#include "wire/rd.h"
#include "wire/wr.h"

enum {
	RUN_SIZE_MAX = 8 << 20,     /* bytes of an encoded request: more than execve takes */
	RUN_STRINGS_MAX = 256 << 10, /* strings in argv, and in envp */
	RUN_FDS_MAX = 1000,
	RUN_FD_NUMBER_MAX = 1 << 20,
	RUN_FEATURES_MAX = 256,
	RUN_RLIMITS = 16,           /* RLIMIT_CPU .. RLIMIT_RTTIME */
};

enum run_fd_kind {
	RUN_FD_SENT = 0, /* the next descriptor that came with the request */
	RUN_FD_PTY = 1,  /* the slave of the session's pty */
};

struct run_fd {
	int number;             /* at the command */
	enum run_fd_kind kind;
};

struct run_request {
	char **argv;  /* owned, NULL-terminated, at least one; argv[0] is searched in PATH of envp if it has no '/' */
	char **envp;  /* owned, NULL-terminated */
	char *cwd;    /* owned, absolute */
	uint32_t umask;
	struct rlimit rlimits[RUN_RLIMITS]; /* by RLIMIT_ number */
	uint64_t ignored; /* bit N-1: signal N is ignored */
	uint64_t blocked; /* bit N-1: signal N is blocked */
	int nice;         /* -20..19 */
	uint16_t node;    /* 0: the policy decides */
	char features[RUN_FEATURES_MAX]; /* "+x,-y" or "" */

	struct run_fd *fds; /* owned; each number at most once; in the order of the sent descriptors */
	size_t n_fds;

	int tty;              /* the session gets a pty as its controlling terminal */
	struct winsize win;   /* of it */
	struct termios termios; /* of it; flags, control characters and speeds are carried */
};

/* Frees what r owns and empties it. Usable as cleanup; all zeros are fine. */
void run_request_fini(struct run_request *r);

/* How many descriptors of kind RUN_FD_SENT there are. */
size_t run_request_n_sent(const struct run_request *r);

/* Appends the encoded request. -E2BIG when it is over a limit, -EINVAL for a field out of range, -ENOMEM. */
int run_request_encode(const struct run_request *r, struct wr *w);

/* Decodes n bytes. On 0 the caller owns the content of *ret; -EBADMSG for anything that is wrong, -ENOMEM. */
int run_request_decode(const void *p, size_t n, struct run_request *ret);

/* Encodes into a new memfd, sealed against every change. On 0 the caller owns *ret_fd. */
int run_request_to_memfd(const struct run_request *r, int *ret_fd, struct err *e);

/* Decodes from a descriptor that came from anybody. Refused unless it is a memfd sealed against writing, growing and shrinking (so that reading
 * it cannot block and it cannot change meanwhile). */
int run_request_from_memfd(int fd, struct run_request *ret, struct err *e);
