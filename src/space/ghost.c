/* Ghosts: making them in the right session and group, telling them what to do, and the ends of bodies and parents.
 *
 * Happy path of a placed process: its original becomes a ghost (place.c), here PREC_GHOST|PREC_HOME; where the body runs its
 * parent is a ghost made by ghost_get; the body ends -> the ghost parent reaps it and reports STUB_CHILD -> streams are drained
 * -> MSG_PROC_EXITED to the home node -> the ghost there ends in the same way -> its real parent's wait returns.
 * Failures: link down: an end is repeated when the link is up again, until acknowledged. Home node dead: nothing to tell. Body's
 * node dead: the ghost ends as by SIGKILL. A ghost that is killed by force: the body gets SIGKILL. The real parent ends: its ghosts
 * elsewhere end, so that the bodies get pid 1 as parent. */
#include "space/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "kern/rmem.h"
#include "wire/msg.h"

enum { GHOST_IDLE_MS = 2000, GHOST_MAKE_MS = 4000, TICK_MS = 500 };

/* --- making --- */

struct gget {
	struct space *s;
	struct ghost_spec spec;
};

static void gget_fail(struct space *s, int32_t pid, int status)
{
	struct proc *p = proc_find(s, pid);
	if (!p || !p->getting)
		return;
	log_debug("ghost %d: %s", pid, strerror(-status));
	free(p->getting);
	p->getting = NULL;
	proc_forget(s, p);
}

int group_is_here(struct space *s, int32_t pgid)
{
	struct proc *p, *tmp;
	struct procinfo info = { 0 };
	pid_t leader = nspid_outer(&s->ns, pgid);
	if (leader > 0)
		return procinfo_stat(leader, &info) == 0 && info.pgid == leader;
	HASH_ITER(hh, s->procs, p, tmp) { /* its leader has ended */
		pid_t outer = p->r->pgid == pgid && (p->r->kind == PREC_BODY || p->is_settled) ? proc_outer(s, p) : -1;
		if (outer > 0 && procinfo_stat(outer, &info) == 0 && info.pgid > 0 && nspid_tid(&s->ns, info.pgid) == pgid)
			return 1;
	}
	return 0;
}

static void gget_grouped(void *ctx, struct proc *p, int64_t result)
{
	struct space *s = ctx;
	if (!p)
		return;
	if (result < 0)
		log_debug("ghost %d: joining group %d: %s", p->pid, p->r->pgid, strerror((int)-result));
	(void)s;
	proc_settle(p);
}

struct leader_wait {
	struct space *s;
	int32_t pid;
};

static void gget_leader_there(void *ctx, struct proc *leader, int status)
{
	struct leader_wait *lw = ctx;
	struct proc *p = proc_find(lw->s, lw->pid);
	struct space *s = lw->s;
	(void)leader;
	free(lw);
	if (!p)
		return;
	if (status < 0 || proc_command(s, p, (struct stub_cmd){ STUB_SETPGID, 0, p->r->pgid }, gget_grouped, s) < 0)
		proc_settle(p); /* in the session, but in another group: signals to its group miss a ghost that would not forward them anyway */
}

/* The new ghost has asked for its first command: put it into its group, then it is settled. */
static void gget_born(struct space *s, struct proc *p)
{
	struct ghost_spec g = p->getting->spec;
	free(p->getting);
	p->getting = NULL;
	if (g.pgid == g.sid || g.pid == g.sid) {
		proc_settle(p);
		return;
	}
	if (g.pgid == g.pid) {
		if (proc_command(s, p, (struct stub_cmd){ STUB_SETPGID, 0, 0 }, gget_grouped, s) < 0)
			proc_settle(p);
		return;
	}
	struct leader_wait *lw = malloc(sizeof *lw);
	if (!lw) {
		proc_settle(p);
		return;
	}
	*lw = (struct leader_wait){ s, p->pid };
	if (group_is_here(s, g.pgid)) {
		gget_leader_there(lw, NULL, 0);
		return;
	}
	struct ghost_spec leader = { .pid = g.pgid, .pgid = g.pgid, .sid = g.sid, .node = g.node };
	if (ghost_get(s, &leader, gget_leader_there, lw) < 0) {
		free(lw);
		proc_settle(p);
	}
}

struct gget_fork {
	struct space *s;
	int32_t pid;
};

static void gget_forked(void *ctx, struct proc *forker, int64_t result)
{
	struct gget_fork *f = ctx;
	struct proc *p = proc_find(f->s, f->pid);
	(void)forker;
	if (p && p->getting && (result < 0 || proc_watch_end(f->s, p) == -ESRCH))
		gget_fail(f->s, f->pid, result < 0 ? (int)result : -ESRCH);
	free(f);
}

/* A session being made: two answers, the fork's and the listener's. */
struct session_make {
	struct space *s;
	int32_t sid;
	unsigned n_answers;
};

static void session_answer(struct session_make *make, const struct zyg_msg *m, int fd)
{
	struct space *s = make->s;
	struct proc *p = proc_find(s, make->sid);
	struct err e = { 0 };
	struct watch *w;
	if (!p) {
		(void)close_fd(fd);
	} else if (m->result < 0) {
		(void)close_fd(fd);
		gget_fail(s, p->pid, m->result);
	} else if (m->op == ZYG_LISTENER) {
		if (watch_add(s, fd, make->sid, &w, &e) == 0) {
			p->r->watch = w->index;
			return;
		}
		log_warn("%s", e.text);
		gget_fail(s, p->pid, e.code);
	}
}

static void gget_session(void *ctx, const struct zyg_msg *m, int fd)
{
	struct session_make *make = ctx;
	session_answer(make, m, fd);
	struct proc *p = m->op == ZYG_FORKED && m->result == 0 ? proc_find(make->s, make->sid) : NULL;
	if (p && p->getting)
		(void)proc_watch_end(make->s, p);
	if (m->result < 0 || ++make->n_answers == 2)
		free(make);
}

/* A ghost or session root of this session that can fork. */
static struct proc *forker_find(struct space *s, int32_t sid)
{
	struct proc *p = proc_find(s, sid);
	if (p && !(p->r->flags & PREC_EXITED) && (p->r->kind == PREC_GHOST || (p->r->flags & PREC_SESSION)))
		return p;
	struct proc *tmp;
	HASH_ITER(hh, s->procs, p, tmp) {
		if (p->r->sid == sid && p->r->kind == PREC_GHOST && !(p->r->flags & PREC_EXITED))
			return p;
	}
	return NULL;
}

struct session_wait {
	struct space *s;
	struct ghost_spec spec;
	void (*fn)(void *ctx, struct proc *p, int status);
	void *ctx;
};

static void gget_session_there(void *ctx, struct proc *root, int status)
{
	struct session_wait *w = ctx;
	(void)root;
	int rc = status < 0 ? status : ghost_get(w->s, &w->spec, w->fn, w->ctx);
	if (rc < 0)
		w->fn(w->ctx, NULL, rc);
	free(w);
}

static int gget_after_session(struct space *s, const struct ghost_spec *g, void (*fn)(void *ctx, struct proc *p, int status), void *ctx)
{
	struct session_wait *w = malloc(sizeof *w);
	if (!w)
		return -ENOMEM;
	*w = (struct session_wait){ s, *g, fn, ctx };
	struct ghost_spec root = { .pid = g->sid, .pgid = g->sid, .sid = g->sid, .node = g->node };
	int rc = ghost_get(s, &root, gget_session_there, w);
	if (rc < 0)
		free(w);
	return rc;
}

static void gget_forker_there(void *ctx, struct proc *forker, int status)
{
	struct gget_fork *f = ctx;
	int rc = status;
	if (forker)
		rc = proc_command(f->s, forker, (struct stub_cmd){ STUB_FORK, f->pid, 0 }, gget_forked, f);
	if (rc == 0)
		return;
	gget_fail(f->s, f->pid, rc);
	free(f);
}

int ghost_get(struct space *s, const struct ghost_spec *g, void (*fn)(void *ctx, struct proc *p, int status), void *ctx)
{
	struct proc *p = proc_find(s, g->pid);
	if (p && p->r->kind == PREC_GHOST && (p->r->flags & PREC_EXITED))
		return -EAGAIN; /* just ending */
	if (p && p->r->kind != PREC_GHOST && !(p->r->flags & PREC_SESSION))
		return -EEXIST; /* the real one: it cannot be told to fork */
	if (p)
		return proc_when_ready(s, p, fn, ctx);

	struct proc *forker = NULL;
	if (g->pid != g->sid) {
		forker = forker_find(s, g->sid);
		if (!forker)
			return gget_after_session(s, g, fn, ctx);
	}

	struct gget *get = malloc(sizeof *get);
	if (!get)
		return -ENOMEM;
	*get = (struct gget){ s, *g };
	p = proc_new(s, g->pid, PREC_GHOST, g->node);
	if (!p) {
		free(get);
		return -ENOSPC;
	}
	p->getting = get;
	p->since_ms = clock_ms();
	p->r->pgid = g->pgid;
	p->r->sid = g->sid;
	p->r->ppid = forker ? forker->pid : 0;
	if (forker)
		p->r->watch = forker->r->watch;
	int rc = proc_when_ready(s, p, fn, ctx);
	if (rc == 0 && forker) {
		struct gget_fork *f = malloc(sizeof *f);
		rc = f ? 0 : -ENOMEM;
		if (f) {
			*f = (struct gget_fork){ s, g->pid };
			rc = proc_when_ready(s, forker, gget_forker_there, f);
			if (rc < 0)
				free(f);
		}
	} else if (rc == 0) {
		struct session_make *make = malloc(sizeof *make);
		struct zyg_cmd c = { .op = ZYG_SESSION, .pid = g->pid };
		rc = -ENOMEM;
		if (make) {
			*make = (struct session_make){ s, g->pid, 0 };
			rc = zyg_command(s, &c, NULL, 0, 2, gget_session, make);
			if (rc < 0)
				free(make);
		}
	}
	if (rc < 0)
		gget_fail(s, g->pid, rc);
	return 0; /* fn has run or will */
}

/* --- commands --- */

static struct stub_cmd end_command(int status)
{
	if (WIFSIGNALED(status))
		return (struct stub_cmd){ STUB_DIE, 0, WTERMSIG(status) };
	return (struct stub_cmd){ STUB_EXIT, 0, WEXITSTATUS(status) };
}

static struct stub_cmd command_pick(struct proc *p)
{
	if (p->r->kind == PREC_GHOST && (p->r->flags & PREC_EXITED) && !p->arrival)
		return end_command(p->r->status);
	if (p->r->kind == PREC_GHOST && (p->r->flags & PREC_STOPPED)) {
		p->r->flags &= ~(unsigned)PREC_STOPPED;
		return (struct stub_cmd){ STUB_STOP, 0, WSTOPSIG(p->r->status) };
	}
	if (p->n_queue == 0)
		return (struct stub_cmd){ STUB_WAIT, 0, 0 };
	p->current = p->queue[0];
	p->n_queue--;
	memmove(p->queue, p->queue + 1, p->n_queue * sizeof p->queue[0]);
	return p->current.cmd;
}

void ghost_next(struct trap *t, struct proc *p, int64_t result)
{
	struct space *s = t->s;
	int32_t pid = p->pid;
	struct command done = p->current;

	p->is_idle = 0;
	p->current.cmd.op = 0;
	if (!p->is_ready) {
		p->is_ready = 1;
		(void)proc_watch_end(s, p);
		if (p->getting)
			gget_born(s, p);
		else if (p->r->kind == PREC_GHOST && !p->arrival)
			proc_settle(p);
	} else if (done.cmd.op && done.done) {
		done.done(done.ctx, p, result);
	}

	p = proc_find(s, pid); /* callbacks may have ended it */
	struct stub_cmd c = { STUB_EXIT, 0, 0 };
	if (p && !(p->arrival && arrive_next(t, p->arrival, &c)))
		c = command_pick(p);
	p = proc_find(s, pid);
	if (rmem_write((pid_t)t->req.pid, (struct raddr){ t->req.data.args[1] }, &c, sizeof c) < 0) {
		trap_return(t, 0, EFAULT);
		return;
	}
	if (p)
		p->is_idle = c.op == STUB_WAIT;
	trap_return(t, 1, 0);
}

void ghost_signal(struct trap *t, struct proc *p)
{
	const uint64_t *a = (const uint64_t *)t->req.data.args;
	struct space *s = t->s;
	unsigned signo = (unsigned)a[1];
	trap_return(t, 0, 0);
	if (signo == 0 || signo > 64)
		return;
	if (p->suppress[signo] && clock_ms() - p->suppress_ms < 1000) {
		p->suppress[signo]--;
		return;
	}
	if (p->r->flags & PREC_SESSION) {
		/* The terminal hung up: what a shell would do for its job. */
		if (signo == SIGHUP && p->r->pgid > 0)
			(void)proc_command(s, p, (struct stub_cmd){ STUB_KILL, -p->r->pgid, SIGHUP }, NULL, NULL);
		return;
	}
	if (p->r->kind == PREC_GHOST && (p->r->flags & PREC_HOME) && !(p->r->flags & PREC_EXITED))
		signal_forward(s, p, (int)signo, (int)(int32_t)a[2], (int32_t)a[3], (uint32_t)a[4], a[5]);
}

void ghost_child(struct trap *t, struct proc *p)
{
	const uint64_t *a = (const uint64_t *)t->req.data.args;
	struct space *s = t->s;
	int32_t pid = (int32_t)a[1];
	int status = (int)(int32_t)a[2];
	trap_return(t, 0, 0);

	struct proc *c = proc_find(s, pid);
	if (p->r->flags & PREC_SESSION)
		session_child(s, p, pid, status, a[3], a[4], a[5]);
	if (!c || c->r->kind != PREC_BODY)
		return;
	if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
		body_stopped(s, c, status);
		return;
	}
	if (c->r->flags & PREC_EXITED)
		return;
	c->r->status = status;
	c->r->utime_us = a[3];
	c->r->stime_us = a[4];
	c->r->maxrss_kb = a[5];
	c->r->flags |= PREC_EXITED;
	body_report(s, c);
}

/* --- ends --- */

static void parent_unload(struct space *s, int32_t ppid)
{
	struct proc *parent = proc_find(s, ppid);
	if (parent && parent->n_children && --parent->n_children == 0)
		parent->idle_since_ms = clock_ms();
}

static void exited_send(struct space *s, struct proc *p)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	wr_i32(&w, p->pid);
	wr_i32(&w, p->r->status);
	wr_u64(&w, p->r->utime_us);
	wr_u64(&w, p->r->stime_us);
	wr_u64(&w, p->r->maxrss_kb);
	/* A link that is down: space_node_up repeats it. */
	if (wr_done(&w) == 0)
		(void)links_send(s->links, p->r->node, MSG_PROC_EXITED, w.p, w.n);
}

struct report {
	struct space *s;
	int32_t pid;
};

static void report_drained(void *arg, int status)
{
	struct report *r = arg;
	struct proc *p = proc_find(r->s, r->pid);
	if (status < 0)
		log_debug("pid %d: streams not drained: %s", r->pid, strerror(-status));
	if (p && p->r->kind == PREC_BODY && (p->r->flags & PREC_UNACKED))
		exited_send(r->s, p);
	free(r);
}

/* Nodes that have a ghost of p, as a parent, learn that it is gone. */
static void parent_gone_tell(struct space *s, struct proc *p)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	wr_i32(&w, p->pid);
	for (unsigned n = 1; n <= NODE_MAX; n++)
		if (p->r->ghosts[n / 64] & (1ull << (n % 64)))
			(void)links_send(s->links, (uint16_t)n, MSG_PROC_PARENT_GONE, w.p, w.n);
	memset(p->r->ghosts, 0, sizeof p->r->ghosts);
}

void body_report(struct space *s, struct proc *p)
{
	parent_gone_tell(s, p);
	parent_unload(s, p->r->ppid);
	if (s->cfg.ended)
		s->cfg.ended(s->cfg.ctx, p->pid, s->self, 0, p->r->utime_us + p->r->stime_us);
	if (p->r->flags & PREC_KILLED) {
		proc_forget(s, p);
		return;
	}
	p->r->flags |= PREC_UNACKED;
	struct report *r = malloc(sizeof *r);
	if (!r) {
		exited_send(s, p);
		return;
	}
	*r = (struct report){ s, p->pid };
	if (s->cfg.streams.barrier(s->cfg.streams.ctx, report_drained, r) < 0) {
		free(r);
		exited_send(s, p);
	}
}

void body_stopped(struct space *s, struct proc *p, int status)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	wr_i32(&w, p->pid);
	wr_i32(&w, status);
	(void)links_send(s->links, p->r->node, MSG_PROC_STOPPED, w.p, w.n);
}

/* Bodies whose ghost parent ended before it could reap them: pid 1 has, and nobody waits for their status. */
static void children_orphan(struct space *s, int32_t parent)
{
	struct proc *p, *tmp;
	HASH_ITER(hh, s->procs, p, tmp) {
		if (p->r->kind != PREC_BODY || p->r->ppid != parent || !p->has_ended || (p->r->flags & PREC_EXITED))
			continue;
		p->r->flags |= PREC_EXITED;
		body_report(s, p);
	}
}

void proc_ended(struct space *s, struct proc *p)
{
	if (p->end)
		(void)uv_poll_stop(p->end);
	if (p->arrival) {
		arrive_gone(s, p->arrival);
		return;
	}
	if (p->placing)
		place_gone(s, p->placing);
	if (p->getting) {
		gget_fail(s, p->pid, -ESRCH);
		return;
	}
	switch ((enum prec_kind)p->r->kind) {
	case PREC_GHOST:
		if ((p->r->flags & PREC_HOME) && !(p->r->flags & PREC_EXITED)) /* killed by force: so is its body */
			signal_forward(s, p, SIGKILL, SI_USER, 0, 0, 0);
		children_orphan(s, p->pid);
		proc_forget(s, p);
		return;
	case PREC_BODY: {
		if (p->r->flags & PREC_EXITED)
			return;
		struct proc *parent = proc_find(s, p->r->ppid);
		if (parent && parent->r->kind == PREC_GHOST) {
			p->has_ended = 1;
			return; /* it reaps and reports, with the status */
		}
		p->r->flags |= PREC_EXITED;
		body_report(s, p);
		return;
	}
	case PREC_LOCAL:
		parent_gone_tell(s, p);
		if (p->r->flags & PREC_SESSION)
			session_ended(s, p);
		proc_forget(s, p);
		return;
	case PREC_FREE:
		return;
	}
}

/* A stopped ghost cannot ask for commands: let it go on, without telling its body. */
static void ghost_unstop(struct space *s, struct proc *p)
{
	pid_t outer = proc_outer(s, p);
	struct procinfo info = { 0 };
	if (outer <= 0 || procinfo_stat(outer, &info) < 0 || info.state != 'T')
		return;
	p->suppress[SIGCONT]++;
	p->suppress_ms = clock_ms();
	(void)kill(outer, SIGCONT);
}

void ghost_finish(struct space *s, struct proc *p, int status)
{
	p->r->status = status;
	p->r->flags = (p->r->flags & ~(unsigned)PREC_STOPPED) | PREC_EXITED;
	ghost_unstop(s, p);
	proc_wake(s, p);
}

static void on_exited(void *ctx, uint16_t from, const uint8_t *msg, size_t n)
{
	struct space *s = ctx;
	struct rd r;
	rd_init(&r, msg, n);
	int32_t pid = rd_i32(&r), status = rd_i32(&r);
	uint64_t utime = rd_u64(&r), stime = rd_u64(&r), maxrss = rd_u64(&r);
	if (rd_done(&r) < 0) {
		log_warn("node %u: bad end of a process, ignored", from);
		return;
	}
	struct proc *p = proc_find(s, pid);
	if (p && p->r->kind == PREC_GHOST && (p->r->flags & PREC_HOME) && p->r->node == from && !(p->r->flags & PREC_EXITED)) {
		p->r->utime_us = utime;
		p->r->stime_us = stime;
		p->r->maxrss_kb = maxrss;
		if (s->cfg.ended)
			s->cfg.ended(s->cfg.ctx, p->pid, from, (clock_ns() - p->placed_ns) / 1000, utime + stime);
		ghost_finish(s, p, status);
	}
	_cleanup_(wr_fini) struct wr w = { 0 };
	wr_i32(&w, pid);
	(void)links_send(s->links, from, MSG_PROC_EXITED_ACK, w.p, w.n);
}

static int pid_decode(const uint8_t *msg, size_t n, int32_t *ret)
{
	struct rd r;
	rd_init(&r, msg, n);
	*ret = rd_i32(&r);
	return rd_done(&r);
}

static void on_exited_ack(void *ctx, uint16_t from, const uint8_t *msg, size_t n)
{
	struct space *s = ctx;
	int32_t pid;
	struct proc *p = pid_decode(msg, n, &pid) == 0 ? proc_find(s, pid) : NULL;
	if (p && p->r->kind == PREC_BODY && (p->r->flags & PREC_UNACKED) && p->r->node == from)
		proc_forget(s, p);
}

static void on_parent_gone(void *ctx, uint16_t from, const uint8_t *msg, size_t n)
{
	struct space *s = ctx;
	int32_t pid;
	struct proc *p = pid_decode(msg, n, &pid) == 0 ? proc_find(s, pid) : NULL;
	(void)from;
	if (p && p->r->kind == PREC_GHOST && !(p->r->flags & PREC_HOME) && p->pid != p->r->sid)
		ghost_finish(s, p, 0);
}

static void on_stopped(void *ctx, uint16_t from, const uint8_t *msg, size_t n)
{
	struct space *s = ctx;
	struct rd r;
	rd_init(&r, msg, n);
	int32_t pid = rd_i32(&r), status = rd_i32(&r);
	struct proc *p = rd_done(&r) == 0 ? proc_find(s, pid) : NULL;
	if (!p || p->r->kind != PREC_GHOST || p->r->node != from || (p->r->flags & PREC_EXITED))
		return;
	if (WIFCONTINUED(status)) {
		ghost_unstop(s, p);
		return;
	}
	struct procinfo info = { 0 };
	if (!WIFSTOPPED(status) || procinfo_stat(proc_outer(s, p), &info) < 0 || info.state == 'T')
		return; /* it was stopped in the same way, natively */
	p->r->status = status;
	p->r->flags |= PREC_STOPPED;
	proc_wake(s, p);
}

/* --- node events --- */

enum { SYNC_BODY = 1, SYNC_PARENT = 2, SYNC_GHOST = 3, SYNC_MAX = 100000 };

/* What we have of node's processes: it says which of them are not wanted any more. And which bodies we believe there: it says which of them
 * are not, because they ended with a daemon that could not tell any more. */
static void sync_send(struct space *s, uint16_t node)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	uint32_t n = 0;
	struct proc *p, *tmp;
	wr_u32(&w, 0);
	HASH_ITER(hh, s->procs, p, tmp) {
		int is_body = p->r->kind == PREC_BODY && !(p->r->flags & PREC_EXITED);
		int is_parent = p->r->kind == PREC_GHOST && !(p->r->flags & (PREC_HOME | PREC_EXITED));
		int comes_home = p->arrival && p->r->kind == PREC_GHOST;
		int is_home = p->r->kind == PREC_GHOST && (p->r->flags & PREC_HOME) && !(p->r->flags & PREC_EXITED) && !p->placing && !p->arrival;
		if (p->r->node != node || n == SYNC_MAX || !(is_body || is_parent || comes_home || is_home))
			continue;
		wr_u8(&w, is_parent ? SYNC_PARENT : is_home ? SYNC_GHOST : SYNC_BODY);
		wr_i32(&w, p->pid);
		n++;
	}
	wr_put_u32(&w, 0, n);
	if (n && wr_done(&w) == 0)
		(void)links_send(s->links, node, MSG_PROC_SYNC, w.p, w.n);
}

static void pid_tell_node(struct space *s, uint16_t node, uint16_t type, int32_t pid)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	wr_i32(&w, pid);
	if (wr_done(&w) == 0)
		(void)links_send(s->links, node, type, w.p, w.n); /* the link is lost again: so is the question */
}

/* There is no such body: as if it had been killed. */
static void lost_tell(struct space *s, uint16_t node, int32_t pid)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	wr_i32(&w, pid);
	wr_i32(&w, SIGKILL);
	for (int i = 0; i < 3; i++)
		wr_u64(&w, 0); /* what it used is not known */
	if (wr_done(&w) == 0)
		(void)links_send(s->links, node, MSG_PROC_EXITED, w.p, w.n); /* the link is lost again: so is the question */
}

static void on_sync(void *ctx, uint16_t from, const uint8_t *msg, size_t n)
{
	struct space *s = ctx;
	struct rd r;
	rd_init(&r, msg, n);
	uint32_t count = rd_count(&r, SYNC_MAX, 5);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t what = rd_u8(&r);
		int32_t pid = rd_i32(&r);
		struct proc *p = proc_find(s, pid);
		if (r.bad)
			break;
		if (what == SYNC_GHOST) {
			if (!p || (p->r->kind != PREC_BODY && !p->arrival))
				lost_tell(s, from, pid);
		} else if (what == SYNC_PARENT) {
			if (!p && nspid_outer(&s->ns, pid) <= 0)
				pid_tell_node(s, from, MSG_PROC_PARENT_GONE, pid);
		} else if (p && p->r->kind == PREC_GHOST && p->r->node == from && (p->r->flags & PREC_HOME)) {
			pid_tell_node(s, from, MSG_EXEC_GO, pid);
		} else if (p && p->r->kind == PREC_GHOST && (p->r->flags & PREC_HOME)) {
			continue; /* it moved on */
		} else if (!place_is_under_way(s, pid, from)) {
			pid_tell_node(s, from, MSG_EXEC_ABORT, pid);
		}
	}
	if (rd_done(&r) < 0)
		log_warn("node %u: bad list of processes, the rest is ignored", from);
}

void space_node_up(struct space *s, uint16_t node)
{
	arrive_node_up(s, node);
	sync_send(s, node);
	struct proc *p, *tmp;
	HASH_ITER(hh, s->procs, p, tmp) {
		if (p->r->node != node)
			continue;
		if (p->r->kind == PREC_BODY && (p->r->flags & PREC_UNACKED))
			exited_send(s, p);
		uint64_t unsent = p->unsent;
		p->unsent = 0;
		for (int sig = 1; p->r->kind == PREC_GHOST && sig <= 64; sig++)
			if (unsent & (1ull << (sig - 1)))
				signal_forward(s, p, sig, SI_USER, 0, 0, 0);
	}
}

void space_node_dead(struct space *s, uint16_t node)
{
	place_node_dead(s, node);
	arrive_node_down(s, node);
	struct proc *p, *tmp;
	HASH_ITER(hh, s->procs, p, tmp) {
		if (p->r->node != node || p->placing) /* a command that has not begun starts here instead */
			continue;
		if (p->r->kind == PREC_GHOST && (p->r->flags & PREC_HOME) && !(p->r->flags & PREC_EXITED)) {
			ghost_finish(s, p, SIGKILL); /* the wait status of a death by SIGKILL */
		} else if (p->r->kind == PREC_GHOST && !(p->r->flags & PREC_HOME) && p->pid != p->r->sid) {
			ghost_finish(s, p, 0); /* the real parent is gone: its children here get pid 1 */
		} else if (p->r->kind == PREC_BODY && (p->r->flags & PREC_UNACKED)) {
			proc_forget(s, p);
		}
	}
}

/* --- housekeeping --- */

static int ghost_is_needed(struct space *s, const struct proc *g)
{
	struct proc *p, *tmp;
	HASH_ITER(hh, s->procs, p, tmp) {
		if (p == g || (p->r->kind == PREC_BODY && (p->r->flags & PREC_EXITED)))
			continue;
		if (p->r->sid == g->pid || (p->r->pgid == g->pid && p->r->kind == PREC_BODY) || p->r->ppid == g->pid)
			return 1;
	}
	return 0;
}

static void on_tick(uv_timer_t *timer)
{
	struct space *s = timer->data;
	uint64_t now = clock_ms();
	struct proc *p, *tmp;
	HASH_ITER(hh, s->procs, p, tmp) {
		if (p->getting && now - p->since_ms > GHOST_MAKE_MS) {
			gget_fail(s, p->pid, -ETIMEDOUT); /* killed before it could ask for its first command */
			return;                           /* others may be gone with it: the rest at the next tick */
		}
		if (p->r->kind != PREC_GHOST || (p->r->flags & (PREC_HOME | PREC_EXITED)) || !p->is_settled || p->n_children || p->n_queue)
			continue;
		if (!p->idle_since_ms)
			p->idle_since_ms = now;
		if (now - p->idle_since_ms < (s->cfg.ghost_idle_ms ? s->cfg.ghost_idle_ms : GHOST_IDLE_MS) || ghost_is_needed(s, p))
			continue;
		ghost_finish(s, p, 0);
	}
}

void ghost_start(struct space *s)
{
	links_handle(s->links, MSG_PROC_EXITED, on_exited, s);
	links_handle(s->links, MSG_PROC_EXITED_ACK, on_exited_ack, s);
	links_handle(s->links, MSG_PROC_PARENT_GONE, on_parent_gone, s);
	links_handle(s->links, MSG_PROC_STOPPED, on_stopped, s);
	links_handle(s->links, MSG_PROC_SYNC, on_sync, s);
	(void)uv_timer_init(s->loop, &s->tick);
	s->tick.data = s;
	uint64_t tick_ms = s->cfg.ghost_idle_ms && s->cfg.ghost_idle_ms < TICK_MS ? s->cfg.ghost_idle_ms : TICK_MS;
	(void)uv_timer_start(&s->tick, on_tick, tick_ms, tick_ms);
}
