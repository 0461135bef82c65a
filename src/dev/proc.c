#include "dev/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"

enum { RUN_MS = 10000 };

ssize_t file_read(int at_fd, const char *path, char *buf, size_t size)
{
	_cleanup_(close_p) int fd = openat(at_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	size_t at = 0;
	while (at < size - 1) {
		ssize_t n = read(fd, buf + at, size - 1 - at);
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		at += (size_t)n;
	}
	buf[at] = 0;
	return (ssize_t)at;
}

int file_write(const char *path, const char *text)
{
	_cleanup_(close_p) int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, text, strlen(text));
	return n < 0 ? -errno : n == (ssize_t)strlen(text) ? 0 : -EIO;
}

int proc_identify(pid_t pid, struct dev_proc *ret)
{
	char path[40], text[1024];
	(void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (pid <= 0 || file_read(AT_FDCWD, path, text, sizeof text) <= 0)
		return -ESRCH;

	/* The name may hold anything, parentheses too: the fields start after the last one. */
	const char *p = strrchr(text, ')');
	char state = 0;
	unsigned long long start = 0;
	if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
			 &state, &start) != 2)
		return -ESRCH;
	if (state == 'Z' || state == 'X')
		return -ESRCH;
	*ret = (struct dev_proc){ .pid = pid, .start = start };
	return 0;
}

int proc_alive(const struct dev_proc *p)
{
	struct dev_proc now;
	return p->pid > 0 && proc_identify(p->pid, &now) == 0 && now.start == p->start;
}

int proc_open(const struct dev_proc *p, int *ret_fd)
{
	if (p->pid <= 0)
		return -ESRCH;
	_cleanup_(close_p) int fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	if (fd < 0)
		return -errno;
	/* The check comes after the open: from here on the number cannot be somebody else's. */
	if (!proc_alive(p))
		return -ESRCH;
	*ret_fd = take_fd(&fd);
	return 0;
}

int proc_netns(const struct dev_proc *p, int *ret_fd, struct err *e)
{
	char path[40];
	(void)snprintf(path, sizeof path, "/proc/%d/ns/net", (int)p->pid);
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "open %s: %m", path);
	if (!proc_alive(p))
		return err_set(e, -ESRCH, "process %d is gone", (int)p->pid);
	*ret_fd = take_fd(&fd);
	return 0;
}

int proc_wait_gone(int pidfd, int ms)
{
	struct pollfd pf = { .fd = pidfd, .events = POLLIN };
	uint64_t until = clock_ms() + (uint64_t)ms;
	for (;;) {
		int n = poll(&pf, 1, proc_left(until));
		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

int proc_left(uint64_t until_ms)
{
	uint64_t now = clock_ms();
	if (now >= until_ms)
		return 0;
	return until_ms - now > 1000000 ? 1000000 : (int)(until_ms - now);
}

void proc_nap(unsigned *step)
{
	*step = *step == 0 ? 1 : *step >= 20 ? 20 : *step * 2;
	struct timespec ts = { .tv_nsec = (long)*step * 1000000 };
	(void)nanosleep(&ts, NULL);
}

__attribute__((noreturn)) static void run_child(int netns_fd, char *const argv[], int sock)
{
	if (netns_fd >= 0 && setns(netns_fd, CLONE_NEWNET) < 0)
		_exit(126);
	if (dup2(sock, 0) < 0 || dup2(sock, 1) < 0 || dup2(sock, 2) < 0)
		_exit(126);
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* cannot fail for a valid signal */
	execvp(argv[0], argv);
	_exit(errno == ENOENT ? 127 : 126);
}

/* Gives the input, takes what the program says (its last bytes are dropped when there are many) until it closes its
 * end. */
static int run_talk(int sock, const char *input, char *said, size_t size, uint64_t until)
{
	size_t left = input ? strlen(input) : 0, got = 0;
	for (;;) {
		if (left == 0)
			(void)shutdown(sock, SHUT_WR); /* again and again is harmless */
		struct pollfd pf = { .fd = sock, .events = (short)(POLLIN | (left > 0 ? POLLOUT : 0)) };
		int n = poll(&pf, 1, proc_left(until));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ETIMEDOUT;
		if (left > 0 && (pf.revents & POLLOUT)) {
			ssize_t w = send(sock, input, left, MSG_NOSIGNAL | MSG_DONTWAIT);
			if (w < 0)
				left = 0; /* it does not read: its exit status will tell */
			else {
				input += w;
				left -= (size_t)w;
			}
		}
		if (pf.revents & (POLLIN | POLLHUP)) {
			char drop[256];
			int room = got < size - 1;
			ssize_t r = room ? read(sock, said + got, size - 1 - got) : read(sock, drop, sizeof drop);
			if (r <= 0)
				break;
			got += room ? (size_t)r : 0;
		}
	}
	said[got] = 0;
	while (got > 0 && said[got - 1] == '\n')
		said[--got] = 0;
	return 0;
}

int proc_run(int netns_fd, char *const argv[], const char *input, struct err *e)
{
	int sv[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(e, -errno, "socketpair: %m");
	_cleanup_(close_p) int sock = sv[0];
	pid_t pid = fork();
	if (pid == 0)
		run_child(netns_fd, argv, sv[1]);
	int fork_errno = errno;
	(void)close(sv[1]);
	if (pid < 0)
		return err_set(e, -fork_errno, "fork: %s", strerror(fork_errno));

	char said[400] = "";
	int rc = run_talk(sock, input, said, sizeof said, clock_ms() + RUN_MS);
	if (rc < 0)
		(void)kill(pid, SIGKILL);
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (rc < 0)
		return err_set(e, rc, "%s: %s", argv[0], strerror(-rc));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127 && !said[0])
		return err_set(e, -ENOENT, "%s: not found (is its package installed?)", argv[0]);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(e, -EIO, "%s failed: %s", argv[0], said[0] ? said : "without a word");
	return 0;
}
