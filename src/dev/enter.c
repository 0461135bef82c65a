#include "dev/enter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "dev/init.h"
#include "dev/proc.h"

enum {
	NODE_NAMESPACES =
	    CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWTIME
};

/* What the process between tells its starter: the command's pid, or why there is none; a pty's master comes along. */
struct report {
	pid_t pid;
	struct err e;
};

static void report_send(int sock, const struct report *r, int master)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct report copy = *r;
	struct iovec iov = { .iov_base = &copy, .iov_len = sizeof copy };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (master >= 0) {
		m.msg_control = control;
		m.msg_controllen = sizeof control;
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &master, sizeof(int));
	}
	(void)sendmsg(sock, &m, MSG_NOSIGNAL); /* a starter that is gone need not know */
}

static int report_recv(int sock, struct report *r, int *ret_master)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = r, .iov_len = sizeof *r };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
	};
	ssize_t n;
	while ((n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
		;
	*ret_master = -1;
	struct cmsghdr *h = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
		memcpy(ret_master, CMSG_DATA(h), sizeof(int));
	return n == (ssize_t)sizeof *r ? 0 : -EPIPE;
}

/* A terminal of the node: we are in its mount namespace. */
static int pty_open(int *ret_master, int *ret_slave, struct err *e)
{
	int unlock = 0;
	int master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return err_set(e, -errno, "a terminal in the node: %m");
	*ret_slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*ret_slave < 0)
		return err_set(e, -errno, "a terminal in the node: %m");
	*ret_master = master;
	return 0;
}

__attribute__((noreturn)) static void command(const struct trial *c, unsigned i, const struct enter *how, int slave)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)setsid();
	if (slave >= 0)
		(void)ioctl(slave, TIOCSCTTY, 0);
	int ok = 1;
	for (int k = 0; k < 3; k++) /* the sources are all above 2, or in their place: see enter_spawn */
		ok = ok && (slave >= 0         ? dup2(slave, k)
			    : how->fds[k] == k ? fcntl(k, F_SETFD, 0)
					       : dup2(how->fds[k], k)) >= 0;
	if (!ok || env_setup(c, i) < 0)
		_exit(126);
	if (!how->cwd || chdir(how->cwd) < 0)
		(void)chdir("/");
	for (int s = 1; s < NSIG; s++)
		/* These four stay ignored if they are, as everywhere; but at a new terminal its keys work. */
		if (slave >= 0 ? s != SIGPIPE && s != SIGHUP
			       : s != SIGPIPE && s != SIGHUP && s != SIGINT && s != SIGQUIT)
			(void)signal(s, SIG_DFL);
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(how->argv[0], how->argv);
	int status = errno == ENOENT ? 127 : 126;
	(void)fprintf(stderr, "pando: dev exec: %s: %s\n", how->argv[0], strerror(errno));
	_exit(status);
}

/* Goes into the node's cgroups and namespaces and forks the command there, as a child of the starter (a new pid
 * namespace counts for children only, and the starter stays where it is). */
__attribute__((noreturn)) static void between(const struct trial *c, const struct cg *cg, unsigned i,
					      const struct enter *how, int pidfd, int sock)
{
	struct report r = { 0 };
	int master = -1, slave = -1;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	int rc = cg_join(cg, c->name, (int)i, 1, &r.e);
	if (rc == 0 && setns(pidfd, NODE_NAMESPACES) < 0)
		rc = err_set(&r.e, -errno, "enter the namespaces of node %u: %m", i);
	if (rc == 0 && how->pty)
		rc = pty_open(&master, &slave, &r.e);
	if (rc == 0) {
		struct clone_args args = { .flags = CLONE_PARENT }; /* its exit signal is ours: SIGCHLD */
		long pid = syscall(SYS_clone3, &args, sizeof args);
		if (pid == 0)
			command(c, i, how, slave);
		if (pid < 0)
			rc = err_set(&r.e, -errno, "fork: %m");
		r.pid = (pid_t)pid;
	}
	if (rc < 0)
		r.pid = 0;
	report_send(sock, &r, master);
	_exit(0);
}

int enter_spawn(const struct trial *c, const struct cg *cg, unsigned i, const struct enter *how, pid_t *ret_pid,
		int *ret_master, struct err *e)
{
	_cleanup_(close_p) int pidfd = -1, ours = -1, theirs = -1;
	if (i < 1 || i > c->n)
		return err_set(e, -EINVAL, "\"%s\" has nodes 1 to %u", c->name, c->n);
	if (proc_open(&c->node[i].init, &pidfd) < 0)
		return err_set(e, -ESRCH, "node %u is off; turn it on with: pando dev start %u --name %s", i, i,
			       c->name);
	if (c->node[i].frozen)
		return err_set(e, -EAGAIN, "node %u is frozen; let it go on with: pando dev thaw %u --name %s", i, i,
			       c->name);
	int sv[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(e, -errno, "socketpair: %m");
	ours = sv[0];
	theirs = sv[1];
	pid_t helper = fork();
	if (helper == 0)
		between(c, cg, i, how, pidfd, theirs);
	if (helper < 0)
		return err_set(e, -errno, "fork: %m");
	theirs = close_fd(theirs);
	struct report r = { 0 };
	int rc = report_recv(ours, &r, ret_master);
	int status;
	while (waitpid(helper, &status, 0) < 0 && errno == EINTR)
		;
	if (rc < 0)
		return err_set(e, -ESRCH, "node %u went off", i);
	if (r.pid <= 0)
		return err_set(e, r.e.code ? r.e.code : -EIO, "%s", r.e.text);
	*ret_pid = r.pid;
	return 0;
}

/* Takes what is there; 0 at the end. */
static int take(int fd, char *buf, size_t size, size_t *n)
{
	char drop[1024];
	int room = *n < size - 1;
	ssize_t r = room ? read(fd, buf + *n, size - 1 - *n) : read(fd, drop, sizeof drop);
	if (r < 0 && errno == EINTR)
		return 1;
	if (r > 0 && room)
		*n += (size_t)r;
	return r > 0;
}

int enter_capture(const struct trial *c, const struct cg *cg, unsigned i, char *const argv[], int ms, char *out,
		  size_t out_size, char *err_out, size_t err_size, int *ret_status, struct err *e)
{
	_cleanup_(close_p) int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC), out_r = -1, err_r = -1;
	int a[2], b[2], master;
	if (null_fd < 0 || pipe2(a, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe: %m");
	out_r = a[0];
	_cleanup_(close_p) int out_w = a[1];
	if (pipe2(b, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe: %m");
	err_r = b[0];
	_cleanup_(close_p) int err_w = b[1];
	struct enter how = { .argv = argv, .cwd = "/", .fds = { null_fd, out_w, err_w } };
	pid_t pid;
	int rc = enter_spawn(c, cg, i, &how, &pid, &master, e);
	if (rc < 0)
		return rc;
	out_w = close_fd(out_w);
	err_w = close_fd(err_w);

	uint64_t until = clock_ms() + (uint64_t)ms;
	size_t out_n = 0, err_n = 0;
	struct pollfd pf[2] = { { .fd = out_r, .events = POLLIN }, { .fd = err_r, .events = POLLIN } };
	while (rc == 0 && (pf[0].fd >= 0 || pf[1].fd >= 0)) {
		int n = poll(pf, 2, proc_left(until));
		if (n == 0)
			rc = -ETIMEDOUT;
		if (n > 0 && pf[0].revents && !take(out_r, out, out_size, &out_n))
			pf[0].fd = -1;
		if (n > 0 && pf[1].revents && !take(err_r, err_out, err_size, &err_n))
			pf[1].fd = -1;
	}
	out[out_n] = err_out[err_n] = 0;
	if (rc < 0)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
		;
	return rc == 0 ? 0 : err_set(e, rc, "no end of %s in node %u after %d s", argv[0], i, ms / 1000);
}
