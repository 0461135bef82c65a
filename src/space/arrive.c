/* Bodies that arrive: a process with the given number is forked by its parent's ghost, set up from the image, executes, and is
 * held at its exec event until its origin says go.
 *
 * Happy path: MSG_EXEC_PLACE -> files are the same -> descriptors imported or reopened -> parent's ghost there -> forked (or the ghost
 * of the process itself, when it comes home) -> asks for its image and descriptors -> execve -> exec event: answer 0, HELD ->
 * MSG_EXEC_GO: it runs.
 * Failures: any step: the answer is an error, what was made is killed or stays a ghost, and the origin executes the call itself. Origin's link down
 * while HELD: the body stays held until the link is back (its go comes again) or the origin is declared dead (killed). This pandod
 * dies: PTRACE_O_EXITKILL kills what is not let go. */
#include "space/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utlist.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sm.h"
#include "wire/msg.h"

enum arrive_state { AR_IMPORT, AR_PARENT, AR_FORK, AR_SETUP, AR_EXEC, AR_HELD, AR_DONE };

static const struct sm_state arrive_states[] = {
	[AR_IMPORT] = { "import", SM_TO(AR_PARENT) | SM_TO(AR_DONE) },
	[AR_PARENT] = { "parent", SM_TO(AR_FORK) | SM_TO(AR_DONE) },
	[AR_FORK] = { "fork", SM_TO(AR_SETUP) | SM_TO(AR_DONE) },
	[AR_SETUP] = { "setup", SM_TO(AR_EXEC) | SM_TO(AR_DONE) },
	[AR_EXEC] = { "exec", SM_TO(AR_HELD) | SM_TO(AR_DONE) },
	[AR_HELD] = { "held", SM_TO(AR_DONE) },
	[AR_DONE] = { "done", 0 },
};

struct arrival {
	struct space *s;
	unsigned state;
	uint16_t from;
	struct links_call_req *req; /* to be answered, or NULL */
	struct exec_image image;
	int *fds;                   /* owned: image.n_fds, -1 where not there yet */
	unsigned n_left;            /* imports under way */
	int failed;                 /* first failure of an import */
	int body_fd;                /* owned */
	uint32_t body_size;
	int ctty;
	struct proc *p;             /* from AR_FORK on */
	struct tracee *tracee;
	int comes_home;             /* the ghost of the process itself becomes the body */
	void *ctx;                  /* arrive_run */
	void (*done)(void *ctx, struct proc *p, int status, const char *at);
	struct arrival *prev, *next;
};

static void arrival_free(struct arrival *a)
{
	for (uint32_t i = 0; a->fds && i < a->image.n_fds; i++)
		(void)close_fd(a->fds[i]);
	free(a->fds);
	(void)close_fd(a->body_fd);
	exec_image_fini(&a->image);
	DL_DELETE(a->s->arrivals, a);
	free(a);
}

/* Ends a: the origin (or the run) gets status; the process is disposed of. */
static void arrive_fail(struct arrival *a, int status, const char *at)
{
	struct space *s = a->s;
	struct proc *p = a->p;
	int has_executed = a->state == AR_HELD;

	log_debug("arrival of pid %d: %s: %s", a->image.pid, at, strerror(-status));
	sm_move(arrive_states, &a->state, AR_DONE, "arrival", (uint64_t)a->image.pid);
	if (a->req)
		links_answer(a->req, status, at, strlen(at));
	if (p) {
		p->arrival = NULL;
		struct tracee *t = take_ptr(a->tracee);
		if (t && has_executed && a->comes_home && !a->done)
			ghost_again(p, t);
		else if (t)
			trace_release(t);
		if (!a->comes_home || a->done) {
			pid_t outer = proc_outer(s, p);
			if (outer > 0)
				(void)kill(outer, SIGKILL);
			if (p->r->kind == PREC_BODY) {
				struct proc *parent = proc_find(s, p->r->ppid);
				if (parent && parent->n_children)
					parent->n_children--;
			}
			if (a->done)
				a->done(a->ctx, NULL, status, at);
			proc_forget(s, p);
		}
	} else if (a->done) {
		a->done(a->ctx, NULL, status, at);
	}
	arrival_free(a);
}

/* --- descriptors --- */

/* Opens path as the processes of the space see it. */
static int space_open(const struct space *s, const char *path, int flags)
{
	char root[64];
	(void)snprintf(root, sizeof root, "/proc/%d/root", s->ends.init);
	_cleanup_(close_p) int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	struct open_how how = { .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOCTTY), .resolve = RESOLVE_IN_ROOT };
	int fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
	return fd < 0 ? -errno : fd;
}

static int fd_reopen(const struct space *s, const struct exec_fd *f, int *ret)
{
	int flags = (int)(f->flags & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECTORY | O_DSYNC | O_NOATIME));
	_cleanup_(close_p) int fd = space_open(s, f->path, flags);
	if (fd < 0)
		return fd;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISCHR(st.st_mode) ? (uint64_t)st.st_rdev != f->ino : (uint64_t)st.st_ino != f->ino)
		return -ESTALE;
	if (f->offset && lseek(fd, (off_t)f->offset, SEEK_SET) < 0)
		return -errno;
	*ret = take_fd(&fd);
	return 0;
}

struct import {
	struct arrival *a;
	uint32_t i;
};

static void arrive_parent(struct arrival *a);

static void imports_done(struct arrival *a)
{
	if (a->n_left)
		return;
	for (uint32_t i = 0; !a->failed && i < a->image.n_fds; i++) {
		const struct exec_fd *f = &a->image.fds[i];
		if (!f->same_as)
			continue;
		for (uint32_t k = 0; k < i && a->fds[i] < 0; k++)
			if (a->image.fds[k].number == f->alias && a->fds[k] >= 0)
				a->fds[i] = fcntl(a->fds[k], F_DUPFD_CLOEXEC, 3);
		if (a->fds[i] < 0)
			a->failed = -EBADMSG;
	}
	if (a->failed)
		arrive_fail(a, a->failed, "fd");
	else
		arrive_parent(a);
}

static void import_done(void *arg, int status, int fd)
{
	struct import *im = arg;
	struct arrival *a = im->a;
	a->n_left--;
	if (status < 0) {
		if (!a->failed)
			a->failed = status;
	} else {
		a->fds[im->i] = fd;
	}
	free(im);
	if (a->state == AR_IMPORT)
		imports_done(a);
}

static void imports_start(struct arrival *a)
{
	struct space *s = a->s;
	a->n_left = 1; /* keeps imports_done from running before all are started */
	for (uint32_t i = 0; i < a->image.n_fds && !a->failed; i++) {
		const struct exec_fd *f = &a->image.fds[i];
		if (f->same_as || a->fds[i] >= 0)
			continue;
		if (f->kind == EXEC_FD_REOPEN) {
			a->failed = fd_reopen(s, f, &a->fds[i]);
		} else if (f->kind == EXEC_FD_DELEGATED) {
			struct import *im = malloc(sizeof *im);
			if (!im) {
				a->failed = -ENOMEM;
				break;
			}
			*im = (struct import){ a, i };
			a->n_left++;
			int rc = s->cfg.streams.import_fd(s->cfg.streams.ctx, f->node, f->id, f->key, f->flags, import_done, im);
			if (rc < 0) {
				free(im);
				a->n_left--;
				a->failed = rc;
			}
		} else {
			a->failed = -EOPNOTSUPP;
		}
	}
	a->n_left--;
	imports_done(a);
}

/* --- the process --- */

static void fork_done(void *ctx, struct proc *parent, int64_t result)
{
	struct arrival *a = ctx;
	(void)parent;
	if (result < 0 && a->state == AR_FORK)
		arrive_fail(a, (int)result, "fork");
}

/* fork_done's arrival may be gone when the parent reports: it is looked up again. */
struct fork_ctx {
	struct space *s;
	int32_t pid;
};

static void fork_reported(void *ctx, struct proc *parent, int64_t result)
{
	struct fork_ctx *f = ctx;
	struct proc *p = proc_find(f->s, f->pid);
	if (p && p->arrival && result < 0)
		fork_done(p->arrival, parent, result);
	else if (p && p->arrival && proc_watch_end(f->s, p) == -ESRCH)
		arrive_gone(f->s, p->arrival);
	free(f);
}

static void arrive_fork(struct arrival *a, struct proc *parent)
{
	struct space *s = a->s;
	sm_move(arrive_states, &a->state, AR_FORK, "arrival", (uint64_t)a->image.pid);
	if (proc_find(s, a->image.pid)) {
		arrive_fail(a, -EEXIST, "pid");
		return;
	}
	struct proc *p = proc_new(s, a->image.pid, PREC_BODY, a->image.home);
	struct fork_ctx *f = malloc(sizeof *f);
	if (!p || !f) {
		if (p)
			proc_forget(s, p);
		free(f);
		arrive_fail(a, -ENOMEM, "fork");
		return;
	}
	*f = (struct fork_ctx){ s, p->pid };
	a->p = p;
	p->arrival = a;
	p->r->ppid = a->image.ppid;
	p->r->pgid = a->image.pgid;
	p->r->sid = a->image.sid;
	p->r->watch = parent->r->watch;
	p->r->uid = a->image.uid[0];
	p->r->features = a->image.features;
	p->r->flags |= PREC_HELD;
	parent->n_children++;
	int rc = proc_command(s, parent, (struct stub_cmd){ STUB_FORK, p->pid, 0 }, fork_reported, f);
	if (rc < 0) {
		free(f);
		arrive_fail(a, rc, "fork");
	}
}

static void leader_there(void *ctx, struct proc *leader, int status)
{
	struct arrival *a = ctx;
	(void)leader;
	struct proc *parent = proc_find(a->s, a->image.ppid);
	if (status == 0)
		status = a->failed;
	if (status < 0 || !parent)
		arrive_fail(a, status < 0 ? status : -ESRCH, "group");
	else
		arrive_fork(a, parent);
}

static void parent_there(void *ctx, struct proc *parent, int status)
{
	struct arrival *a = ctx;
	const struct exec_image *im = &a->image;
	if (status == 0)
		status = a->failed;
	if (status < 0) {
		arrive_fail(a, status, "parent");
		return;
	}
	if (im->leads_group || im->pgid == im->parent_pgid || im->pgid == im->sid || group_is_here(a->s, im->pgid)) {
		arrive_fork(a, parent);
		return;
	}
	struct ghost_spec leader = { .pid = im->pgid, .pgid = im->pgid, .sid = im->sid, .node = im->home };
	int rc = ghost_get(a->s, &leader, leader_there, a);
	if (rc < 0)
		arrive_fail(a, rc, "group");
}

static void arrive_parent(struct arrival *a)
{
	const struct exec_image *im = &a->image;
	struct space *s = a->s;
	sm_move(arrive_states, &a->state, AR_PARENT, "arrival", (uint64_t)im->pid);

	struct err e = { 0 };
	int rc = exec_image_body(im, a->ctty, &a->body_fd, &a->body_size, &e);
	if (rc < 0) {
		arrive_fail(a, rc, "image");
		return;
	}
	struct proc *own = proc_find(s, im->pid);
	if (own && own->r->kind == PREC_GHOST && (own->r->flags & PREC_HOME) && own->r->node == a->from && own->is_settled && !own->arrival &&
	    !(own->r->flags & PREC_EXITED)) {
		sm_move(arrive_states, &a->state, AR_FORK, "arrival", (uint64_t)im->pid);
		a->comes_home = 1;
		a->p = own;
		own->arrival = a;
		proc_wake(s, own);
		return;
	}
	struct ghost_spec g = { .pid = im->ppid, .pgid = im->parent_pgid, .sid = im->parent_sid, .node = im->home };
	rc = ghost_get(s, &g, parent_there, a);
	if (rc < 0)
		arrive_fail(a, rc, "parent");
}

static void held_stop(void *ctx, struct tracee *t, int status);

int arrive_next(struct trap *t, struct arrival *a, struct stub_cmd *ret)
{
	if (a->state != AR_FORK)
		return 0;
	int rc = trace_seize(a->s, (pid_t)t->req.pid, PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL, held_stop, a, &a->tracee);
	if (rc < 0) {
		arrive_fail(a, rc, "trace");
		*ret = (struct stub_cmd){ STUB_EXIT, 0, 1 };
		return 1;
	}
	sm_move(arrive_states, &a->state, AR_SETUP, "arrival", (uint64_t)a->image.pid);
	*ret = (struct stub_cmd){ STUB_BODY, 0, a->body_size };
	return 1;
}

void arrive_fd(struct trap *t, struct arrival *a)
{
	uint64_t i = t->req.data.args[1];
	int rc;
	if (a->state != AR_SETUP || i > a->image.n_fds) {
		trap_return(t, 0, EBADF);
		return;
	}
	if (i == 0)
		rc = notify_addfd(t->w->fd, t->req.id, a->body_fd, 900, 1, 0); /* above what a program has; closed at once */
	else
		rc = notify_addfd(t->w->fd, t->req.id, a->fds[i - 1], (int)a->image.fds[i - 1].number, 0, 0);
	if (rc < 0)
		trap_return(t, 0, -rc);
	else
		trap_return(t, rc, 0);
}

void arrive_bind(struct arrival *a, struct proc *p)
{
	a->p = p;
	a->image.pid = p->pid;
}

static const char *stage_name(uint64_t at)
{
	static const char *const names[] = { "?", "image", "fd", "cwd", "limits", "credentials", "group", "terminal", "exec" };
	return at < sizeof names / sizeof names[0] ? names[at] : "?";
}

void arrive_failed(struct trap *t, struct arrival *a)
{
	int error = (int)t->req.data.args[2];
	const char *at = stage_name(t->req.data.args[1]);
	trap_return(t, 0, 0);
	if (error <= 0 || error > 4095)
		error = EIO;
	if (a->state == AR_SETUP || a->state == AR_EXEC)
		arrive_fail(a, -error, at);
}

void arrive_exec(struct trap *t, struct arrival *a)
{
	if (a->state == AR_SETUP)
		sm_move(arrive_states, &a->state, AR_EXEC, "arrival", (uint64_t)a->image.pid);
	trap_continue(t);
}

static void arrive_go(struct arrival *a)
{
	struct space *s = a->s;
	struct proc *p = a->p;
	struct tracee *t = take_ptr(a->tracee);

	sm_move(arrive_states, &a->state, AR_DONE, "arrival", (uint64_t)a->image.pid);
	p->arrival = NULL;
	p->r->flags &= ~(unsigned)PREC_HELD;
	p->placed_ns = clock_ns();
	if (s->cfg.arrived)
		s->cfg.arrived(s->cfg.ctx, p->pid, p->outer, a->image.features);
	if (a->comes_home && !a->done) {
		/* Runs under its real parent again; a record is kept only if other nodes have ghosts of it. */
		p->r->flags = 0;
		if (p->r->ghosts[0] | p->r->ghosts[1] | p->r->ghosts[2])
			proc_become(s, p, PREC_LOCAL, s->self);
		else
			proc_forget(s, p);
	}
	if (t)
		trace_detach(t, 0);
	if (a->done) {
		a->done(a->ctx, p, 0, NULL);
		proc_forget(s, p); /* an ordinary process of this node */
	}
	arrival_free(a);
}

/* Stops of the process while it is set up: only the exec event matters, signals are blocked until then. */
static void held_stop(void *ctx, struct tracee *t, int status)
{
	struct arrival *a = ctx;
	if (!WIFSTOPPED(status)) {
		trace_forget(t);
		a->tracee = NULL;
		return; /* its pidfd tells of the end */
	}
	int event = status >> 16;
	if (event != PTRACE_EVENT_EXEC) {
		int sig = event == 0 ? WSTOPSIG(status) : 0;
		(void)ptrace(PTRACE_CONT, t->tid, 0, sig);
		return;
	}
	sm_move(arrive_states, &a->state, AR_HELD, "arrival", (uint64_t)a->image.pid);
	if (a->image.oom_score_adj) {
		char path[64];
		(void)snprintf(path, sizeof path, "/proc/%d/oom_score_adj", t->tid);
		FILE *f = fopen(path, "we");
		if (f) {
			(void)fprintf(f, "%d", a->image.oom_score_adj);
			(void)fclose(f);
		}
	}
	if (a->failed) {
		arrive_fail(a, a->failed, "exec");
	} else if (a->req) {
		links_answer(take_ptr(a->req), 0, NULL, 0);
	} else {
		arrive_go(a);
	}
}

void arrive_gone(struct space *s, struct arrival *a)
{
	(void)s;
	if (a->state == AR_HELD) { /* killed in between: it ends like any other body */
		struct proc *p = a->p;
		p->arrival = NULL;
		if (a->tracee)
			trace_forget(take_ptr(a->tracee));
		sm_move(arrive_states, &a->state, AR_DONE, "arrival", (uint64_t)a->image.pid);
		arrival_free(a);
		proc_ended(s, p);
		return;
	}
	arrive_fail(a, -ESRCH, "killed");
}

/* --- messages --- */

static int arrive_admit(struct space *s, uint16_t from, struct exec_image *im, struct err *e)
{
	if (im->ppid <= 1 || im->parent_sid <= 0)
		return err_set(e, -EBADMSG, "exec image of pid %d: no parent", im->pid);
	if (im->home == 0 || im->home > NODE_MAX)
		return err_set(e, -EBADMSG, "exec image of pid %d: home node %u", im->pid, im->home);
	if (from == s->self)
		return err_set(e, -EINVAL, "exec image of pid %d: placed here by ourselves", im->pid);
	return s->cfg.files_check(s->cfg.ctx, im->files, im->files_n, e);
}

static struct arrival *arrival_new(struct space *s, struct exec_image *im)
{
	struct arrival *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	a->s = s;
	a->body_fd = -1;
	a->ctty = -1;
	a->fds = calloc(im->n_fds + 1, sizeof *a->fds);
	if (!a->fds) {
		free(a);
		return NULL;
	}
	for (uint32_t i = 0; i < im->n_fds; i++)
		a->fds[i] = -1;
	a->image = *im;
	*im = (struct exec_image){ 0 };
	DL_APPEND(s->arrivals, a);
	return a;
}

static void on_place(void *ctx, uint16_t from, const uint8_t *msg, size_t n, struct links_call_req *req)
{
	struct space *s = ctx;
	struct exec_image im;
	struct err e = { 0 };

	int rc = exec_image_decode(msg, n, &im, &e);
	if (rc == 0)
		rc = arrive_admit(s, from, &im, &e);
	struct arrival *a = rc == 0 ? arrival_new(s, &im) : NULL;
	if (!a) {
		if (rc == -EBADMSG)
			log_warn("node %u: %s", from, e.text);
		exec_image_fini(&im);
		links_answer(req, rc < 0 ? rc : -ENOMEM, e.text, strlen(e.text));
		return;
	}
	a->from = from;
	a->req = req;
	imports_start(a);
}

static struct arrival *arrival_find(struct space *s, uint16_t from, int32_t pid)
{
	struct arrival *a;
	DL_FOREACH(s->arrivals, a)
		if (a->image.pid == pid && a->from == from)
			return a;
	return NULL;
}

static int32_t pid_decode(const uint8_t *msg, size_t n)
{
	struct rd r;
	rd_init(&r, msg, n);
	int32_t pid = rd_i32(&r);
	return rd_done(&r) == 0 && pid > 0 ? pid : -1;
}

static void on_go(void *ctx, uint16_t from, const uint8_t *msg, size_t n)
{
	struct arrival *a = arrival_find(ctx, from, pid_decode(msg, n));
	if (a && a->state == AR_HELD)
		arrive_go(a);
}

/* Its origin does not want it any more. Where callbacks are under way they find a->failed. */
static void arrive_cancel(struct arrival *a, int status, const char *at)
{
	int is_executing = a->state == AR_EXEC && a->comes_home; /* what it becomes is seen at the event */
	if (a->state >= AR_FORK && !is_executing)
		arrive_fail(a, status, at);
	else if (!a->failed)
		a->failed = status;
}

static void on_abort(void *ctx, uint16_t from, const uint8_t *msg, size_t n)
{
	struct space *s = ctx;
	int32_t pid = pid_decode(msg, n);
	struct arrival *a = arrival_find(s, from, pid);
	if (a) {
		arrive_cancel(a, -ECANCELED, "abort");
		return;
	}
	/* A body whose ghost at home is gone: it was killed while no link was there. */
	struct proc *p = proc_find(s, pid);
	if (!p || p->r->kind != PREC_BODY || p->r->node != from)
		return;
	if (p->r->flags & PREC_EXITED) {
		proc_forget(s, p);
		return;
	}
	pid_t outer = proc_outer(s, p);
	p->r->flags |= PREC_KILLED;
	if (outer > 0)
		(void)kill(outer, SIGKILL);
}

static void arrivals_cancel(struct space *s, uint16_t node, unsigned last, const char *at)
{
	struct arrival *a, *tmp;
	DL_FOREACH_SAFE(s->arrivals, a, tmp)
		if (a->from == node && a->state <= last)
			arrive_cancel(a, -ECONNRESET, at);
}

void arrive_node_down(struct space *s, uint16_t node)
{
	arrivals_cancel(s, node, AR_HELD, "origin died");
}

/* The calls by which they came ended with the link: their origin has gone on without them. Those that are held were answered, perhaps
 * in vain: the origin is asked (MSG_PROC_SYNC). */
void arrive_node_up(struct space *s, uint16_t node)
{
	arrivals_cancel(s, node, AR_EXEC, "link lost");
}

/* 0, or -errno: then everything of l is gone. */
static int arrival_local(struct space *s, struct arrive_local *l, struct arrival **ret, struct err *e)
{
	struct arrival *a = arrival_new(s, &l->image);
	for (uint32_t i = 0; a && i < a->image.n_fds; i++)
		a->fds[i] = l->fds[i];
	for (uint32_t i = 0; !a && i < l->image.n_fds; i++)
		(void)close_fd(l->fds[i]);
	free(l->fds);
	l->fds = NULL;
	if (!a) {
		exec_image_fini(&l->image);
		return err_set(e, -ENOMEM, "no memory");
	}
	a->from = s->self;
	a->ctty = l->ctty;
	a->ctx = l->ctx;
	a->done = l->done;
	a->state = AR_FORK;
	int rc = exec_image_body(&a->image, a->ctty, &a->body_fd, &a->body_size, e);
	if (rc < 0)
		arrival_free(a);
	else
		*ret = a;
	return rc;
}

int arrive_ghost_run(struct space *s, struct proc *p, struct arrive_local *l, struct err *e)
{
	struct arrival *a;
	int rc = arrival_local(s, l, &a, e);
	if (rc < 0)
		return rc;
	a->comes_home = 1;
	a->p = p;
	p->arrival = a;
	proc_wake(s, p);
	return 0;
}

int arrive_run(struct space *s, struct proc *root, struct watch *w, struct arrive_local *l, struct err *e)
{
	struct arrival *a;
	int rc = arrival_local(s, l, &a, e);
	if (rc < 0)
		return rc;
	rc = proc_command(s, root, (struct stub_cmd){ STUB_FORK, 0, 0 }, NULL, NULL);
	if (rc < 0) {
		arrival_free(a);
		return err_set(e, rc, "session %d: cannot fork", root->pid);
	}
	w->any = a;
	return 0;
}

void arrive_start(struct space *s)
{
	links_handle_call(s->links, MSG_EXEC_PLACE, on_place, s);
	links_handle(s->links, MSG_EXEC_GO, on_go, s);
	links_handle(s->links, MSG_EXEC_ABORT, on_abort, s);
}

void arrive_end(struct space *s)
{
	struct arrival *a, *tmp;
	DL_FOREACH_SAFE(s->arrivals, a, tmp)
		arrival_free(a);
}
