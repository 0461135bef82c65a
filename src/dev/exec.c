/* pando dev exec: our terminal, signals and exit status are those of the command in the node.
 *
 * Without a terminal the command gets our descriptors, and signals sent to us go to its process group. With one it gets
 * a terminal of the node, and we carry bytes between the two, ours in raw mode: ^C and ^Z are then done by the node's
 * kernel, as over ssh. A command that only reads or only writes a terminal (one end of a pipe) gets our descriptors.
 *
 * Failure modes: the command is killed when we end, whatever ends us; when the node is killed, the command dies and so
 * do we, by SIGKILL. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "dev/enter.h"

/* What is handed on to the command. SIGTSTP is done by hand, see signal_pass. */
static const int passed[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGTSTP };

struct exec {
	pid_t pid;
	int signals; /* owned; signalfd */
	int master;  /* owned; -1: no terminal */
	struct termios saved;
	int raw;                   /* our terminal is in raw mode */
	char to[4096], from[4096]; /* bytes not yet written to the node's terminal, to ours */
	size_t to_n, from_n;
	int input_ended;
	int status; /* of the command */
	int ended;
};

static int raw_mode(struct exec *x, int on)
{
	if (x->raw == on || x->master < 0)
		return 0;
	struct termios t = x->saved;
	if (on)
		cfmakeraw(&t);
	if (tcsetattr(0, TCSADRAIN, &t) < 0)
		return -errno;
	x->raw = on;
	return 0;
}

static void window_size(const struct exec *x)
{
	struct winsize w;
	if (x->master >= 0 && ioctl(0, TIOCGWINSZ, &w) == 0)
		(void)ioctl(x->master, TIOCSWINSZ, &w);
}

static void signal_pass(struct exec *x, int signo)
{
	if (signo != SIGTSTP) {
		(void)kill(-x->pid, signo);
		return;
	}
	/* The command's session has no parent here, so the kernel would drop the terminal's stop: stop it outright,
	 * then us. */
	(void)kill(-x->pid, SIGSTOP);
	(void)raw_mode(x, 0);
	(void)raise(SIGSTOP);
	(void)raw_mode(x, 1);
	(void)kill(-x->pid, SIGCONT);
}

static void signals_read(struct exec *x)
{
	struct signalfd_siginfo si;
	while (read(x->signals, &si, sizeof si) == (ssize_t)sizeof si) {
		if (si.ssi_signo == SIGWINCH)
			window_size(x);
		else if (si.ssi_signo != SIGCHLD)
			signal_pass(x, (int)si.ssi_signo);
	}
	if (!x->ended && waitpid(x->pid, &x->status, WNOHANG) == x->pid)
		x->ended = 1;
}

/* Moves bytes from one buffer to a descriptor; what it does not take stays. */
static void drain(int fd, char *buf, size_t *n)
{
	ssize_t w = write(fd, buf, *n);
	if (w <= 0)
		return;
	*n -= (size_t)w;
	memmove(buf, buf + w, *n);
}

/* Carries bytes for as long as the command lives, then what it has left in its terminal. */
static void relay(struct exec *x)
{
	int output_ended = x->master < 0;
	while (!x->ended || !output_ended) {
		struct pollfd pf[4] = {
			{ .fd = x->signals, .events = POLLIN },
			{ .fd = output_ended ? -1 : x->master,
			  .events = (short)((x->from_n < sizeof x->from ? POLLIN : 0) | (x->to_n ? POLLOUT : 0)) },
			{ .fd = x->master < 0 || x->input_ended || x->to_n == sizeof x->to ? -1 : 0, .events = POLLIN },
			{ .fd = x->from_n ? 1 : -1, .events = POLLOUT },
		};
		int n = poll(pf, 4, x->ended ? 0 : -1);
		if (n < 0 && errno != EINTR)
			return;
		if (n == 0 && x->ended)
			return; /* a background process may keep the terminal open: its output is not waited for */
		if (n <= 0)
			continue;
		if (pf[0].revents)
			signals_read(x);
		if (pf[1].revents & POLLOUT)
			drain(x->master, x->to, &x->to_n);
		if (pf[1].revents & (POLLIN | POLLHUP | POLLERR)) {
			ssize_t r = read(x->master, x->from + x->from_n, sizeof x->from - x->from_n);
			if (r > 0)
				x->from_n += (size_t)r;
			else if (r == 0 || (errno != EAGAIN && errno != EINTR && x->from_n < sizeof x->from))
				output_ended = 1; /* EIO: nobody has it open any more */
		}
		if (pf[2].revents) {
			ssize_t r = read(0, x->to + x->to_n, sizeof x->to - x->to_n);
			if (r > 0)
				x->to_n += (size_t)r;
			else if (r == 0 || (errno != EAGAIN && errno != EINTR)) {
				x->input_ended = 1; /* our terminal has hung up */
				(void)kill(-x->pid, SIGHUP);
			}
		}
		if (pf[3].revents) {
			drain(1, x->from, &x->from_n);
			if (pf[3].revents & POLLERR)
				x->from_n = 0;
		}
	}
	while (x->from_n) {
		size_t before = x->from_n;
		drain(1, x->from, &x->from_n);
		if (x->from_n == before && errno != EINTR)
			break;
	}
}

static int signals_block(struct exec *x, sigset_t *ret_old, struct err *e)
{
	sigset_t set;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGWINCH);
	for (size_t k = 0; k < sizeof passed / sizeof *passed; k++)
		(void)sigaddset(&set, passed[k]);
	if (sigprocmask(SIG_BLOCK, &set, ret_old) < 0 ||
	    (x->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
		return err_set(e, -errno, "signalfd: %m");
	return 0;
}

/* Ends as the command has ended. */
static int end_like(int status)
{
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	int signo = WTERMSIG(status);
	struct rlimit no_core = { 0 };
	sigset_t one;
	(void)prctl(PR_SET_DUMPABLE, 0); /* the core, if any, is the command's */
	(void)setrlimit(RLIMIT_CORE, &no_core);
	(void)signal(signo, SIG_DFL);
	(void)sigemptyset(&one);
	(void)sigaddset(&one, signo);
	(void)sigprocmask(SIG_UNBLOCK, &one, NULL);
	(void)raise(signo);
	return 128 + signo;
}

int enter_exec(const struct trial *c, const struct cg *cg, unsigned i, char *const argv[], struct err *e)
{
	struct exec x = { .signals = -1, .master = -1 };
	char cwd[PATH_MAX];
	sigset_t old;
	struct enter how = { .argv = argv, .cwd = getcwd(cwd, sizeof cwd), .fds = { 0, 1, 2 } };
	how.pty = isatty(0) && isatty(1) && tcgetattr(0, &x.saved) == 0;
	int rc = signals_block(&x, &old, e);
	if (rc == 0)
		rc = enter_spawn(c, cg, i, &how, &x.pid, &x.master, e);
	if (rc < 0) {
		(void)close_fd(x.signals);
		return rc;
	}
	if (x.master >= 0) {
		(void)tcsetattr(x.master, TCSANOW, &x.saved);
		window_size(&x);
		(void)fcntl(x.master, F_SETFL, O_NONBLOCK);
		rc = raw_mode(&x, 1);
	}
	relay(&x);
	(void)raw_mode(&x, 0);
	(void)close_fd(x.master);
	if (!x.ended)
		while (waitpid(x.pid, &x.status, 0) < 0 && errno == EINTR)
			;
	(void)close_fd(x.signals);
	return end_like(x.status);
}
