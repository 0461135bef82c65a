/* Tasks that are held by ptrace while they arrive or become ghosts. SIGCHLD coalesces, so on each one every held task is asked by
 * its own number (0.85 us each); there are few at a time. */
#include "space/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <utlist.h>

#include "base/log.h"

static void tracees_ask(struct space *s)
{
	struct tracee *t, *tmp;
	DL_FOREACH_SAFE(s->tracees, t, tmp) {
		int status;
		pid_t got = waitpid(t->tid, &status, WNOHANG | __WALL);
		if (got == t->tid) {
			t->fn(t->ctx, t, status);
			/* fn may have freed others: start again */
			tmp = s->tracees;
		} else if (got < 0 && errno == ECHILD) {
			t->fn(t->ctx, t, SIGKILL); /* no such task any more: its number went to another in an exec */
			tmp = s->tracees;
		}
	}
}

static void on_sigchld(uv_signal_t *h, int signo)
{
	(void)signo;
	tracees_ask(h->data);
}

int trace_start(struct space *s, struct err *e)
{
	int rc = uv_signal_init(s->loop, &s->sigchld);
	if (rc == 0) {
		s->sigchld.data = s;
		rc = uv_signal_start(&s->sigchld, on_sigchld, SIGCHLD);
	}
	return rc < 0 ? err_set(e, rc, "SIGCHLD: %s", uv_strerror(rc)) : 0;
}

int trace_seize(struct space *s, pid_t tid, long options, trace_fn fn, void *ctx, struct tracee **ret)
{
	struct tracee *t = malloc(sizeof *t);
	if (!t)
		return -ENOMEM;
	if (ptrace(PTRACE_SEIZE, tid, 0, options) < 0) {
		int rc = -errno;
		free(t);
		return rc;
	}
	*t = (struct tracee){ .s = s, .tid = tid, .fn = fn, .ctx = ctx };
	DL_APPEND(s->tracees, t);
	*ret = t;
	return 0;
}

void trace_forget(struct tracee *t)
{
	DL_DELETE(t->s->tracees, t);
	free(t);
}

void trace_detach(struct tracee *t, int signal)
{
	if (ptrace(PTRACE_DETACH, t->tid, 0, signal) < 0 && errno != ESRCH)
		log_warn("ptrace: cannot detach from %d: %m", t->tid);
	trace_forget(t);
}

static void released(void *ctx, struct tracee *t, int status)
{
	(void)ctx;
	if (!WIFSTOPPED(status)) {
		trace_forget(t);
		return;
	}
	int event = status >> 16, sig = WSTOPSIG(status);
	trace_detach(t, event == 0 && sig != SIGTRAP ? sig : 0);
}

void trace_release(struct tracee *t)
{
	t->fn = released;
	t->ctx = NULL;
	if (ptrace(PTRACE_INTERRUPT, t->tid, 0, 0) < 0)
		trace_forget(t);
}

void trace_end(struct space *s)
{
	struct tracee *t, *tmp;
	DL_FOREACH_SAFE(s->tracees, t, tmp)
		trace_forget(t);
}
