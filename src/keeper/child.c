#include "keeper/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

static struct rlimit g_files; /* what we were started with */

unsigned child_limits(void)
{
	if (getrlimit(RLIMIT_NOFILE, &g_files) < 0)
		g_files = (struct rlimit){ 1024, 1024 };
	/* Room for three full stores; as root more than our hard limit. */
	struct rlimit most = { 4 * 65536, 4 * 65536 };
	if (most.rlim_max < g_files.rlim_max)
		most.rlim_max = g_files.rlim_max;
	struct rlimit ours = { g_files.rlim_max, g_files.rlim_max };
	if (setrlimit(RLIMIT_NOFILE, &most) == 0)
		return (unsigned)most.rlim_cur;
	if (setrlimit(RLIMIT_NOFILE, &ours) < 0)
		return (unsigned)g_files.rlim_cur;
	return ours.rlim_cur < most.rlim_cur ? (unsigned)ours.rlim_cur : (unsigned)most.rlim_cur;
}

void child_find(struct child *c, const char *dir)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/%s", dir, c->name);
	c->conn.sock = -1;
	c->state = CHILD_STOPPED;
	if (n > 0 && (size_t)n < sizeof path && access(path, X_OK) == 0)
		return;
	c->state = CHILD_ABSENT;
	log_warn("%s is not in %s: going on without", c->name, dir);
}

void child_want(struct child *c, uint64_t now_ms)
{
	if (c->state != CHILD_STOPPED)
		return;
	c->state = CHILD_WAITING;
	c->start_ms = now_ms;
	c->backoff = (struct backoff){ 0 };
}

/* In the child: as if nobody had prepared anything for us alone, but for the socket and the end with the keeper. */
static int child_setup(pid_t keeper, int sock)
{
	char number[16];
	sigset_t none;
	for (int i = 1; i < NSIG; i++)
		(void)signal(i, SIG_DFL); /* fails for those that cannot be changed */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != keeper)
		return -ESRCH; /* it died before it could be told */
	(void)setrlimit(RLIMIT_NOFILE, &g_files);
	(void)snprintf(number, sizeof number, "%d", sock);
	if (fcntl(sock, F_SETFD, 0) < 0 || setenv("PANDO_KEEPER_FD", number, 1) < 0)
		return -errno;
	return 0;
}

static void child_exec(const char *path, char *const argv[], pid_t keeper, int sock)
{
	int rc = child_setup(keeper, sock);
	if (rc == 0) {
		(void)execv(path, argv);
		log_error("executing %s: %m", path);
	}
	_exit(127);
}

static void child_failed(struct child *c, int error, const char *what)
{
	c->state = CHILD_WAITING;
	c->start_ms = clock_ms() + BACKOFF_MAX_MS;
	log_error("%s: %s: %s, trying again in %d s", c->name, what, strerror(error), BACKOFF_MAX_MS / 1000);
}

void child_start(struct child *c, const char *dir, char *const argv[], const struct conn_ops *ops, void *ctx)
{
	_cleanup_(close_p) int theirs = -1;
	char path[PATH_MAX];
	(void)snprintf(path, sizeof path, "%s/%s", dir, c->name); /* child_find saw that it fits */
	int rc = conn_open(&c->conn, c->name, &c->store, ops, ctx, &theirs);
	if (rc < 0) {
		c->conn.sock = -1;
		child_failed(c, -rc, "socket");
		return;
	}
	pid_t keeper = getpid();
	pid_t pid = fork();
	if (pid == 0)
		child_exec(path, argv, keeper, theirs);
	if (pid < 0) {
		int error = errno;
		conn_close(&c->conn);
		child_failed(c, error, "fork");
		return;
	}
	(void)setpgid(pid, pid); /* whoever is first; EACCES when it was the child, which has executed its program already */
	c->pid = pid;
	c->task = record_task_of(pid);
	c->state = CHILD_RUNS;
	c->since_ms = clock_ms();
	log_debug("%s: pid %d", c->name, pid);
}

static void reason_make(char *ret, size_t size, int status)
{
	if (WIFSIGNALED(status))
		(void)snprintf(ret, size, "killed by signal %d (%s)%s", WTERMSIG(status), strsignal(WTERMSIG(status)),
			       WCOREDUMP(status) ? ", core dumped" : "");
	else
		(void)snprintf(ret, size, "exit status %d", WEXITSTATUS(status));
}

void child_ended(struct child *c, int status, int again)
{
	char reason[80];
	uint64_t now = clock_ms();
	reason_make(reason, sizeof reason, status);
	(void)kill(-c->pid, SIGKILL); /* the number is still taken by the zombie, so this is its group */
	conn_step(&c->conn, 1);
	conn_close(&c->conn);
	c->pid = 0;
	c->task = (struct record_task){ 0 };
	c->state = again ? CHILD_WAITING : CHILD_STOPPED;
	if (!again) {
		log_info("%s: %s", c->name, reason);
		return;
	}
	uint32_t wait_ms = backoff_step(&c->backoff, now - c->since_ms, status);
	c->start_ms = now + wait_ms;
	if (wait_ms)
		log_warn("%s has ended: %s; starting it again in %u ms", c->name, reason, wait_ms);
	else
		log_warn("%s has ended: %s; starting it again at once", c->name, reason);
}

void child_signal(const struct child *c, int signo, int group)
{
	if (c->state == CHILD_RUNS)
		(void)kill(group ? -c->pid : c->pid, signo); /* not reaped, so the number is its own */
}
