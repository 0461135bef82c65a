/* Inner side of the space; used by src/space only. */
#pragma once

#include <uthash.h>

#include "kern/notify.h"
#include "kern/nspid.h"
#include "space/shared.h"
#include "space/space.h"
#include "stub/proto.h"

struct proc;
struct gget;
struct arrival;
struct placing;
struct tracee;

/* --- table.c: processes that this node knows more of than its kernel --- */
enum { PROC_QUEUE = 8 };

typedef void (*proc_done_fn)(void *ctx, struct proc *p, int64_t result);

struct command {
	struct stub_cmd cmd;
	proc_done_fn done;
	void *ctx;
};

struct proc {
	int32_t pid;
	struct prec *r;       /* in the shared table */
	pid_t outer;          /* 0: not known yet */
	struct command queue[PROC_QUEUE];
	unsigned n_queue;
	struct command current; /* op 0: none under way */
	int is_ready;         /* has asked for a command once */
	int is_settled;       /* a ghost that is where it belongs: can be a parent */
	struct gget *getting; /* being made */
	int has_ended;        /* a body whose parent here is to report its end */
	int is_idle;          /* was told to wait: must be woken for a command */
	unsigned n_children;  /* bodies here whose parent this ghost is */
	uint64_t idle_since_ms, since_ms;
	uint32_t suppress[65]; /* signals that come to this ghost by a group kill whose other half went to its body already */
	uint64_t suppress_ms;
	struct waiter *waiters; /* for is_settled */
	struct arrival *arrival;
	struct placing *placing; /* of a command that starts elsewhere, under way */
	struct session *session; /* PREC_SESSION */
	uint64_t unsent;         /* bit s-1: signal s came to this ghost while there was no link */
	uv_poll_t *end;       /* watch on pidfd */
	int pidfd;
	uint64_t placed_ns;
	UT_hash_handle hh;
};

struct waiter {
	void (*fn)(void *ctx, struct proc *p, int status);
	void *ctx;
	struct waiter *next;
};

/* The process with this number, or NULL. */
struct proc *proc_find(struct space *s, int32_t pid);
/* A new record; NULL when the table is full or out of memory. */
struct proc *proc_new(struct space *s, int32_t pid, enum prec_kind kind, uint16_t node);
/* Forgets it: pending commands and waiters end with -ESRCH. */
void proc_forget(struct space *s, struct proc *p);
/* Changes what it is, and tells /proc. */
void proc_become(struct space *s, struct proc *p, enum prec_kind kind, uint16_t node);
/* Queues a command and wakes the process if need be. -EBUSY when its queue is full. done may be NULL. */
int proc_command(struct space *s, struct proc *p, struct stub_cmd cmd, proc_done_fn done, void *ctx);
/* Makes an idle ghost ask for its next command. */
void proc_wake(struct space *s, struct proc *p);
/* Runs fn when the ghost is settled (now if it is), or with -errno when it is gone before. */
int proc_when_ready(struct space *s, struct proc *p, void (*fn)(void *ctx, struct proc *p, int status), void *ctx);
/* Watches the end of the process; table.c calls proc_ended (ghost.c) then. */
int proc_watch_end(struct space *s, struct proc *p);
/* Fills in outer (and returns it), or -ESRCH. */
pid_t proc_outer(struct space *s, struct proc *p);
/* It is settled: runs what waits for that. */
void proc_settle(struct proc *p);
/* Rebuilds the private side from the shared table after a restart. */
void table_reload(struct space *s);
/* Frees the private side; the shared table stays as it is. */
void table_end(struct space *s);

/* --- watch.c: listeners and the trapped calls --- */
struct watch {
	struct space *s;
	uint32_t index;
	int fd;
	uv_poll_t poll;
	int32_t sid;          /* session that installed the filter */
	struct arrival *any;  /* a child forked without a number is expected: it is to run here, */
	struct placing *any_placing; /* or to be a ghost */
};

struct trap {
	struct space *s;
	struct watch *w;
	struct jrec *j;       /* NULL: answered */
	struct seccomp_notif req;
	int32_t pid;          /* the caller's process in the space, 0: unknown */
};

int watch_add(struct space *s, int fd, int32_t sid, struct watch **ret, struct err *e);
void watch_free(struct watch *w, uv_close_cb cb);
void watch_reload(struct space *s);
void watch_end(struct space *s);
/* Answers; each frees the journal entry. A trap that is kept beyond its handler is copied with trap_keep. */
void trap_continue(struct trap *t);
void trap_return(struct trap *t, int64_t val, int error);
int trap_valid(const struct trap *t);

/* --- zyg.c: the zygote's socket --- */
typedef void (*zyg_done_fn)(void *ctx, const struct zyg_msg *m, int fd);
int zyg_start(struct space *s, struct err *e);
void zyg_end(struct space *s);
/* done runs once per answer: for ZYG_SESSION twice (ZYG_FORKED, ZYG_LISTENER with fd) in either order. */
int zyg_command(struct space *s, const struct zyg_cmd *c, const int *fds, size_t n_fds, unsigned n_answers, zyg_done_fn done, void *ctx);

/* --- trace.c: tasks that we hold by ptrace for a moment --- */
typedef void (*trace_fn)(void *ctx, struct tracee *t, int status);
struct tracee {
	struct space *s;
	pid_t tid;
	trace_fn fn;
	void *ctx;
	struct tracee *prev, *next;
};
int trace_seize(struct space *s, pid_t tid, long options, trace_fn fn, void *ctx, struct tracee **ret);
/* Lets it go from a stop, with signal (0: none). t is freed. */
void trace_detach(struct tracee *t, int signal);
/* Lets go a task that is not stopped: at its next stop, which is asked for. t belongs to trace.c afterwards. */
void trace_release(struct tracee *t);
void trace_forget(struct tracee *t);
int trace_start(struct space *s, struct err *e);
void trace_end(struct space *s);

/* --- ghost.c --- */
struct ghost_spec {
	int32_t pid, pgid, sid;
	uint16_t node;  /* where the real one is */
};
/* A ghost with this number in this session and group, found or made; fn runs once (maybe at once). */
int ghost_get(struct space *s, const struct ghost_spec *g, void (*fn)(void *ctx, struct proc *p, int status), void *ctx);
/* The answer to a process that asks for its next command. */
void ghost_next(struct trap *t, struct proc *p, int64_t result);
void ghost_signal(struct trap *t, struct proc *p);
void ghost_child(struct trap *t, struct proc *p);
/* Its body has ended with this wait status: so does it. */
void ghost_finish(struct space *s, struct proc *p, int status);
/* Whether there is a group with this number here that a process can join. */
int group_is_here(struct space *s, int32_t pgid);
/* The process has ended (its pidfd says so). */
void proc_ended(struct space *s, struct proc *p);
void ghost_start(struct space *s);
/* The body of p ended or changed; tell home. */
void body_report(struct space *s, struct proc *p);
void body_stopped(struct space *s, struct proc *p, int status);

/* --- arrive.c --- */
struct arrival;
void arrive_start(struct space *s);
void arrive_end(struct space *s);
/* Reports of the process that is being set up. */
int arrive_next(struct trap *t, struct arrival *a, struct stub_cmd *ret);
void arrive_fd(struct trap *t, struct arrival *a);
void arrive_failed(struct trap *t, struct arrival *a);
/* The execve of a process under set-up. */
void arrive_exec(struct trap *t, struct arrival *a);
void arrive_gone(struct space *s, struct arrival *a);
/* The process that a forked without a number is p. */
void arrive_bind(struct arrival *a, struct proc *p);
void arrive_node_down(struct space *s, uint16_t node);
/* A command of a `pando run` session: child of root, which is ready. */
struct arrive_local {
	struct exec_image image; /* taken */
	int *fds;                /* taken */
	int ctty;
	void *ctx;
	void (*done)(void *ctx, struct proc *p, int status, const char *at); /* p executes already when status is 0 */
};
/* On failure l is gone too and done does not come. */
int arrive_run(struct space *s, struct proc *root, struct watch *w, struct arrive_local *l, struct err *e);
/* The same in p, a ghost that root has forked for it: its pid is in the image. */
int arrive_ghost_run(struct space *s, struct proc *p, struct arrive_local *l, struct err *e);
void arrive_node_up(struct space *s, uint16_t node);

/* --- again.c --- */
/* The process of p, held by t at its exec event, becomes a ghost again; t is taken. */
void ghost_again(struct proc *p, struct tracee *t);

/* --- place.c --- */
void place_end(struct space *s);
void trap_exec(struct trap *t);
/* node, if something can be placed there just now, else our own: a node that has been silent for a second only makes callers wait. */
uint16_t place_usable(struct space *s, uint16_t node);
void place_node_dead(struct space *s, uint16_t node);
/* A command of a `pando run` session that shall start on node: root forks a ghost for it. If node does not take it, it runs here. As
 * arrive_run otherwise; done's p is a ghost then. */
int place_run(struct space *s, struct proc *root, struct watch *w, uint16_t node, struct arrive_local *l, struct err *e);
/* The process that root forked for it is p. */
void place_bind(struct placing *pl, struct proc *p);
/* The ghost of it has ended. */
void place_gone(struct space *s, struct placing *pl);
/* Whether pid is on its way to node: what node asks about it is answered by the placement. */
int place_is_under_way(struct space *s, int32_t pid, uint16_t node);

/* --- stat.c --- */
void trap_stat(struct trap *t);

/* --- signal.c --- */
void signal_start(struct space *s);
void trap_kill(struct trap *t);
/* A ghost got a signal: send it on to the body. */
void signal_forward(struct space *s, struct proc *p, int signo, int code, int32_t from, uint32_t uid, uint64_t value);

/* --- run.c --- */
struct session;
void session_child(struct space *s, struct proc *root, int32_t pid, int status, uint64_t utime, uint64_t stime, uint64_t maxrss);
/* The terminal that the root is to take (borrowed), -1: none. */
int session_tty(struct proc *root);
void session_ended(struct space *s, struct proc *root);
/* Finds the sessions of a predecessor again, after table_reload and watch_reload. */
void sessions_reload(struct space *s);
void session_free(struct session *se);

struct space {
	struct space_config cfg;
	uv_loop_t *loop;
	struct links *links;
	uint16_t self;
	struct space_ends ends;
	struct nspid ns;
	int ns_levels;
	struct shared *sh;
	int shared_fd;
	int zygote_bin;         /* O_RDONLY: becomes a ghost */
	uint32_t shared_hint, journal_hint;
	struct proc *procs;     /* hash by pid */
	struct watch *watches[SHARED_WATCHES];
	uint32_t watch_hint;
	uv_poll_t zyg_poll;
	struct zyg_wait *zyg_waits;
	uint32_t zyg_id;
	uv_signal_t sigchld;
	struct tracee *tracees;
	struct arrival *arrivals;
	struct placing *placings;
	int devpts_mount;       /* stat.c */
	uv_timer_t tick;
	unsigned n_handles;     /* being closed */
};
