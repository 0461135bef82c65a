/* Listeners: each trapped call is received into the journal, so that a successor of this pandod answers what we took and could
 * not answer, and handed to the file that knows the call. */
#include "space/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "kern/rmem.h"

enum { WATCH_BATCH = 64 };

static struct jrec *journal_take(struct space *s)
{
	for (uint32_t i = 0; i < SHARED_JOURNAL; i++) {
		struct jrec *j = &s->sh->journal[(s->journal_hint + i) % SHARED_JOURNAL];
		if (!j->used) {
			s->journal_hint = (s->journal_hint + i + 1) % SHARED_JOURNAL;
			return j;
		}
	}
	return NULL;
}

static void journal_free(struct trap *t)
{
	if (t->j)
		t->j->used = 0;
	t->j = NULL;
}

void trap_continue(struct trap *t)
{
	(void)notify_continue(t->w->fd, t->req.id); /* -ENOENT: the caller died, nobody waits */
	journal_free(t);
}

void trap_return(struct trap *t, int64_t val, int error)
{
	(void)notify_return(t->w->fd, t->req.id, val, error);
	journal_free(t);
}

int trap_valid(const struct trap *t)
{
	return notify_valid(t->w->fd, t->req.id);
}

/* A process that asks for a command and that we have no record of: a child that was forked without a number. */
static struct proc *stranger_adopt(struct trap *t)
{
	struct watch *w = t->w;
	if (w->any_placing) {
		struct proc *g = proc_new(t->s, t->pid, PREC_GHOST, t->s->self);
		if (g) {
			g->r->watch = w->index;
			g->outer = (pid_t)t->req.pid;
			place_bind(take_ptr(w->any_placing), g);
		}
		return proc_find(t->s, t->pid);
	}
	if (!w->any)
		return NULL;
	struct proc *p = proc_new(t->s, t->pid, PREC_LOCAL, t->s->self);
	if (p) {
		p->arrival = take_ptr(w->any);
		p->r->watch = w->index;
		p->outer = (pid_t)t->req.pid;
		arrive_bind(p->arrival, p);
	}
	return p;
}

static void fd_give(struct trap *t, int fd)
{
	int rc = notify_addfd(t->w->fd, t->req.id, fd, -1, 1, 0);
	trap_return(t, rc < 0 ? 0 : rc, rc < 0 ? -rc : 0);
}

static void report_take(struct trap *t)
{
	struct space *s = t->s;
	struct proc *p = proc_find(s, t->pid);
	if (!p && t->req.data.args[0] == STUB_NEXT)
		p = stranger_adopt(t);
	if (!p) { /* a program that calls this number for fun, or a ghost that was given up */
		trap_return(t, 0, ENOSYS);
		return;
	}
	if (p->outer <= 0)
		p->outer = (pid_t)t->req.pid;
	switch ((enum stub_report)t->req.data.args[0]) {
	case STUB_NEXT:
		ghost_next(t, p, (int64_t)t->req.data.args[2]);
		return;
	case STUB_SIGNAL:
		ghost_signal(t, p);
		return;
	case STUB_CHILD:
		ghost_child(t, p);
		return;
	case STUB_FD:
		if (p->arrival)
			arrive_fd(t, p->arrival);
		else if (session_tty(p) >= 0)
			fd_give(t, session_tty(p));
		else
			trap_return(t, 0, EBADF);
		return;
	case STUB_FAILED:
		if (p->arrival)
			arrive_failed(t, p->arrival);
		else
			trap_return(t, 0, 0);
		return;
	}
	trap_return(t, 0, ENOSYS);
}

static void trap_dispatch(struct trap *t)
{
	int pid = nspid_tgid(&t->s->ns, (pid_t)t->req.pid);
	t->pid = pid > 0 ? pid : 0;
	switch (t->req.data.nr) {
	case PANDO_NR:
		report_take(t);
		return;
	case SYS_execve:
	case SYS_execveat:
		trap_exec(t);
		return;
	case SYS_kill:
	case SYS_tkill:
	case SYS_tgkill:
	case SYS_rt_sigqueueinfo:
	case SYS_rt_tgsigqueueinfo:
		trap_kill(t);
		return;
	case SYS_fstat:
	case SYS_newfstatat:
	case SYS_statx:
		trap_stat(t);
		return;
	default:
		trap_continue(t);
	}
}

static int watch_take_one(struct watch *w)
{
	struct space *s = w->s;
	struct jrec *j = journal_take(s);
	if (!j)
		return -EAGAIN; /* 4096 calls under way: let those end first */
	struct seccomp_notif *req = &j->req;
	int rc = notify_recv(w->fd, req); /* straight into shared memory */
	if (rc < 0)
		return rc;
	j->watch = w->index;
	j->used = 1;
	struct trap t = { .s = s, .w = w, .j = j, .req = *req };
	trap_dispatch(&t);
	return 0;
}

static void watch_closed(uv_handle_t *h)
{
	struct watch *w = h->data;
	free(w);
}

static void watch_readable(uv_poll_t *h, int status, int events)
{
	struct watch *w = h->data;
	(void)events;
	/* The kernel's poll of a listener answers EPOLLERR when a signal (our SIGCHLD) interrupts its wait for the list's lock, and
	 * libuv then stops the handle with EBADF: that is no end. Only EPOLLHUP is. */
	if (status < 0)
		(void)uv_poll_start(h, UV_READABLE | UV_DISCONNECT, watch_readable);
	for (int i = 0; i < WATCH_BATCH; i++) {
		int rc = watch_take_one(w);
		if (rc == -EAGAIN)
			return;
		if (rc == -EPIPE) { /* the last task of the session is gone */
			watch_free(w, watch_closed);
			return;
		}
	}
}

void watch_free(struct watch *w, uv_close_cb cb)
{
	struct space *s = w->s;
	char name[32];
	(void)snprintf(name, sizeof name, "watch-%u", w->index);
	(void)s->cfg.keep.drop(s->cfg.keep.ctx, name);
	s->watches[w->index] = NULL;
	uv_close((uv_handle_t *)&w->poll, cb ? cb : watch_closed); /* before the descriptor: it leaves the epoll set by its number */
	w->fd = close_fd(w->fd);
}

void watch_end(struct space *s)
{
	for (uint32_t i = 0; i < SHARED_WATCHES; i++) {
		struct watch *w = s->watches[i];
		if (!w)
			continue;
		s->watches[i] = NULL;
		uv_close((uv_handle_t *)&w->poll, watch_closed);
		w->fd = close_fd(w->fd);
	}
}

static int watch_open(struct space *s, uint32_t index, int fd, int32_t sid, struct watch **ret)
{
	struct watch *w = calloc(1, sizeof *w);
	if (!w)
		return -ENOMEM;
	*w = (struct watch){ .s = s, .index = index, .fd = fd, .sid = sid };
	int rc = uv_poll_init(s->loop, &w->poll, fd);
	if (rc < 0) {
		free(w);
		return rc;
	}
	w->poll.data = w;
	s->watches[index] = w;
	notify_sync(fd);
	rc = uv_poll_start(&w->poll, UV_READABLE | UV_DISCONNECT, watch_readable);
	*ret = w;
	return rc;
}

int watch_add(struct space *s, int fd, int32_t sid, struct watch **ret, struct err *e)
{
	for (uint32_t i = 0; i < SHARED_WATCHES; i++) {
		uint32_t index = (s->watch_hint + i) % SHARED_WATCHES;
		if (s->watches[index])
			continue;
		s->watch_hint = index + 1;
		char name[32];
		(void)snprintf(name, sizeof name, "watch-%u", index);
		int rc = s->cfg.keep.put(s->cfg.keep.ctx, name, fd);
		if (rc == 0)
			rc = watch_open(s, index, fd, sid, ret);
		return rc < 0 ? err_set(e, rc, "session %d: listener: %s", sid, strerror(-rc)) : 0;
	}
	return err_set(e, -EMFILE, "session %d: %d sessions are the limit of a node", sid, SHARED_WATCHES);
}

static void kept_reopen(void *arg, const char *name, int fd)
{
	struct space *s = arg;
	struct watch *w;
	unsigned index = (unsigned)atoi(name + strlen("watch-"));
	if (index >= SHARED_WATCHES || s->watches[index] || watch_open(s, index, fd, 0, &w) < 0)
		(void)close_fd(fd);
}

void watch_reload(struct space *s)
{
	s->cfg.keep.each(s->cfg.keep.ctx, "watch-", kept_reopen, s);
	/* What the predecessor received and did not answer. */
	for (uint32_t i = 0; i < SHARED_JOURNAL; i++) {
		struct jrec *j = &s->sh->journal[i];
		if (!j->used)
			continue;
		struct watch *w = j->watch < SHARED_WATCHES ? s->watches[j->watch] : NULL;
		if (!w || notify_valid(w->fd, j->req.id) < 0) {
			j->used = 0;
			continue;
		}
		struct trap t = { .s = s, .w = w, .j = j, .req = j->req };
		trap_dispatch(&t);
	}
}
