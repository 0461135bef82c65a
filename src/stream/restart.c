#include "stream/restart.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "stream/fuse_dev.h"

/* Happy path of one job: queued -> seized, asked to stop, request answered -> the stop is seen: result turned, detached. Failures:
 * it cannot be seized: only answered. It dies: waitpid says so. It is frozen (cgroup v1) before it stops: it stays seized until
 * it is thawed; the thread serves the others meanwhile. */

#define ERESTARTSYS_RESULT (-512L)

struct restart_job {
	uint32_t tid;
	uint64_t unique;
	struct restart_job *next;
};

struct restart {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t idle;
	unsigned n_queued;         /* under lock: not answered */
	struct restart_job *queue; /* under lock, in order */
	int is_ending;             /* under lock */
	int fuse_fd;               /* borrowed */
	int event_fd, signal_fd;   /* owned */
	unsigned n_seized;         /* the thread's */
	atomic_ullong turned, plain;
};

#ifdef __x86_64__
static int result_turn(pid_t tid)
{
	errno = 0;
	long nr = ptrace(PTRACE_PEEKUSER, tid, offsetof(struct user, regs.orig_rax), 0);
	long rax = ptrace(PTRACE_PEEKUSER, tid, offsetof(struct user, regs.rax), 0);
	if (errno || nr < 0 || rax != -EINTR)
		return -EINVAL;
	return ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, regs.rax), ERESTARTSYS_RESULT) < 0 ? -errno : 0;
}
enum { CAN_TURN = 1 };
#else
static int result_turn(pid_t tid)
{
	return -ENOSYS;
}
enum { CAN_TURN = 0 };
#endif

int restart_is_dying(uint32_t tid)
{
	char path[64], line[256];
	(void)snprintf(path, sizeof path, "/proc/%u/status", tid);
	_cleanup_(fclose_p) FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "SigPnd:", 7) == 0)
			return (strtoull(line + 7, NULL, 16) & (1ull << (SIGKILL - 1))) != 0;
	return 1;
}

static void job_run(struct restart *r, const struct restart_job *j)
{
	pid_t tid = (pid_t)j->tid;
	int seized = CAN_TURN && !restart_is_dying(j->tid) && ptrace(PTRACE_SEIZE, tid, 0, 0) == 0;
	if (seized && ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0) {
		(void)ptrace(PTRACE_DETACH, tid, 0, 0);
		seized = 0;
	}
	if (seized)
		r->n_seized++;
	else
		atomic_fetch_add(&r->plain, 1);
	(void)fuse_dev_reply(r->fuse_fd, j->unique, -EINTR, NULL, 0); /* -ENOENT: nobody waits any more */
}

static void stops_collect(struct restart *r)
{
	int st;
	pid_t tid;
	while (r->n_seized && (tid = waitpid(-1, &st, __WALL | WNOHANG | __WNOTHREAD)) > 0) {
		if (!WIFSTOPPED(st)) {
			r->n_seized--; /* it died */
			continue;
		}
		/* Either the stop we asked for, or that of a signal which came first: that one is handed on. */
		int sig = st >> 16 == PTRACE_EVENT_STOP ? 0 : WSTOPSIG(st);
		atomic_fetch_add(result_turn(tid) == 0 ? &r->turned : &r->plain, 1);
		(void)ptrace(PTRACE_DETACH, tid, 0, sig);
		r->n_seized--;
	}
}

static struct restart_job *queue_take(struct restart *r, int *ret_ending)
{
	uint64_t n;
	(void)!read(r->event_fd, &n, sizeof n); /* only resets it */
	(void)pthread_mutex_lock(&r->lock);
	struct restart_job *list = r->queue;
	r->queue = NULL;
	*ret_ending = r->is_ending;
	(void)pthread_mutex_unlock(&r->lock);
	return list;
}

static void job_finished(struct restart *r)
{
	(void)pthread_mutex_lock(&r->lock);
	if (--r->n_queued == 0)
		(void)pthread_cond_broadcast(&r->idle);
	(void)pthread_mutex_unlock(&r->lock);
}

static void *restart_main(void *arg)
{
	struct restart *r = arg;
	struct pollfd p[2] = { { .fd = r->event_fd, .events = POLLIN }, { .fd = r->signal_fd, .events = POLLIN } };
	for (int ending = 0; !ending || r->n_seized;) {
		/* A stop may be reported late or with a lost signal only if the kernel is wrong; a second look costs nothing. */
		int n = poll(p, 2, r->n_seized ? 1000 : -1);
		if (n < 0 && errno != EINTR)
			break;
		struct signalfd_siginfo si;
		while (read(r->signal_fd, &si, sizeof si) > 0)
			;
		struct restart_job *j = queue_take(r, &ending), *next;
		for (; j; j = next) {
			next = j->next;
			job_run(r, j);
			free(j);
			job_finished(r);
		}
		stops_collect(r);
		if (ending && r->n_seized)
			break; /* the exit of this thread lets them go; they see EINTR */
	}
	return NULL;
}

static int restart_start(struct restart *r)
{
	sigset_t chld, old;
	(void)sigemptyset(&chld);
	(void)sigaddset(&chld, SIGCHLD);
	/* Blocked in all threads of the process from here on, so that it stays pending for the signalfd. */
	(void)pthread_sigmask(SIG_BLOCK, &chld, &old);
	r->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->signal_fd = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	if (r->event_fd < 0 || r->signal_fd < 0)
		return -errno;
	return -pthread_create(&r->thread, NULL, restart_main, r);
}

int restart_new(int fuse_fd, struct restart **ret, struct err *e)
{
	struct restart *r = calloc(1, sizeof *r);
	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	r->fuse_fd = fuse_fd;
	r->event_fd = r->signal_fd = -1;
	(void)pthread_mutex_init(&r->lock, NULL);
	(void)pthread_cond_init(&r->idle, NULL);
	int rc = restart_start(r);
	if (rc < 0) {
		(void)close_fd(r->event_fd);
		(void)close_fd(r->signal_fd);
		free(r);
		return err_set(e, rc, "start the thread for restarts: %s", strerror(-rc));
	}
	*ret = r;
	return 0;
}

static void wake(struct restart *r)
{
	uint64_t one = 1;
	(void)!write(r->event_fd, &one, sizeof one); /* full means it is awake anyway */
}

int restart_answer(struct restart *r, uint32_t tid, uint64_t unique)
{
	struct restart_job *j = calloc(1, sizeof *j);
	if (!j)
		return -ENOMEM;
	*j = (struct restart_job){ .tid = tid, .unique = unique };
	(void)pthread_mutex_lock(&r->lock);
	LL_APPEND(r->queue, j);
	r->n_queued++;
	(void)pthread_mutex_unlock(&r->lock);
	wake(r);
	return 0;
}

void restart_flush(struct restart *r)
{
	(void)pthread_mutex_lock(&r->lock);
	while (r->n_queued)
		(void)pthread_cond_wait(&r->idle, &r->lock);
	(void)pthread_mutex_unlock(&r->lock);
}

void restart_close(struct restart *r)
{
	if (!r)
		return;
	(void)pthread_mutex_lock(&r->lock);
	r->is_ending = 1;
	(void)pthread_mutex_unlock(&r->lock);
	wake(r);
	(void)pthread_join(r->thread, NULL);
	(void)close_fd(r->event_fd);
	(void)close_fd(r->signal_fd);
	(void)pthread_mutex_destroy(&r->lock);
	free(r);
}

void restart_counts(const struct restart *r, uint64_t *ret_turned, uint64_t *ret_plain)
{
	*ret_turned = atomic_load(&r->turned);
	*ret_plain = atomic_load(&r->plain);
}
