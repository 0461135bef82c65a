/* Stands for pandod, pando-streams and pando-procfs in test-keeper.c, by the name it is started with.
 *
 * It binds RUN/ctl.NAME, says "NAME PID start" into the FIFO RUN/said, and does what comes on the socket, one command a datagram; each
 * is answered by a line "NAME PID words". SIGTERM: says "term" and ends with status 0. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "keeper/client.h"
#include "keeper/proto.h"
#include "space/create.h"

static struct {
	const char *name, *run;
	int said, ctl, signals, raw;
	struct keeper *k;
	int argc;
	char **argv;
} g;

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n = snprintf(line, sizeof line, "%s %d ", g.name, getpid());
	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
	va_end(ap);
	line[n++] = '\n';
	if (write(g.said, line, (size_t)n) != n)
		_exit(99);
}

static void put_many(int n)
{
	for (int i = 0; i < n; i++) {
		char name[32];
		(void)snprintf(name, sizeof name, "w-%d", i);
		_cleanup_(close_p) int fd = memfd_create("test", MFD_CLOEXEC);
		if (fd < 0 || write(fd, name, strlen(name)) < 0 || keeper_put(g.k, name, fd) < 0)
			_exit(98);
	}
}

static void on_kept(void *arg, const char *name, int fd)
{
	char got[32] = "";
	int *n = arg;
	*n += pread(fd, got, sizeof got - 1, 0) > 0 && strcmp(got, name) == 0;
	(void)close_fd(fd);
}

/* A process that has no parent but the keeper; or, as a chain, one whose parent is left by us when we die. Sessions of their own, since
 * our group is killed with us. */
static pid_t orphan_make(int is_chain)
{
	int fds[2];
	pid_t pid = 0;
	if (pipe2(fds, O_CLOEXEC) < 0)
		_exit(97);
	pid_t middle = fork();
	if (middle == 0) {
		(void)setsid();
		if (fork() == 0) {
			(void)setsid();
			pid = getpid();
			(void)!write(fds[1], &pid, sizeof pid);
		} else if (!is_chain) {
			_exit(0);
		}
		for (;;)
			(void)pause();
	}
	if (read(fds[0], &pid, sizeof pid) != (ssize_t)sizeof pid || (!is_chain && waitpid(middle, NULL, 0) != middle))
		_exit(96);
	(void)close_fd(fds[0]);
	(void)close_fd(fds[1]);
	return pid;
}

static void space_announce(char *cgroup)
{
	char lease[256];
	struct space_ends ends = { .init = orphan_make(0) };
	(void)snprintf(lease, sizeof lease, "%s/lease", g.run);
	(void)snprintf(ends.cgroup, sizeof ends.cgroup, "%s", cgroup);
	ends.freezer_v2 = *cgroup != 0;
	int rc = keeper_space(g.k, &ends, lease);
	say("space %d %d", rc, ends.init);
}

static void args_say(void)
{
	char line[400] = "";
	struct rlimit l;
	(void)getrlimit(RLIMIT_NOFILE, &l);
	for (int i = 1; i < g.argc; i++)
		(void)snprintf(line + strlen(line), sizeof line - strlen(line), " %s", g.argv[i]);
	int sig = 0;
	(void)prctl(PR_GET_PDEATHSIG, &sig);
	say("args%s; death %d group %d notify %d files %lu", line, sig, getpgrp() == getpid(), getenv("NOTIFY_SOCKET") != NULL,
	    (unsigned long)l.rlim_cur);
}

static void leave(void)
{
	char path[256];
	const char *state = g.argc > 4 ? g.argv[4] : "";
	(void)snprintf(path, sizeof path, "%s/node.crt", state);
	say("left %d", unlink(path));
	_exit(0);
}

static void command(char *text)
{
	char *word = strtok(text, " "), *arg = strtok(NULL, " ");
	if (!word)
		return;
	arg = arg ? arg : word + strlen(word);
	int n = 0;
	if (strcmp(word, "exit") == 0)
		_exit(atoi(arg));
	else if (strcmp(word, "put") == 0)
		put_many(atoi(arg)), say("put");
	else if (strcmp(word, "count") == 0)
		keeper_each(g.k, "", on_kept, &n), say("count %d", n);
	else if (strcmp(word, "args") == 0)
		args_say();
	else if (strcmp(word, "ready") == 0)
		say("ready %d", keeper_ready(g.k));
	else if (strcmp(word, "orphan") == 0)
		say("orphan %d", orphan_make(1));
	else if (strcmp(word, "space") == 0)
		space_announce(arg);
	else if (strcmp(word, "nospace") == 0)
		say("nospace %d", keeper_space(g.k, NULL, NULL));
	else if (strcmp(word, "garbage") == 0)
		(void)send(g.raw, "garbage", 7, MSG_NOSIGNAL), say("garbage");
	else if (strcmp(word, "leave") == 0)
		leave();
}

static int begin(void)
{
	char path[256];
	sigset_t set;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const char *fd = getenv("PANDO_KEEPER_FD");
	g.raw = fd ? atoi(fd) : -1;
	if (keeper_open(&g.k, NULL) < 0)
		return -ENOENT;
	struct rlimit l;
	(void)getrlimit(RLIMIT_NOFILE, &l);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	g.signals = signalfd(-1, &set, SFD_CLOEXEC);
	(void)snprintf(path, sizeof path, "%s/said", g.run);
	g.said = open(path, O_WRONLY | O_CLOEXEC);
	(void)snprintf(a.sun_path, sizeof a.sun_path, "%.60s/ctl.%.20s", g.run, g.name);
	(void)unlink(a.sun_path);
	g.ctl = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (g.said < 0 || g.signals < 0 || bind(g.ctl, (struct sockaddr *)&a, sizeof a) < 0)
		return -errno;
	return 0;
}

int main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');
	g.name = slash ? slash + 1 : argv[0];
	g.argc = argc;
	g.argv = argv;
	g.run = argc > 2 ? argv[2] : "";
	if (begin() < 0)
		return 95;
	say("start");
	for (;;) {
		struct pollfd p[2] = { { .fd = g.ctl, .events = POLLIN }, { .fd = g.signals, .events = POLLIN } };
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[0].revents) {
			char text[512];
			ssize_t n = recv(g.ctl, text, sizeof text - 1, 0);
			if (n < 0)
				return 94;
			text[n] = 0;
			command(text);
		}
		if (p[1].revents) {
			say("term");
			return 0;
		}
	}
}
