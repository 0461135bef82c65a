#include "dev/leash.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "dev/proc.h"

int leash_new(int *ret_ours, int *ret_theirs, struct err *e)
{
	int sv[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(e, -errno, "socketpair: %m");
	*ret_ours = sv[0];
	*ret_theirs = sv[1];
	return 0;
}

static void signals_default(void)
{
	for (int s = 1; s < NSIG; s++)
		(void)signal(s, SIG_DFL); /* fails for SIGKILL and SIGSTOP only */
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

int leash_detach(int log_fd, const int *keep, int n)
{
	signals_default();
	(void)setsid(); /* fails if we lead a group already, which a forked process does not */
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return -errno;
	if (dup2(null_fd, 0) < 0 || dup2(log_fd < 0 ? null_fd : log_fd, 1) < 0 ||
	    dup2(log_fd < 0 ? null_fd : log_fd, 2) < 0)
		return -errno;
	if (chdir("/") < 0)
		return -errno;
	if (syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return -errno;
	for (int k = 0; k < n; k++)
		if (fcntl(keep[k], F_SETFD, 0) < 0)
			return -errno;
	return 0;
}

int leash_ready(int leash_fd, int ms, const char *what, struct err *e)
{
	uint64_t until = clock_ms() + (uint64_t)ms;
	struct pollfd pf = { .fd = leash_fd, .events = POLLIN };
	int n;
	while ((n = poll(&pf, 1, proc_left(until))) < 0 && errno == EINTR)
		;
	if (n <= 0)
		return err_set(e, n < 0 ? -errno : -ETIMEDOUT, "%s is not ready after %d s", what, ms / 1000);
	char word[300];
	ssize_t got = recv(leash_fd, word, sizeof word - 1, 0);
	if (got <= 0)
		return err_set(e, -EPIPE, "%s ended before it was ready", what);
	word[got] = 0;
	if (strcmp(word, "ready") == 0)
		return 0;
	return err_set(e, -EIO, "%s: %s", what, strncmp(word, "no: ", 4) == 0 ? word + 4 : word);
}

int leash_say(int leash_fd, const char *word, struct err *e)
{
	if (send(leash_fd, word, strlen(word), MSG_NOSIGNAL) < 0)
		return err_set(e, -errno, "a helper of the cluster has ended unexpectedly");
	return 0;
}
