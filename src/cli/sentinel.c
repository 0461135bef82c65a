#include "cli/sentinel.h"

#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Messages on the socket: 'q' asks for the signals that are pending (answered with a u64 of bits), 'w' with a descriptor watches, 'n' no
 * longer. The end of the stream is the client's death. */

struct sentinel_shared {
	atomic_int changed; /* the terminal is to be given back ... */
	struct termios modes; /* ... these modes */
};

enum { ANSWER_MS = 200 };

static uint64_t take_pending(void)
{
	sigset_t all;
	(void)sigfillset(&all);
	uint64_t got = 0;
	struct timespec none = { 0, 0 };
	int sig;
	while ((sig = sigtimedwait(&all, NULL, &none)) > 0)
		got |= 1ull << (unsigned)(sig - 1);
	return got;
}

static ssize_t message_get(int sock, char *ret, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl;
	struct iovec iov = { ret, 1 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.buf, .msg_controllen = sizeof ctl.buf };
	ssize_t n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
	struct cmsghdr *cm = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;
	if (cm && cm->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(cm), sizeof *ret_fd);
	return n;
}

static void give_back(const struct sentinel_shared *sh, int tty)
{
	if (tty >= 0 && atomic_load(&sh->changed) && tcgetpgrp(tty) == getpgrp())
		(void)tcsetattr(tty, TCSANOW, &sh->modes); /* a shell that manages the terminal has been quicker: then it is not ours */
}

static _Noreturn void sentinel_main(int sock, int tty, const struct sentinel_shared *sh, pid_t client)
{
	int watched = -1;
	(void)prctl(PR_SET_NAME, "pando-run"); /* for ps */
	(void)!chdir("/"); /* or it stays busy */
	for (;;) {
		struct pollfd p[2] = { { sock, POLLIN, 0 }, { watched, POLLIN, 0 } };
		if (poll(p, 2, -1) < 0)
			continue; /* EINTR: SIGCONT after a SIGSTOP to the group */
		if (p[1].revents) {
			(void)kill(client, SIGCONT);
			watched = close_fd(watched);
		}
		if (!p[0].revents)
			continue;
		char what = 0;
		int fd = -1;
		ssize_t n = message_get(sock, &what, &fd);
		if (n <= 0)
			break;
		watched = close_fd(watched); /* each message says what is to be watched from now on */
		if (what == 'w')
			watched = fd;
		uint64_t got = what == 'q' ? take_pending() : 0;
		if (what == 'q' && send(sock, &got, sizeof got, MSG_NOSIGNAL) < 0)
			break;
	}
	give_back(sh, tty);
	_exit(0);
}

/* Keeps nothing open that the command or its pipes may wait for. */
static void close_all_but(int sock, int tty)
{
	int low = tty >= 0 && tty < sock ? tty : sock, high = tty >= 0 && tty > sock ? tty : sock;
	if (low > 0)
		(void)close_range(0, (unsigned)low - 1, 0);
	if (high > low + 1)
		(void)close_range((unsigned)low + 1, (unsigned)high - 1, 0);
	(void)close_range((unsigned)high + 1, ~0u, 0);
}

int sentinel_start(struct sentinel *s, int tty, struct err *e)
{
	int sv[2];
	*s = (struct sentinel){ .sock = -1 };
	s->shared = mmap(NULL, sizeof *s->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s->shared == MAP_FAILED) {
		s->shared = NULL;
		return err_set(e, -errno, "mmap: %m");
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(e, -errno, "socketpair: %m");
	pid_t client = getpid(), pid = fork();
	if (pid < 0) {
		int rc = err_set(e, -errno, "fork: %m");
		(void)close(sv[0]);
		(void)close(sv[1]);
		return rc;
	}
	if (pid == 0) {
		close_all_but(sv[1], tty);
		sentinel_main(sv[1], tty, s->shared, client);
	}
	(void)close(sv[1]);
	s->pid = pid;
	s->sock = sv[0];
	return 0;
}

int sentinel_had(struct sentinel *s, int sig)
{
	uint64_t got = 0;
	struct pollfd p = { s->sock, POLLIN, 0 };
	if (s->pid == 0 || send(s->sock, "q", 1, MSG_NOSIGNAL) != 1 || poll(&p, 1, ANSWER_MS) != 1)
		return 0;
	if (recv(s->sock, &got, sizeof got, MSG_DONTWAIT) != (ssize_t)sizeof got)
		return 0;
	return (int)(got >> (sig - 1) & 1);
}

void sentinel_watch(struct sentinel *s, int fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl = {};
	char what[] = { fd >= 0 ? 'w' : 'n' };
	struct iovec iov = { what, 1 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (s->pid == 0)
		return;
	if (fd >= 0) {
		mh.msg_control = ctl.buf;
		mh.msg_controllen = sizeof ctl.buf;
		struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &fd, sizeof fd);
	}
	(void)sendmsg(s->sock, &mh, MSG_NOSIGNAL); /* without it the client stays stopped until somebody continues it */
}

void sentinel_modes(struct sentinel *s, const struct termios *modes)
{
	if (!s->shared)
		return;
	if (modes)
		s->shared->modes = *modes;
	atomic_store(&s->shared->changed, modes != NULL);
}

void sentinel_stop(struct sentinel *s)
{
	if (s->pid > 0) {
		(void)kill(s->pid, SIGKILL);
		(void)waitpid(s->pid, NULL, 0);
	}
	s->sock = close_fd(s->sock);
	if (s->shared)
		(void)munmap(s->shared, sizeof *s->shared);
	*s = (struct sentinel){ .sock = -1 };
}
