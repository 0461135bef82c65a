/* The space of this node as pandod sees it: processes that two nodes know of, supervised calls, placement at exec, ghosts, signals.
 *
 * Loop thread only. Recipe: space_new (makes the space, or finds it again through the keeper); space_run per `pando run`;
 * space_node_dead when the cluster has agreed on a death; space_free at the end of the program (the space stays) or
 * space_wipe (it goes). */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"
#include "image/exec.h"
#include "kern/procinfo.h"
#include "space/create.h"
#include "transport/links.h"

struct space;

/* What the policy is asked at an exec. */
struct space_place {
	const char *path;     /* of the program, as given */
	int32_t pid;          /* of the process */
	pid_t outer;          /* its number in our own pid namespace */
	int32_t sid;          /* session of the space */
};

/* Keeps descriptors for a successor; see keeper/client.h. */
struct space_keep {
	void *ctx;
	int (*put)(void *ctx, const char *name, int fd); /* dup is kept */
	int (*drop)(void *ctx, const char *name);
	int (*take)(void *ctx, const char *name);        /* the caller's fd, or -ENOENT */
	/* Calls fn for each kept name with this prefix; fd is the callee's. */
	void (*each)(void *ctx, const char *prefix, void (*fn)(void *arg, const char *name, int fd), void *arg);
};

/* Descriptors that stay behind and are reached from afar; see stream/client.h. All callbacks come later, exactly once. */
struct space_streams {
	void *ctx;
	/* Grants node the use of fd's description (dup is taken). status 0 and where it is (node, id, key). */
	int (*export_fd)(void *ctx, int fd, uint16_t node,
			 void (*done)(void *arg, int status, uint16_t at, uint64_t id, const uint8_t key[16]), void *arg);
	int (*unexport)(void *ctx, uint16_t at, uint64_t id, uint16_t node);
	/* A descriptor for the description at (node, id, key). fd is the callee's. */
	int (*import_fd)(void *ctx, uint16_t at, uint64_t id, const uint8_t key[16], uint32_t flags,
			 void (*done)(void *arg, int status, int fd), void *arg);
	/* Everything that was written through imported descriptors of this node up to now is done where they are. */
	int (*barrier)(void *ctx, void (*done)(void *arg, int status), void *arg);
};

struct space_config {
	uv_loop_t *loop;
	struct links *links;
	uint16_t self;
	struct space_layout layout;
	struct space_keep keep;
	struct space_streams streams;
	void *ctx;
	/* Which node an exec goes to; self: here. */
	uint16_t (*place)(void *ctx, const struct space_place *p);
	/* Files that the program needs at node, encoded; 0 or -errno (stay). im has path, cwd, strings and credentials. *ret is freed by the
	 * space. */
	int (*files)(void *ctx, pid_t outer, const struct exec_image *im, uint16_t node, uint8_t **ret, size_t *ret_n, struct err *e);
	/* Are they the same here? 0, or -errno with the words why not. */
	int (*files_check)(void *ctx, const uint8_t *p, size_t n, struct err *e);
	/* Bookkeeping of the policy; may be NULL. placed: it runs on node. unplaced: the exec stayed here after all. ended: a process that was
	 * placed on node from here (or, node ourselves, came here) has ended, with what it used since. */
	void (*placed)(void *ctx, int32_t pid, uint16_t node);
	void (*unplaced)(void *ctx, int32_t pid, uint16_t node, int status, const char *why); /* status: what node answered, 0: it was not asked */
	void (*ended)(void *ctx, int32_t pid, uint16_t node, uint64_t wall_us, uint64_t cpu_us);
	/* The feature sets that go along with an image, and those that came with one whose body now runs here. May be NULL. */
	uint64_t (*features)(void *ctx, int32_t pid, pid_t outer);
	void (*arrived)(void *ctx, int32_t pid, pid_t outer, uint64_t features);
	/* The table of foreign and hidden pids changed (for /proc). kind: 0 gone, 1 hidden here (body on node). */
	void (*pid_changed)(void *ctx, int32_t pid, int kind, uint16_t node);
	/* Node's incarnation and whether it is up; for messages to nodes. */
	int (*node_up)(void *ctx, uint16_t node);
	uint32_t ghost_idle_ms; /* how long a ghost that nobody needs is kept; 0: 2 s */
};

/* On 0 the caller owns *ret. */
int space_new(const struct space_config *cfg, struct space **ret, struct err *e);
/* The space stays, with all that runs in it. No callback comes any more; the memory goes when the loop has closed the handles. The
 * links must not call handlers of s afterwards: close them first. */
void space_free(struct space *s);
/* Ends every process of the space, then as space_free. */
void space_wipe(struct space *s);

const struct space_ends *space_ends_get(const struct space *s);

/* Mounts the native procfs within the FUSE /proc (ends.fuse_fd >= 0), which waits for the /proc server: call it when procfs_server's
 * on_client says that one is there, each time until it was done once (then it is harmless). done runs once, later: 0 or the -errno of the
 * mount that failed; never if the server does not answer. -ENOENT: this space has no such /proc. */
int space_proc_finish(struct space *s, void (*done)(void *ctx, int status), void *ctx);

/* --- sessions of `pando run` --- */
struct space_run {
	struct exec_image image;    /* taken; pid, ppid, pgid, sid are filled in; n_fds entries with numbers */
	int *fds;                   /* owned, taken: image.n_fds descriptors in the order of image.fds */
	int tty;                    /* slave of the session's terminal, -1: none; taken */
	int tty_number;             /* a descriptor number of the command that is that terminal, -1: none */
	uint16_t node;              /* asked for; 0: the policy decides */
	void *ctx;
	void (*started)(void *ctx, int status, int32_t pid, const char *at); /* once; at: "exec", "cwd", "setup" when status < 0 */
	void (*changed)(void *ctx, int status, uint64_t utime_us, uint64_t stime_us, uint64_t maxrss_kb); /* wait status: stop, continue, end (last) */
};
/* On 0 the callbacks come later; *run was emptied. On failure nothing is taken. */
int space_run_start(struct space *s, struct space_run *run, struct err *e);
/* Signal to a session's command from its client. */
int space_run_signal(struct space *s, int32_t pid, int signo, int group);
/* The client has another context now (reattach). NULL callbacks: nobody listens. */
int space_run_attach(struct space *s, int32_t pid, void *ctx,
		     void (*changed)(void *ctx, int status, uint64_t utime_us, uint64_t stime_us, uint64_t maxrss_kb), int *ret_status);

/* --- cluster events --- */
void space_node_up(struct space *s, uint16_t node);
void space_node_dead(struct space *s, uint16_t node);

/* --- questions --- */
struct space_counts {
	uint32_t elsewhere, guests, sessions, ghosts;
};
void space_count(const struct space *s, struct space_counts *ret);

/* Calls fn for each number that is not what the kernel of this node shows: ghosts here (with the body's node), bodies here that
 * have a ghost elsewhere (hidden 0, node = home). */
void space_each(const struct space *s, void (*fn)(void *ctx, int32_t pid, int hidden, uint16_t node), void *ctx);

/* What this node knows of pid besides its kernel: 0 nothing; SPACE_GHOST: it runs on *ret_node; SPACE_GUEST: it runs here, *ret_node
 * holds its ghost; SPACE_ROOT: the root of a `pando run` session. */
enum space_kind { SPACE_NONE, SPACE_GHOST, SPACE_GUEST, SPACE_ROOT };
enum space_kind space_who(const struct space *s, int32_t pid, uint16_t *ret_node);

/* Why pid stays where it is: words into buf. 0, -ESRCH. */
int space_why(struct space *s, int32_t pid, char *buf, size_t size);
