#include "cli/collect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

extern char **environ;

static char **strings_copy(char **v)
{
	size_t n = 0;
	while (v[n])
		n++;
	char **copy = calloc(n + 1, sizeof *copy);
	for (size_t i = 0; copy && i < n; i++) {
		copy[i] = strdup(v[i]);
		if (!copy[i]) {
			while (i > 0)
				free(copy[--i]);
			free(copy);
			return NULL;
		}
	}
	return copy;
}

/* $PWD when it names this directory: what a shell shows; else what the kernel says. */
static char *cwd_get(void)
{
	const char *pwd = getenv("PWD");
	struct stat a, b;
	if (pwd && pwd[0] == '/' && strlen(pwd) < 4096 && stat(pwd, &a) == 0 && stat(".", &b) == 0 && a.st_dev == b.st_dev &&
	    a.st_ino == b.st_ino)
		return strdup(pwd);
	char *cwd = getcwd(NULL, 0);
	if (cwd && cwd[0] != '/') { /* "(unreachable)/..." */
		free(cwd);
		errno = ENOENT;
		return NULL;
	}
	return cwd;
}

/* Of the kernel itself: glibc does not tell of the two signals that it has for itself, which a caller may have left ignored. */
static void signals_get(struct run_request *r)
{
	struct {
		uint64_t handler, flags, restorer, mask;
	} action;
	(void)syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &r->blocked, sizeof r->blocked); /* cannot fail */
	for (int s = 1; s <= 64; s++)
		if (syscall(SYS_rt_sigaction, s, NULL, &action, sizeof action.mask) == 0 && action.handler == 1)
			r->ignored |= 1ull << (s - 1);
}

static int fd_add(struct collected *c, int fd, const struct term *t)
{
	struct run_fd *fds = realloc(c->req.fds, (c->req.n_fds + 1) * sizeof *fds);
	if (!fds)
		return -ENOMEM;
	c->req.fds = fds;
	int pty = term_is(t, fd);
	if (!pty) {
		int *sent = realloc(c->sent, (c->n_sent + 1) * sizeof *sent);
		if (!sent)
			return -ENOMEM;
		c->sent = sent;
		c->sent[c->n_sent++] = fd;
	}
	fds[c->req.n_fds++] = (struct run_fd){ .number = fd, .kind = pty ? RUN_FD_PTY : RUN_FD_SENT };
	return 0;
}

/* Every descriptor that an exec here would keep. */
static int fds_get(struct collected *c, const struct term *t, struct err *e)
{
	_cleanup_(closedir_p) DIR *d = opendir("/proc/self/fd");
	if (!d)
		return err_set(e, -errno, "/proc/self/fd: %m");
	struct dirent *de;
	while ((de = readdir(d))) {
		int fd = atoi(de->d_name);
		if (de->d_name[0] == '.' || fd == dirfd(d))
			continue;
		int flags = fcntl(fd, F_GETFD);
		if (flags < 0 || (flags & FD_CLOEXEC))
			continue;
		if (fd > RUN_FD_NUMBER_MAX || c->req.n_fds >= RUN_FDS_MAX)
			return err_set(e, -EMFILE, "more than %d open descriptors, or one above %d", RUN_FDS_MAX, RUN_FD_NUMBER_MAX);
		int rc = fd_add(c, fd, t);
		if (rc < 0)
			return err_set(e, rc, "no memory");
	}
	return 0;
}

int collect(char **argv, const struct term *t, struct collected *ret, struct err *e)
{
	_cleanup_(collect_fini) struct collected c = {};
	struct run_request *r = &c.req;
	r->argv = strings_copy(argv);
	r->envp = strings_copy(environ);
	if (!r->argv || !r->envp)
		return err_set(e, -ENOMEM, "no memory");
	r->cwd = cwd_get();
	if (!r->cwd)
		return err_set(e, -errno, "the current directory: %m");
	mode_t mask = umask(0);
	(void)umask(mask);
	r->umask = mask;
	for (int i = 0; i < RUN_RLIMITS; i++)
		if (getrlimit((__rlimit_resource_t)i, &r->rlimits[i]) < 0)
			return err_set(e, -errno, "getrlimit %d: %m", i);
	signals_get(r);
	errno = 0;
	r->nice = getpriority(PRIO_PROCESS, 0);
	if (errno)
		return err_set(e, -errno, "getpriority: %m");
	r->tty = term_wanted(t);
	if (r->tty) {
		r->termios = *term_start(t);
		term_size(t, &r->win);
	}
	int rc = fds_get(&c, t, e);
	if (rc < 0)
		return rc;
	*ret = c;
	c = (struct collected){};
	return 0;
}

void collect_fini(struct collected *c)
{
	run_request_fini(&c->req);
	free(c->sent);
	*c = (struct collected){};
}

void collect_let_go(const struct collected *c)
{
	_cleanup_(close_p) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (size_t i = 0; i < c->n_sent; i++) {
		if (c->sent[i] > 2)
			(void)close_fd(c->sent[i]);
		else if (null >= 0)
			(void)dup2(null, c->sent[i]); /* if it fails the pipe lives as long as we do */
	}
	(void)!chdir("/"); /* or that directory stays busy */
}
