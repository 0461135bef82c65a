/* Placement at exec, at the node where the call was trapped.
 *
 * Happy path: execve trapped -> the policy names a node -> image gathered -> caller SEIZEd (so that a signal cannot kill it in
 * between) -> shared descriptors exported -> MSG_EXEC_PLACE: the body is held at its exec event there -> the original is turned into
 * a ghost: the ghost program is installed by ADDFD, the call is answered with EINTR under PTRACE_INTERRUPT, and at the stop its
 * registers are set to execveat(that fd, "", ...), with our own traps suspended; not a byte is written into its memory -> exec event
 * of the ghost -> MSG_EXEC_GO -> the body runs.
 * Failures: anything before the answer: the call goes on here as if nothing had been; what was exported is taken back. The ghost's exec
 * fails: MSG_EXEC_ABORT, and the original call is executed again, here. The caller is killed in between: MSG_EXEC_ABORT. */
#include "space/internal.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utlist.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sm.h"
#include "kern/ptrace.h"
#include "kern/rmem.h"
#include "space/gather.h"
#include "wire/msg.h"

enum { PLACE_TIMEOUT_MS = 5000, SYSCALL_INSN = 2, GHOST_FD_MIN = 1000 };

enum place_state { PL_EXPORT, PL_ASKED, PL_STOPPING, PL_ENTERING, PL_EXECING, PL_DONE };

static const struct sm_state place_states[] = {
	[PL_EXPORT] = { "export", SM_TO(PL_ASKED) | SM_TO(PL_DONE) },
	[PL_ASKED] = { "asked", SM_TO(PL_STOPPING) | SM_TO(PL_DONE) },
	[PL_STOPPING] = { "stopping", SM_TO(PL_ENTERING) | SM_TO(PL_DONE) },
	[PL_ENTERING] = { "entering", SM_TO(PL_EXECING) | SM_TO(PL_DONE) },
	[PL_EXECING] = { "execing", SM_TO(PL_DONE) },
	[PL_DONE] = { "done", 0 },
};

struct placing {
	struct space *s;
	unsigned state;
	uint16_t node;
	uint32_t watch;
	struct trap trap;
	struct gather g;
	struct tracee *tracee;
	unsigned n_left;     /* exports under way */
	int failed;
	int status;          /* the target's answer */
	int stop;            /* SIGSTOP, should it have come meanwhile: it is for the body */
	int is_asked;        /* the call was sent and is not answered yet */
	int is_dead;         /* the caller ended meanwhile */
	int is_lost;         /* the node has died meanwhile */
	int ghost_fd;        /* number in the caller */
	struct arrive_local *run; /* owned: a command without a process of its own that waits; the ghost is there already */
	struct user_regs_struct regs; /* of the caller at its stop */
	uint64_t start_ns;
	struct placing *prev, *next;
};

static void pid_send(struct placing *pl, uint16_t type)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	wr_i32(&w, pl->g.image.pid);
	int rc = links_send(pl->s->links, pl->node, type, w.p, w.n);
	if (rc < 0)
		log_warn("pid %d: node %u cannot be told (%u): %s", pl->g.image.pid, pl->node, type, strerror(-rc));
}

static void placing_free(struct placing *pl)
{
	struct arrive_local *l = pl->run;
	for (uint32_t i = 0; l && l->fds && i < pl->g.image.n_fds; i++)
		(void)close_fd(l->fds[i]);
	if (l)
		free(l->fds);
	free(l);
	gather_fini(&pl->g);
	DL_DELETE(pl->s->placings, pl);
	free(pl);
}

static void exports_undo(struct placing *pl)
{
	struct space *s = pl->s;
	for (uint32_t i = 0; i < pl->g.image.n_fds; i++) {
		const struct exec_fd *f = &pl->g.image.fds[i];
		if (f->kind == EXEC_FD_DELEGATED && f->id && !f->same_as)
			(void)s->cfg.streams.unexport(s->cfg.streams.ctx, f->node, f->id, pl->node);
	}
}

/* The command of pl, which has not begun, runs in its ghost after all; or, dead, not at all. */
static void run_local(struct placing *pl)
{
	struct space *s = pl->s;
	struct arrive_local *l = take_ptr(pl->run);
	struct proc *p = proc_find(s, pl->g.image.pid);
	struct err e = { 0 };
	int status = -ESRCH;

	if (p && !pl->is_dead) {
		p->placing = NULL;
		l->image = pl->g.image;
		pl->g.image = (struct exec_image){ .pid = p->pid };
		free(take_ptr(pl->g.fds)); /* closed when they were exported */
		for (uint32_t i = 0; i < l->image.n_fds; i++)
			l->image.fds[i] = (struct exec_fd){ .number = l->image.fds[i].number, .kind = EXEC_FD_DELEGATED, .path = l->image.fds[i].path };
		status = arrive_ghost_run(s, p, l, &e);
	} else {
		for (uint32_t i = 0; i < pl->g.image.n_fds; i++)
			(void)close_fd(l->fds[i]);
		free(l->fds);
	}
	if (status < 0)
		l->done(l->ctx, NULL, status, "setup");
	free(l);
	sm_move(place_states, &pl->state, PL_DONE, "placing", (uint64_t)pl->g.image.pid);
	if (!pl->n_left && !pl->is_asked)
		placing_free(pl);
}

/* The call goes on here. */
static void place_local(struct placing *pl, const char *why)
{
	if (pl->s->cfg.unplaced)
		pl->s->cfg.unplaced(pl->s->cfg.ctx, pl->trap.pid, pl->node, pl->status, why);
	log_debug("pid %d: %s to node %u: %s, runs here", pl->trap.pid, pl->g.image.path ? pl->g.image.path : "exec", pl->node, why);
	exports_undo(pl);
	if (pl->run) {
		run_local(pl);
		return;
	}
	struct tracee *t = take_ptr(pl->tracee);
	if (t)
		trace_release(t); /* asks for a stop, which comes once the call is answered */
	if (pl->trap.j)
		trap_continue(&pl->trap);
	sm_move(place_states, &pl->state, PL_DONE, "placing", (uint64_t)pl->trap.pid);
	if (!pl->n_left && !pl->is_asked)
		placing_free(pl);
}

/* Callbacks that come after the end: the last one frees. */
static int placing_is_over(struct placing *pl)
{
	if (pl->state != PL_DONE)
		return 0;
	if (!pl->n_left && !pl->is_asked)
		placing_free(pl);
	return 1;
}

/* --- the original becomes a ghost --- */

static void ghost_begin(struct placing *pl)
{
	struct trap *t = &pl->trap;
	struct space *s = pl->s;

	sm_move(place_states, &pl->state, PL_STOPPING, "placing", (uint64_t)pl->trap.pid);
	if (ptrace(PTRACE_INTERRUPT, pl->tracee->tid, 0, 0) < 0) {
		pid_send(pl, MSG_EXEC_ABORT);
		place_local(pl, "cannot be stopped");
		return;
	}
	pl->ghost_fd = notify_addfd(t->w->fd, t->req.id, s->zygote_bin, -1, 1, 0);
	if (pl->ghost_fd < 0) {
		pid_send(pl, MSG_EXEC_ABORT);
		place_local(pl, "cannot take the ghost's program");
		return;
	}
	trap_return(t, 0, EINTR); /* seen by nobody: the stop comes before the program goes on */
}

/* Registers of execveat(ghost_fd, "", argv, NULL, AT_EMPTY_PATH): the empty string is the end of the original path. */
static int ghost_regs(struct placing *pl)
{
	struct user_regs_struct r;
	struct iovec iov = { &r, sizeof r };
	if (ptrace(PTRACE_GETREGSET, pl->tracee->tid, NT_PRSTATUS, &iov) < 0)
		return -errno;
	pl->regs = r;
	const struct seccomp_data *d = &pl->trap.req.data;
	int at = d->nr == SYS_execveat;
	uint64_t path = d->args[at ? 1 : 0], argv = d->args[at ? 2 : 1];
	r.rip -= SYSCALL_INSN;
	r.rax = SYS_execveat;
	r.orig_rax = (unsigned long long)-1;
	r.rdi = (unsigned long long)pl->ghost_fd;
	r.rsi = path + strlen(pl->g.image.path);
	r.rdx = argv;
	r.r10 = 0;
	r.r8 = AT_EMPTY_PATH;
	uint64_t all = ~0ull;
	if (ptrace((enum __ptrace_request)PTRACE_SETSIGMASK, pl->tracee->tid, sizeof all, &all) < 0)
		return -errno;
	return ptrace(PTRACE_SETREGSET, pl->tracee->tid, NT_PRSTATUS, &iov) < 0 ? -errno : 0;
}

/* The ghost could not be executed: put the original call back and let it trap again; it will be found unplaceable this time. */
static void ghost_undo(struct placing *pl, const char *why)
{
	struct user_regs_struct r = pl->regs;
	struct iovec iov = { &r, sizeof r };
	r.rip -= SYSCALL_INSN;
	r.rax = (unsigned long long)pl->trap.req.data.nr;
	r.orig_rax = (unsigned long long)-1;
	uint64_t mask = pl->g.image.sig_blocked;
	(void)ptrace((enum __ptrace_request)PTRACE_SETSIGMASK, pl->tracee->tid, sizeof mask, &mask);
	(void)ptrace(PTRACE_SETREGSET, pl->tracee->tid, NT_PRSTATUS, &iov);
	log_warn("pid %d: cannot become a ghost (%s), runs here", pl->g.image.pid, why);
	pid_send(pl, MSG_EXEC_ABORT);
	exports_undo(pl);
	trace_detach(take_ptr(pl->tracee), pl->stop);
	sm_move(place_states, &pl->state, PL_DONE, "placing", (uint64_t)pl->trap.pid);
	placing_free(pl);
}

/* The real parent's record: which nodes have a ghost of it. */
static void parent_note(struct space *s, int32_t ppid, uint16_t node)
{
	struct proc *p = proc_find(s, ppid);
	if (!p) {
		p = proc_new(s, ppid, PREC_LOCAL, s->self);
		if (!p || proc_watch_end(s, p) < 0) { /* it has ended meanwhile */
			_cleanup_(wr_fini) struct wr w = { 0 };
			wr_i32(&w, ppid);
			if (wr_done(&w) == 0)
				(void)links_send(s->links, node, MSG_PROC_PARENT_GONE, w.p, w.n);
			if (p)
				proc_forget(s, p);
			return;
		}
	}
	p->r->ghosts[node / 64] |= 1ull << (node % 64);
}

static void ghost_done(struct placing *pl)
{
	struct space *s = pl->s;
	const struct exec_image *im = &pl->g.image;
	struct proc *p = proc_find(s, im->pid);
	if (!p)
		p = proc_new(s, im->pid, PREC_GHOST, pl->node);
	else
		proc_become(s, p, PREC_GHOST, pl->node);
	if (p) {
		p->outer = pl->tracee->tid;
		p->r->flags = PREC_HOME;
		p->r->ppid = im->ppid;
		p->r->pgid = im->pgid;
		p->r->sid = im->sid;
		p->r->watch = pl->watch;
		p->r->uid = im->uid[0];
		p->placed_ns = pl->start_ns;
		p->is_ready = 0;
		p->is_idle = 0;
	} else {
		log_error("process table is full: pid %d has a ghost that nobody knows", im->pid);
	}
	if (p)
		(void)proc_watch_end(s, p); /* from now on: it may be killed before it asks for its first command */
	if (p && pl->is_lost)
		ghost_finish(s, p, SIGKILL);
	parent_note(s, im->ppid, pl->node);
	trace_detach(take_ptr(pl->tracee), 0);
	pid_send(pl, MSG_EXEC_GO);
	if (p && pl->stop)
		signal_forward(s, p, pl->stop, SI_USER, 0, 0, 0);
	if (s->cfg.placed)
		s->cfg.placed(s->cfg.ctx, im->pid, pl->node);
	log_debug("pid %d: %s runs on node %u after %lu us", im->pid, im->path, pl->node,
		  (unsigned long)((clock_ns() - pl->start_ns) / 1000));
	sm_move(place_states, &pl->state, PL_DONE, "placing", (uint64_t)im->pid);
	placing_free(pl);
}

/* The ghost is there, only its record changes. */
static void run_done(struct placing *pl)
{
	struct space *s = pl->s;
	struct arrive_local *l = pl->run;
	const struct exec_image *im = &pl->g.image;
	struct proc *p = proc_find(s, im->pid);
	p->placing = NULL;
	p->placed_ns = pl->start_ns;
	parent_note(s, im->ppid, pl->node);
	pid_send(pl, MSG_EXEC_GO);
	if (s->cfg.placed)
		s->cfg.placed(s->cfg.ctx, im->pid, pl->node);
	l->done(l->ctx, p, 0, NULL);
	sm_move(place_states, &pl->state, PL_DONE, "placing", (uint64_t)im->pid);
	placing_free(pl);
}

static void caller_died(struct placing *pl)
{
	trace_forget(take_ptr(pl->tracee));
	if (pl->trap.j)
		trap_continue(&pl->trap); /* frees the journal entry; nobody waits */
	if (pl->state >= PL_STOPPING && pl->state != PL_DONE)
		pid_send(pl, MSG_EXEC_ABORT);
	if (pl->state == PL_ASKED) {
		pl->is_dead = 1; /* the answer is under way: abort when it comes */
		return;
	}
	exports_undo(pl);
	sm_move(place_states, &pl->state, PL_DONE, "placing", (uint64_t)pl->trap.pid);
	if (!pl->n_left && !pl->is_asked)
		placing_free(pl);
}

static void place_stop(void *ctx, struct tracee *t, int status)
{
	struct placing *pl = ctx;
	if (!WIFSTOPPED(status)) {
		caller_died(pl);
		return;
	}
	int event = status >> 16, sig = WSTOPSIG(status);
	int rc = 0;
	if (event == 0 && sig == SIGSTOP && pl->state != PL_DONE)
		pl->stop = SIGSTOP; /* all others are blocked by now and wait for the ghost */
	switch (pl->state) {
	case PL_STOPPING:
		if (event != PTRACE_EVENT_STOP) { /* cannot come before the trap stop; let it be */
			(void)ptrace(PTRACE_CONT, t->tid, 0, 0);
			return;
		}
		sm_move(place_states, &pl->state, PL_ENTERING, "placing", (uint64_t)pl->trap.pid);
		rc = ghost_regs(pl);
		if (rc < 0 || ptrace(PTRACE_SYSCALL, t->tid, 0, 0) < 0)
			ghost_undo(pl, "registers");
		return;
	case PL_ENTERING:
		if (sig != (SIGTRAP | 0x80)) {
			(void)ptrace(PTRACE_SYSCALL, t->tid, 0, 0);
			return;
		}
		sm_move(place_states, &pl->state, PL_EXECING, "placing", (uint64_t)pl->trap.pid);
		(void)ptrace(PTRACE_SYSCALL, t->tid, 0, 0);
		return;
	case PL_EXECING:
		if (event == PTRACE_EVENT_EXEC)
			ghost_done(pl);
		else if (sig == (SIGTRAP | 0x80))
			ghost_undo(pl, "execveat");
		else
			(void)ptrace(PTRACE_SYSCALL, t->tid, 0, 0);
		return;
	default:
		(void)ptrace(PTRACE_CONT, t->tid, 0, event == 0 ? sig : 0);
	}
}

/* --- asking the target --- */

static void place_answered(void *ctx, int status, const uint8_t *p, size_t n)
{
	struct placing *pl = ctx;
	pl->is_asked = 0;
	if (placing_is_over(pl))
		return;
	pl->status = status;
	if (status < 0) {
		char words[96];
		(void)snprintf(words, sizeof words, "%s (%.*s)", strerror(-status), (int)(n < 60 ? n : 60), (const char *)p);
		if (pl->is_dead && !pl->run) {
			exports_undo(pl);
			sm_move(place_states, &pl->state, PL_DONE, "placing", (uint64_t)pl->trap.pid);
			placing_free(pl);
			return;
		}
		if (status == -ETIMEDOUT || status == -ECONNRESET)
			pid_send(pl, MSG_EXEC_ABORT); /* should it be held after all */
		place_local(pl, words);
		return;
	}
	if (pl->is_dead) {
		pid_send(pl, MSG_EXEC_ABORT);
		if (pl->run) {
			place_local(pl, "it was killed");
			return;
		}
		exports_undo(pl);
		sm_move(place_states, &pl->state, PL_DONE, "placing", (uint64_t)pl->trap.pid);
		placing_free(pl);
		return;
	}
	if (pl->run)
		run_done(pl);
	else
		ghost_begin(pl);
}

static void place_ask(struct placing *pl)
{
	struct space *s = pl->s;
	_cleanup_(wr_fini) struct wr w = { 0 };

	exec_image_encode(&pl->g.image, &w);
	int rc = wr_done(&w);
	sm_move(place_states, &pl->state, PL_ASKED, "placing", (uint64_t)pl->trap.pid);
	if (rc == 0) {
		pl->is_asked = 1;
		rc = links_call(s->links, pl->node, MSG_EXEC_PLACE, w.p, w.n, PLACE_TIMEOUT_MS, place_answered, pl);
	}
	if (rc < 0) {
		pl->is_asked = 0;
		place_local(pl, strerror(-rc));
	}
}

static void exports_done(struct placing *pl)
{
	if (pl->n_left)
		return;
	if (pl->failed)
		place_local(pl, "a descriptor cannot be shared");
	else
		place_ask(pl);
}

struct export {
	struct placing *pl;
	uint32_t i;
};

static void export_done(void *arg, int status, uint16_t at, uint64_t id, const uint8_t key[16])
{
	struct export *ex = arg;
	struct placing *pl = ex->pl;
	struct exec_fd *f = &pl->g.image.fds[ex->i];
	free(ex);
	pl->n_left--;
	if (status < 0) {
		pl->failed = status;
	} else {
		f->node = at;
		f->id = id;
		memcpy(f->key, key, sizeof f->key);
	}
	if (pl->state == PL_DONE && status == 0) /* too late: it runs here already */
		(void)pl->s->cfg.streams.unexport(pl->s->cfg.streams.ctx, at, id, pl->node);
	if (!placing_is_over(pl))
		exports_done(pl);
}

static void exports_start(struct placing *pl)
{
	struct space *s = pl->s;
	pl->n_left = 1;
	for (uint32_t i = 0; i < pl->g.image.n_fds && !pl->failed; i++) {
		if (pl->g.fds[i].fd < 0)
			continue;
		struct export *ex = malloc(sizeof *ex);
		if (!ex) {
			pl->failed = -ENOMEM;
			break;
		}
		*ex = (struct export){ pl, i };
		pl->n_left++;
		int rc = s->cfg.streams.export_fd(s->cfg.streams.ctx, pl->g.fds[i].fd, pl->node, export_done, ex);
		if (rc < 0) {
			free(ex);
			pl->n_left--;
			pl->failed = rc;
		}
	}
	for (uint32_t i = 0; i < pl->g.image.n_fds; i++)
		pl->g.fds[i].fd = close_fd(pl->g.fds[i].fd); /* the agent has its own dups */
	pl->n_left--;
	exports_done(pl);
}

/* --- the trap --- */

/* Whether the program is there at all: a PATH search makes up to ten failing calls per command, which must cost a stat each and
 * no message. Permissions are the kernel's business, here or there. */
static int program_is_there(struct trap *t, char path[static EXEC_PATH_MAX])
{
	const struct seccomp_data *d = &t->req.data;
	int at = d->nr == SYS_execveat;
	int n = rmem_str((pid_t)t->req.pid, (struct raddr){ d->args[at ? 1 : 0] }, path, EXEC_PATH_MAX);
	if (n <= 0)
		return 0;
	char full[EXEC_PATH_MAX + 64];
	(void)snprintf(full, sizeof full, "/proc/%u/%s%s", t->req.pid, path[0] == '/' ? "root" : "cwd/", path);
	return access(full, F_OK) == 0; /* absolute links within resolve in our root, which is the same tree but for /proc and /dev */
}

uint16_t place_usable(struct space *s, uint16_t node)
{
	if (node == 0 || node > NODE_MAX || node == s->self || !links_is_up(s->links, node))
		return s->self;
	return s->cfg.node_up && !s->cfg.node_up(s->cfg.ctx, node) ? s->self : node;
}

static uint16_t node_choose(struct trap *t, const char *path)
{
	struct space *s = t->s;
	struct space_place q = { .path = path, .pid = t->pid, .outer = (pid_t)t->req.pid, .sid = t->w->sid };
	return place_usable(s, s->cfg.place(s->cfg.ctx, &q));
}

static void place_begin(struct trap *t, uint16_t node)
{
	struct space *s = t->s;
	struct err e = { 0 };
	struct placing *pl = calloc(1, sizeof *pl);
	if (!pl) {
		trap_continue(t);
		return;
	}
	pl->s = s;
	pl->node = node;
	pl->trap = *t;
	pl->watch = t->w->index;
	pl->start_ns = clock_ns();
	DL_APPEND(s->placings, pl);

	int rc = gather_exec(t, &pl->g, &e);
	if (rc == 0)
		rc = s->cfg.files(s->cfg.ctx, (pid_t)t->req.pid, &pl->g.image, node, &pl->g.image.files, &pl->g.image.files_n, &e);
	if (rc == 0) {
		rc = trace_seize(s, (pid_t)t->req.pid, PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP, place_stop, pl,
				 &pl->tracee);
		if (rc < 0)
			(void)err_set(&e, rc, "it cannot be held: %s", strerror(-rc));
	}
	if (rc == 0 && trap_valid(t) < 0)
		rc = err_set(&e, -ENOENT, "it is gone");
	if (rc < 0) {
		place_local(pl, e.text);
		return;
	}
	exports_start(pl);
}

void trap_exec(struct trap *t)
{
	struct space *s = t->s;
	char path[EXEC_PATH_MAX];
	struct proc *p = t->pid ? proc_find(s, t->pid) : NULL;

	if (p && p->arrival) {
		arrive_exec(t, p->arrival);
		return;
	}
	if (!t->pid || (p && p->r->kind != PREC_LOCAL) || !program_is_there(t, path)) {
		trap_continue(t);
		return;
	}
	uint16_t node = node_choose(t, path);
	if (node == s->self)
		trap_continue(t);
	else
		place_begin(t, node);
}

void place_node_dead(struct space *s, uint16_t node)
{
	/* Calls under way end by themselves (links: -ECONNRESET); what is beyond them ends like any body there. */
	struct placing *pl;
	DL_FOREACH(s->placings, pl)
		if (pl->node == node)
			pl->is_lost = 1;
}

int place_is_under_way(struct space *s, int32_t pid, uint16_t node)
{
	struct placing *pl;
	DL_FOREACH(s->placings, pl)
		if (pl->g.image.pid == pid && pl->node == node && pl->state >= PL_STOPPING && pl->state != PL_DONE)
			return 1;
	return 0;
}

/* --- a command of `pando run` that starts on another node --- */

void place_gone(struct space *s, struct placing *pl)
{
	(void)s;
	pl->is_dead = 1; /* what is under way comes back and finds it so */
}

static void run_grouped(void *ctx, struct proc *p, int64_t result)
{
	struct space *s = ctx;
	(void)s;
	(void)result;
	if (p)
		proc_settle(p);
}

void place_bind(struct placing *pl, struct proc *p)
{
	struct space *s = pl->s;
	struct exec_image *im = &pl->g.image;
	struct err e = { 0 };

	im->pid = im->pgid = p->pid;
	pl->trap.pid = p->pid;
	p->placing = pl;
	proc_become(s, p, PREC_GHOST, pl->node);
	p->r->flags = PREC_HOME;
	p->r->ppid = im->ppid;
	p->r->pgid = p->pid;
	p->r->sid = im->sid;
	p->r->uid = im->uid[0];
	int rc = proc_command(s, p, (struct stub_cmd){ STUB_SETPGID, 0, 0 }, run_grouped, s);
	if (rc < 0)
		(void)err_set(&e, rc, "its group cannot be made");
	if (rc == 0)
		rc = gather_own_fds(&pl->g, pl->run->fds, &e);
	if (rc == 0)
		rc = s->cfg.files(s->cfg.ctx, proc_outer(s, p), im, pl->node, &im->files, &im->files_n, &e);
	if (rc < 0)
		place_local(pl, e.text);
	else
		exports_start(pl);
}

int place_run(struct space *s, struct proc *root, struct watch *w, uint16_t node, struct arrive_local *l, struct err *e)
{
	struct placing *pl = calloc(1, sizeof *pl);
	struct arrive_local *run = malloc(sizeof *run);
	int rc = pl && run ? 0 : -ENOMEM;
	if (rc == 0)
		rc = proc_command(s, root, (struct stub_cmd){ STUB_FORK, 0, 0 }, NULL, NULL);
	if (rc < 0) {
		for (uint32_t i = 0; i < l->image.n_fds; i++)
			(void)close_fd(l->fds[i]);
		free(l->fds);
		exec_image_fini(&l->image);
		free(pl);
		free(run);
		return err_set(e, rc, "session %d: cannot fork", root->pid);
	}
	*run = *l;
	run->image = (struct exec_image){ 0 };
	pl->s = s;
	pl->node = node;
	pl->run = run;
	pl->watch = w->index;
	pl->start_ns = clock_ns();
	pl->g.image = l->image;
	struct exec_image *im = &pl->g.image;
	im->home = s->self;
	im->ppid = im->sid = im->parent_pgid = im->parent_sid = root->pid;
	im->leads_group = im->parent_leads_group = 1;
	DL_APPEND(s->placings, pl);
	w->any_placing = pl;
	return 0;
}

void place_end(struct space *s)
{
	struct placing *pl, *tmp;
	DL_FOREACH_SAFE(s->placings, pl, tmp)
		placing_free(pl);
}
