/* Collects the image of a process that waits in execve. Loop thread. */
#pragma once

#include "image/exec.h"
#include "space/internal.h"

/* One descriptor of the process that the new program keeps. */
struct gather_fd {
	int number;
	int fd;      /* owned: our dup, for delegated ones; -1 */
};

struct gather {
	struct exec_image image;  /* owned */
	struct gather_fd *fds;    /* owned, image.n_fds */
};

void gather_fini(struct gather *g);

/* Fills *ret from the caller of the trapped execve. 0, or -errno with the words why it cannot be carried (e->text is what
 * `pando why` says). The path and arguments count only if trap_valid() says so afterwards. */
int gather_exec(struct trap *t, struct gather *ret, struct err *e);

/* Kinds, flags and identities of descriptors of our own, one for each of g->image.fds (whose numbers are set): for a command that has no
 * process yet. g->fds gets dups. 0, or -errno with the words which one cannot be carried. */
int gather_own_fds(struct gather *g, const int *fds, struct err *e);

/* What can be said of a running process without its execve: descriptors, threads, tracer, namespaces. For `pando why`. */
int gather_check(struct space *s, pid_t outer, struct err *e);
