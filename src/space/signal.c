/* Signals over nodes.
 *
 * A signal to one process is done where its body is, by a short-lived task with the sender's number and identity (ZYG_KILL_AS), so
 * that the kernel there checks the permission and fills in the sender; the caller's kill returns what that said.
 *
 * Signals to groups (kill(-G), kill(0), a terminal's ^C) reach the ghosts of a group natively; each home ghost hands its signal to
 * its body's node, where it is delivered to the body and to those of its descendants there that are in the same group and have no
 * ghost of their own here (the subtree). So every member gets it once: each is native here, or in the subtree of exactly one ghost.
 * SIGKILL and SIGSTOP cannot be seen by a ghost: for a group they are sent along its ghosts explicitly. A kill from a node that has bodies
 * of the group whose home is elsewhere goes up to those homes too (MSG_SIG_GROUP), but not back down the same branch. */
#include "space/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "kern/rmem.h"
#include "wire/msg.h"

enum { SIGNAL_TIMEOUT_MS = 5000, CAP_KILL_BIT = 5 };

enum sig_flags {
	SIG_TREE = 1,    /* also the body's descendants of the same group here */
	SIG_CHECKED = 2, /* permission was checked where the ghost got it */
	SIG_QUEUE = 4,   /* with value */
};

struct sig {
	int32_t target, tid, signo, code;
	int32_t from;
	uint32_t uid[3], gid;
	uint8_t cap_kill, flags;
	uint64_t value;
};

static void sig_encode(const struct sig *g, struct wr *w)
{
	wr_i32(w, g->target);
	wr_i32(w, g->tid);
	wr_i32(w, g->signo);
	wr_i32(w, g->code);
	wr_i32(w, g->from);
	for (int i = 0; i < 3; i++)
		wr_u32(w, g->uid[i]);
	wr_u32(w, g->gid);
	wr_u8(w, g->cap_kill);
	wr_u8(w, g->flags);
	wr_u64(w, g->value);
}

static int sig_decode(const uint8_t *p, size_t n, struct sig *ret)
{
	struct rd r;
	rd_init(&r, p, n);
	struct sig g = { .target = rd_i32(&r), .tid = rd_i32(&r), .signo = rd_i32(&r), .code = rd_i32(&r), .from = rd_i32(&r) };
	for (int i = 0; i < 3; i++)
		g.uid[i] = rd_u32(&r);
	g.gid = rd_u32(&r);
	g.cap_kill = rd_u8(&r);
	g.flags = rd_u8(&r);
	g.value = rd_u64(&r);
	if (rd_done(&r) < 0 || g.signo < 0 || g.signo > 64)
		return -EBADMSG;
	*ret = g;
	return 0;
}

/* --- delivery here --- */

struct delivery {
	struct space *s;
	void (*done)(void *ctx, int status);
	void *ctx;
	struct sig sig;
	int retried;
};

static int deliver_start(struct delivery *d);

static void delivery_end(struct delivery *d, int status)
{
	if (d->done)
		d->done(d->ctx, status);
	free(d);
}

/* Without the sender's number; its identity is right. */
static void deliver_nameless(struct delivery *d)
{
	d->retried = 1;
	int rc = deliver_start(d);
	if (rc < 0)
		delivery_end(d, rc);
}

static void delivered_by_ghost(void *ctx, struct proc *p, int64_t result)
{
	if (p)
		delivery_end(ctx, (int)result);
	else
		deliver_nameless(ctx); /* it ended before it came to that */
}

/* The sender's number is taken here, by its ghost: that one can send. */
static int deliver_by_ghost(struct delivery *d)
{
	const struct sig *g = &d->sig;
	struct proc *p = proc_find(d->s, g->from);
	if (!p || p->r->kind != PREC_GHOST || g->tid || (g->flags & SIG_QUEUE) || (p->r->flags & PREC_EXITED))
		return -ESRCH;
	struct stub_cmd c = { STUB_KILL_AS, g->target, g->signo | g->cap_kill << 7 | (int64_t)((uint64_t)g->uid[0] << 8) };
	return proc_command(d->s, p, c, delivered_by_ghost, d);
}

static void delivered(void *ctx, const struct zyg_msg *m, int fd)
{
	struct delivery *d = ctx;
	(void)close_fd(fd);
	if (m->result != -EEXIST || d->retried)
		delivery_end(d, m->result);
	else if (deliver_by_ghost(d) < 0)
		deliver_nameless(d);
}

static int deliver_start(struct delivery *d)
{
	const struct sig *g = &d->sig;
	struct zyg_cmd c = { .op = ZYG_KILL_AS, .pid = d->retried || g->from <= 1 ? 0 : g->from, .target = g->target, .tid = g->tid,
			     .signo = g->signo, .gid = g->gid, .cap_kill = g->cap_kill };
	memcpy(c.uid, g->uid, sizeof c.uid);
	if (g->flags & SIG_QUEUE) {
		siginfo_t info;
		memset(&info, 0, sizeof info);
		info.si_signo = g->signo;
		info.si_code = g->code < 0 ? g->code : SI_QUEUE;
		info.si_pid = g->from;
		info.si_uid = g->uid[0];
		info.si_value.sival_ptr = (void *)(uintptr_t)g->value;
		c.queue = 1;
		memcpy(c.info, &info, sizeof c.info);
	}
	return zyg_command(d->s, &c, NULL, 0, 1, delivered, d);
}

static void deliver(struct space *s, const struct sig *g, void (*done)(void *ctx, int status), void *ctx)
{
	struct delivery *d = malloc(sizeof *d);
	int rc = -ENOMEM;
	if (d) {
		*d = (struct delivery){ s, done, ctx, *g, 0 };
		rc = deliver_start(d);
	}
	if (rc < 0) {
		free(d);
		if (done)
			done(ctx, rc);
	}
}

/* --- a body's subtree --- */

struct member {
	int32_t pid, ppid, pgid;
};

/* All processes of the space's /proc, as of now. */
static size_t members_read(struct space *s, struct member *to, size_t max)
{
	char path[64];
	(void)snprintf(path, sizeof path, "/proc/%d/root/proc", s->ends.init);
	_cleanup_(closedir_p) DIR *d = opendir("/proc");
	size_t n = 0;
	for (struct dirent *e = d ? readdir(d) : NULL; e && n < max; e = readdir(d)) {
		pid_t outer = atoi(e->d_name);
		int pid = outer > 0 ? nspid_tgid(&s->ns, outer) : -1;
		struct procinfo info;
		if (pid <= 0 || procinfo_stat(outer, &info) < 0)
			continue;
		int ppid = info.ppid > 0 ? nspid_tgid(&s->ns, info.ppid) : 0;
		int pgid = info.pgid > 0 ? nspid_tid(&s->ns, info.pgid) : 0;
		to[n++] = (struct member){ pid, ppid > 0 ? ppid : 0, pgid > 0 ? pgid : 0 };
	}
	return n;
}

static const struct member *member_find(const struct member *all, size_t n, int32_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (all[i].pid == pid)
			return &all[i];
	return NULL;
}

/* Is root the nearest ancestor of m that this node knows as a body from elsewhere? */
static int is_below(struct space *s, const struct member *all, size_t n, const struct member *m, int32_t root)
{
	for (int depth = 0; m && depth < 1000; depth++) {
		m = member_find(all, n, m->ppid);
		if (!m)
			return 0;
		if (m->pid == root)
			return 1;
		struct proc *p = proc_find(s, m->pid);
		if (p && p->r->kind == PREC_BODY)
			return 0;
	}
	return 0;
}

enum { MEMBERS_MAX = 32768 };

static void subtree_deliver(struct space *s, const struct sig *g)
{
	struct member *all = calloc(MEMBERS_MAX, sizeof *all);
	if (!all)
		return;
	size_t n = members_read(s, all, MEMBERS_MAX);
	const struct member *root = member_find(all, n, g->target);
	for (size_t i = 0; root && i < n; i++) {
		struct proc *p = proc_find(s, all[i].pid);
		if (all[i].pgid != root->pgid || all[i].pid == root->pid || (p && p->r->kind != PREC_LOCAL))
			continue; /* ghosts in the subtree forward by themselves only what reaches them natively: they are signalled below */
		if (!is_below(s, all, n, &all[i], root->pid))
			continue;
		struct sig one = *g;
		one.target = all[i].pid;
		deliver(s, &one, NULL, NULL);
	}
	for (size_t i = 0; root && i < n; i++) { /* home ghosts below the body: on to their bodies */
		struct proc *p = proc_find(s, all[i].pid);
		if (!p || p->r->kind != PREC_GHOST || !(p->r->flags & PREC_HOME) || all[i].pgid != root->pgid)
			continue;
		if (is_below(s, all, n, &all[i], root->pid))
			signal_forward(s, p, g->signo, g->code, g->from, g->uid[0], g->value);
	}
	free(all);
}

/* --- messages --- */

struct answer {
	struct links_call_req *req;
};

static void answer_send(void *ctx, int status)
{
	struct answer *a = ctx;
	links_answer(a->req, status < 0 ? status : 0, NULL, 0);
	free(a);
}

static void relayed(void *ctx, int status, const uint8_t *p, size_t n)
{
	struct answer *a = ctx;
	links_answer(a->req, status < 0 ? status : 0, p, n);
	free(a);
}

static void on_sig_proc(void *ctx, uint16_t from, const uint8_t *msg, size_t n, struct links_call_req *req)
{
	struct space *s = ctx;
	struct sig g;
	int rc = sig_decode(msg, n, &g);
	struct answer *a = rc == 0 ? malloc(sizeof *a) : NULL;
	if (!a) {
		links_answer(req, rc < 0 ? rc : -ENOMEM, NULL, 0);
		return;
	}
	a->req = req;
	struct proc *p = proc_find(s, g.target);
	if (p && p->r->kind == PREC_GHOST && p->r->node != from && p->r->node != s->self) {
		/* It is not here but there: the registrar passes on. */
		rc = links_call(s->links, p->r->node, MSG_SIG_PROC, msg, n, SIGNAL_TIMEOUT_MS, relayed, a);
		if (rc < 0) {
			links_answer(req, rc, NULL, 0);
			free(a);
		}
		return;
	}
	if (p && p->r->kind == PREC_GHOST) {
		links_answer(req, -ESRCH, NULL, 0);
		free(a);
		return;
	}
	if (g.flags & SIG_TREE)
		subtree_deliver(s, &g);
	deliver(s, &g, answer_send, a);
}

struct forward {
	struct space *s;
	int32_t pid;
	int signo;
};

/* Without a link it is kept and sent when there is one again. */
static void forward_keep(struct space *s, int32_t pid, int signo)
{
	struct proc *p = proc_find(s, pid);
	if (p && p->r->kind == PREC_GHOST && signo >= 1 && signo <= 64)
		p->unsent |= 1ull << (signo - 1);
}

static void forwarded(void *ctx, int status, const uint8_t *p, size_t n)
{
	struct forward *f = ctx;
	(void)p;
	(void)n;
	if (status == -ECONNRESET)
		forward_keep(f->s, f->pid, f->signo);
	else if (status < 0 && status != -ESRCH)
		log_debug("signal to pid %d: %s", f->pid, strerror(-status));
	free(f);
}

void signal_forward(struct space *s, struct proc *p, int signo, int code, int32_t from, uint32_t uid, uint64_t value)
{
	struct sig g = { .target = p->pid, .signo = signo, .code = code, .from = from, .uid = { uid, 0, 0 }, .cap_kill = 1,
			 .flags = SIG_CHECKED | SIG_TREE, .value = value };
	if (code == SI_QUEUE)
		g.flags |= SIG_QUEUE;
	_cleanup_(wr_fini) struct wr w = { 0 };
	sig_encode(&g, &w);
	int rc = wr_done(&w);
	struct forward *f = rc == 0 ? malloc(sizeof *f) : NULL;
	if (!f) {
		log_warn("signal %d to pid %d on node %u: no memory, lost", signo, p->pid, p->r->node);
		return;
	}
	*f = (struct forward){ s, p->pid, signo };
	rc = links_call(s->links, p->r->node, MSG_SIG_PROC, w.p, w.n, SIGNAL_TIMEOUT_MS, forwarded, f);
	if (rc == 0)
		return;
	forward_keep(s, p->pid, signo);
	free(f);
}

/* --- trapped calls --- */

struct killing {
	struct trap trap;
};

static void kill_answered(void *ctx, int status, const uint8_t *p, size_t n)
{
	struct killing *k = ctx;
	(void)p;
	(void)n;
	if (status == -ECONNRESET || status == -ETIMEDOUT)
		status = -ESRCH; /* its node is going or gone, and it with it */
	trap_return(&k->trap, 0, status < 0 ? -status : 0);
	free(k);
}

static int sender_fill(struct trap *t, struct sig *g)
{
	struct procinfo info;
	int rc = procinfo_read((pid_t)t->req.pid, &info);
	if (rc < 0)
		return rc;
	g->from = t->pid;
	for (int i = 0; i < 3; i++)
		g->uid[i] = info.uid[i];
	g->gid = info.gid[0];
	g->cap_kill = (info.cap_effective >> CAP_KILL_BIT) & 1;
	return 0;
}

static void kill_remote(struct trap *t, struct sig *g, uint16_t node)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	struct killing *k = malloc(sizeof *k);
	int rc = k ? sender_fill(t, g) : -ENOMEM;
	if (rc == 0) {
		sig_encode(g, &w);
		rc = wr_done(&w);
	}
	if (rc == 0) {
		k->trap = *t;
		rc = links_call(t->s->links, node, MSG_SIG_PROC, w.p, w.n, SIGNAL_TIMEOUT_MS, kill_answered, k);
	}
	if (rc < 0) {
		free(k);
		trap_return(t, 0, rc == -ENOTCONN ? ESRCH : -rc);
	}
}

/* SIGKILL and SIGSTOP of a group: its ghosts do not see them, so their bodies get them explicitly. */
static void group_force(struct space *s, int32_t pgid, int signo, const struct sig *g)
{
	struct proc *p, *tmp;
	HASH_ITER(hh, s->procs, p, tmp) {
		if (p->r->kind == PREC_GHOST && (p->r->flags & PREC_HOME) && !(p->r->flags & PREC_EXITED) && (pgid < 0 || p->r->pgid == pgid))
			signal_forward(s, p, signo, SI_USER, g->from, g->uid[0], 0);
	}
}

/* The other half of a group kill, for homes of bodies here. */
static void group_up(struct space *s, const struct sig *g, int32_t pgid, uint16_t except)
{
	uint64_t told[3] = { 0 };
	struct proc *p, *tmp;
	HASH_ITER(hh, s->procs, p, tmp) {
		uint16_t home = p->r->node;
		if (p->r->kind != PREC_BODY || (p->r->flags & PREC_EXITED) || p->r->pgid != pgid || home == except || home == s->self)
			continue;
		if (told[home / 64] & (1ull << (home % 64)))
			continue;
		told[home / 64] |= 1ull << (home % 64);
		_cleanup_(wr_fini) struct wr w = { 0 };
		struct sig up = *g;
		up.target = -pgid;
		sig_encode(&up, &w);
		if (wr_done(&w) == 0)
			(void)links_send(s->links, home, MSG_SIG_GROUP, w.p, w.n);
	}
}

static void on_sig_group(void *ctx, uint16_t from, const uint8_t *msg, size_t n)
{
	struct space *s = ctx;
	struct sig g;
	if (sig_decode(msg, n, &g) < 0 || g.target >= -1) {
		log_warn("node %u: bad group signal, ignored", from);
		return;
	}
	int32_t pgid = -g.target;
	struct proc *p, *tmp;
	HASH_ITER(hh, s->procs, p, tmp) { /* bodies on the sender's node have it already */
		if (p->r->kind == PREC_GHOST && (p->r->flags & PREC_HOME) && p->r->pgid == pgid && p->r->node == from && g.signo > 0) {
			p->suppress[g.signo]++;
			p->suppress_ms = clock_ms();
		}
	}
	if (g.signo == SIGKILL || g.signo == SIGSTOP) {
		HASH_ITER(hh, s->procs, p, tmp) {
			if (p->r->kind == PREC_GHOST && (p->r->flags & PREC_HOME) && p->r->pgid == pgid && p->r->node != from)
				signal_forward(s, p, g.signo, SI_USER, g.from, g.uid[0], 0);
		}
	}
	group_up(s, &g, pgid, from);
	deliver(s, &g, NULL, NULL);
}

static int group_is_spread(struct space *s, int32_t pgid)
{
	struct proc *p, *tmp;
	HASH_ITER(hh, s->procs, p, tmp) {
		if (p->r->pgid == pgid && p->r->kind != PREC_LOCAL)
			return 1;
	}
	return 0;
}

static void kill_group(struct trap *t, int32_t pgid, int signo)
{
	struct space *s = t->s;
	if (pgid == 0) {
		struct procinfo info;
		if (procinfo_stat((pid_t)t->req.pid, &info) == 0 && info.pgid > 0)
			pgid = nspid_tid(&s->ns, info.pgid);
	}
	if (pgid > 0 && signo > 0 && group_is_spread(s, pgid)) {
		struct sig g = { .signo = signo, .code = SI_USER };
		if (sender_fill(t, &g) == 0) {
			if (signo == SIGKILL || signo == SIGSTOP)
				group_force(s, pgid, signo, &g);
			group_up(s, &g, pgid, s->self);
		}
	}
	trap_continue(t); /* the members here, and the ghosts of the others */
}

/* A number whose process may be on another node: its owner knows. */
static uint16_t owner_of(const struct space *s, int32_t pid)
{
	int32_t slot = pid / STUB_SLOT_SIZE;
	return slot >= 1 && slot <= NODE_MAX ? (uint16_t)slot : s->self;
}

static void kill_one(struct trap *t, struct sig *g)
{
	struct space *s = t->s;
	if (g->target == t->pid) { /* itself: who calls is here, also a ghost that is to end like its body */
		trap_continue(t);
		return;
	}
	struct proc *p = proc_find(s, g->target);
	uint16_t node = s->self;
	if (p && p->r->kind == PREC_GHOST)
		node = p->r->node;
	else if (!p && owner_of(s, g->target) != s->self && nspid_outer(&s->ns, g->target) <= 0)
		node = owner_of(s, g->target);
	if (node == s->self)
		trap_continue(t);
	else
		kill_remote(t, g, node);
}

static int info_read(struct trap *t, uint64_t at, struct sig *g)
{
	siginfo_t info;
	int rc = rmem_read((pid_t)t->req.pid, (struct raddr){ at }, &info, sizeof info);
	if (rc < 0)
		return rc;
	g->flags |= SIG_QUEUE;
	g->code = info.si_code;
	g->value = (uint64_t)(uintptr_t)info.si_value.sival_ptr;
	return 0;
}

void trap_kill(struct trap *t)
{
	const uint64_t *a = (const uint64_t *)t->req.data.args;
	struct sig g = { .target = (int32_t)a[0], .signo = (int32_t)a[1], .code = SI_USER };
	int rc = 0;

	switch (t->req.data.nr) {
	case SYS_kill:
		break;
	case SYS_tkill:
		g.tid = g.target;
		break;
	case SYS_tgkill:
		g.tid = (int32_t)a[1];
		g.signo = (int32_t)a[2];
		break;
	case SYS_rt_sigqueueinfo:
		rc = info_read(t, a[2], &g);
		break;
	case SYS_rt_tgsigqueueinfo:
		g.tid = (int32_t)a[1];
		g.signo = (int32_t)a[2];
		rc = info_read(t, a[3], &g);
		break;
	default:
		break;
	}
	if (rc < 0 || g.signo < 0 || g.signo > 64 || !t->pid) {
		trap_continue(t); /* the kernel says what is wrong with it */
		return;
	}
	if (t->req.data.nr == SYS_kill && g.target <= 0) {
		if (g.target == -1) {
			struct sig all = g;
			if ((g.signo == SIGKILL || g.signo == SIGSTOP) && sender_fill(t, &all) == 0)
				group_force(t->s, -1, g.signo, &all);
			trap_continue(t);
			return;
		}
		kill_group(t, g.target == 0 ? 0 : -g.target, g.signo);
		return;
	}
	kill_one(t, &g);
}

void signal_start(struct space *s)
{
	links_handle_call(s->links, MSG_SIG_PROC, on_sig_proc, s);
	links_handle(s->links, MSG_SIG_GROUP, on_sig_group, s);
}
