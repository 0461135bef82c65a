#include "space/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

struct proc *proc_find(struct space *s, int32_t pid)
{
	struct proc *p;
	HASH_FIND_INT(s->procs, &pid, p);
	return p;
}

static struct prec *prec_take(struct space *s)
{
	for (uint32_t i = 0; i < SHARED_PROCS; i++) {
		struct prec *r = &s->sh->procs[(s->shared_hint + i) % SHARED_PROCS];
		if (r->kind == PREC_FREE) {
			s->shared_hint = (s->shared_hint + i + 1) % SHARED_PROCS;
			memset(r, 0, sizeof *r);
			return r;
		}
	}
	return NULL;
}

static void pid_tell(struct space *s, const struct proc *p)
{
	if (!s->cfg.pid_changed)
		return;
	if (p->r->kind == PREC_GHOST)
		s->cfg.pid_changed(s->cfg.ctx, p->pid, 1, p->r->node);
	else
		s->cfg.pid_changed(s->cfg.ctx, p->pid, 0, s->self);
}

static struct proc *proc_wrap(struct space *s, struct prec *r)
{
	struct proc *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->pid = r->pid;
	p->r = r;
	p->pidfd = -1;
	HASH_ADD_INT(s->procs, pid, p);
	return p;
}

struct proc *proc_new(struct space *s, int32_t pid, enum prec_kind kind, uint16_t node)
{
	struct prec *r = prec_take(s);
	if (!r)
		return NULL;
	r->pid = pid;
	r->node = node;
	r->kind = (uint8_t)kind; /* last: from here on a successor sees it */
	struct proc *p = proc_wrap(s, r);
	if (!p) {
		r->kind = PREC_FREE;
		return NULL;
	}
	pid_tell(s, p);
	return p;
}

void proc_become(struct space *s, struct proc *p, enum prec_kind kind, uint16_t node)
{
	p->r->node = node;
	p->r->kind = (uint8_t)kind;
	pid_tell(s, p);
}

static void end_closed(uv_handle_t *h)
{
	free(h);
}

static void waiters_run(struct proc *p, int status)
{
	struct waiter *w = take_ptr(p->waiters);
	while (w) {
		struct waiter *next = w->next;
		w->fn(w->ctx, status == 0 ? p : NULL, status);
		free(w);
		w = next;
	}
}

void proc_forget(struct space *s, struct proc *p)
{
	HASH_DEL(s->procs, p);
	if (p->end) {
		(void)uv_poll_stop(p->end);
		uv_close((uv_handle_t *)p->end, end_closed);
		p->end = NULL;
	}
	p->pidfd = close_fd(p->pidfd);
	if (s->cfg.pid_changed)
		s->cfg.pid_changed(s->cfg.ctx, p->pid, 0, 0);
	p->r->kind = PREC_FREE;

	struct command current = p->current;
	if (current.cmd.op && current.done)
		current.done(current.ctx, NULL, -ESRCH);
	for (unsigned i = 0; i < p->n_queue; i++)
		if (p->queue[i].done)
			p->queue[i].done(p->queue[i].ctx, NULL, -ESRCH);
	waiters_run(p, -ESRCH);
	free(p);
}

pid_t proc_outer(struct space *s, struct proc *p)
{
	if (p->outer <= 0)
		p->outer = nspid_outer(&s->ns, p->pid);
	return p->outer;
}

void proc_wake(struct space *s, struct proc *p)
{
	if (!p->is_idle)
		return;
	siginfo_t info;
	memset(&info, 0, sizeof info);
	info.si_signo = STUB_WAKE_SIGNAL;
	info.si_code = STUB_WAKE_CODE;
	pid_t outer = proc_outer(s, p);
	if (outer <= 0)
		return;
	if (syscall(SYS_rt_sigqueueinfo, outer, STUB_WAKE_SIGNAL, &info) < 0)
		log_debug("pid %d: cannot be woken: %m", p->pid);
	else
		p->is_idle = 0;
}

int proc_command(struct space *s, struct proc *p, struct stub_cmd cmd, proc_done_fn done, void *ctx)
{
	if (p->n_queue == PROC_QUEUE)
		return -EBUSY;
	p->queue[p->n_queue++] = (struct command){ cmd, done, ctx };
	proc_wake(s, p);
	return 0;
}

int proc_when_ready(struct space *s, struct proc *p, void (*fn)(void *ctx, struct proc *p, int status), void *ctx)
{
	(void)s;
	if (p->is_settled) {
		fn(ctx, p, 0);
		return 0;
	}
	struct waiter *w = malloc(sizeof *w);
	if (!w)
		return -ENOMEM;
	*w = (struct waiter){ fn, ctx, p->waiters };
	p->waiters = w;
	return 0;
}

void proc_settle(struct proc *p)
{
	p->is_settled = 1;
	waiters_run(p, 0);
}

struct end_watch {
	uv_poll_t poll; /* first: freed as the handle */
	struct space *s;
	int32_t pid;
};

static void end_seen(uv_poll_t *h, int status, int events)
{
	struct end_watch *e = (struct end_watch *)(void *)h;
	(void)status;
	(void)events;
	(void)uv_poll_stop(h);
	struct proc *p = proc_find(e->s, e->pid);
	if (p && p->end == h)
		proc_ended(e->s, p);
}

int proc_watch_end(struct space *s, struct proc *p)
{
	if (p->end)
		return 0;
	pid_t outer = proc_outer(s, p);
	if (outer <= 0)
		return -ESRCH;
	p->pidfd = (int)syscall(SYS_pidfd_open, outer, 0);
	if (p->pidfd < 0)
		return -errno;
	struct end_watch *e = calloc(1, sizeof *e);
	if (!e)
		return -ENOMEM;
	e->s = s;
	e->pid = p->pid;
	int rc = uv_poll_init(s->loop, &e->poll, p->pidfd);
	if (rc < 0) {
		free(e);
		return rc;
	}
	p->end = &e->poll;
	return uv_poll_start(p->end, UV_READABLE, end_seen);
}

void table_end(struct space *s)
{
	struct proc *p, *tmp;
	HASH_ITER(hh, s->procs, p, tmp) {
		HASH_DEL(s->procs, p);
		if (p->end)
			uv_close((uv_handle_t *)p->end, end_closed);
		(void)close_fd(p->pidfd);
		while (p->waiters) {
			struct waiter *w = p->waiters;
			p->waiters = w->next;
			free(w);
		}
		if (p->session)
			session_free(p->session);
		free(p->getting);
		free(p);
	}
}

void table_reload(struct space *s)
{
	for (uint32_t i = 0; i < SHARED_PROCS; i++) {
		struct prec *r = &s->sh->procs[i];
		if (r->kind == PREC_FREE)
			continue;
		struct proc *p = proc_wrap(s, r);
		if (!p)
			continue;
		p->is_ready = p->is_settled = 1;
		p->is_idle = 1; /* a wake-up too many does no harm */
		pid_tell(s, p);
		if (proc_watch_end(s, p) == -ESRCH)
			proc_ended(s, p);
	}
}
