/* The image of a process at execve: no memory yet, everything else that the new program keeps. It goes from the node where the
 * call was trapped to the node where the program shall run. docs/image-format.md gives the bytes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "wire/rd.h"
#include "wire/wr.h"

enum {
	EXEC_IMAGE_VERSION = 1,
	EXEC_ARGS_MAX = 2 << 20,  /* bytes of argv and of envp together (the kernel's limit follows the stack limit; larger stays) */
	EXEC_FDS_MAX = 1024,
	EXEC_GROUPS_MAX = 1024,
	EXEC_RLIMITS = 16,
	EXEC_PATH_MAX = 4096,
};

enum exec_fd_kind {
	EXEC_FD_REOPEN = 1,  /* path, flags, offset: private to the process, the same file is there */
	EXEC_FD_DELEGATED,   /* the open description stays; stream node, id and key lead to it */
	EXEC_FD_TTY,         /* the controlling terminal of the session */
};

struct exec_fd {
	uint32_t number;
	uint8_t kind;
	uint32_t flags;       /* open flags of the description */
	char *path;           /* owned; REOPEN */
	uint64_t offset;      /* REOPEN */
	uint64_t dev, ino, size; /* REOPEN: identity of the file; dev counts only on one machine */
	uint16_t node;        /* DELEGATED */
	uint64_t id;
	uint8_t key[16];
	uint8_t same_as;      /* 1: the description is that of descriptor `alias` */
	uint32_t alias;
};

struct exec_image {
	/* Who, in cluster numbers. */
	int32_t pid, ppid, pgid, sid;
	uint16_t home;        /* node that keeps the ghost under the real parent */
	uint8_t leads_session, leads_group;
	uint8_t parent_leads_group; /* ppid == its own group */
	int32_t parent_pgid, parent_sid;

	char *path;           /* owned, as given to execve */
	char *cwd;            /* owned, absolute */
	char *args;           /* owned: argv strings with NULs, then envp strings */
	size_t args_n;
	uint32_t argc, envc;

	uint32_t uid[3], gid[3];
	uint32_t n_groups;
	uint32_t *groups;     /* owned */
	uint64_t cap_effective, cap_permitted, cap_inheritable, cap_bounding, cap_ambient;
	uint32_t securebits, no_new_privs, umask, personality;
	int32_t nice, oom_score_adj, pdeath_signal;
	uint64_t sig_blocked, sig_ignored;
	uint64_t rlimit[EXEC_RLIMITS][2];
	uint64_t cpus[16];    /* affinity as asked for by the program; all 0: never asked */
	uint64_t features;    /* effective and inheritable sets, space/features.h */

	uint32_t n_fds;
	struct exec_fd *fds;  /* owned */

	uint8_t *files;       /* owned: encoded list of the files the program needs (image/fileid.h), opaque here */
	size_t files_n;
};

/* Frees what im holds; im is empty afterwards. */
void exec_image_fini(struct exec_image *im);

/* Appends the encoding; errors stick in w. */
void exec_image_encode(const struct exec_image *im, struct wr *w);

/* Decodes a whole message. On 0 the caller owns *ret (exec_image_fini); on -EBADMSG or -ENOMEM *ret is empty and e says what. */
int exec_image_decode(const uint8_t *p, size_t n, struct exec_image *ret, struct err *e);

/* Builds the flat file that the stub maps (stub/proto.h: struct stub_body) in a sealed-size memfd. On 0 *ret_fd is the
 * caller's and *ret_size its length. fd_numbers: the numbers at which the descriptors will be installed are in im->fds. */
int exec_image_body(const struct exec_image *im, int ctty, int *ret_fd, uint32_t *ret_size, struct err *e);
