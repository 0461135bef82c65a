#include "dev/init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "dev/nl.h"
#include "dev/node.h"
#include "dev/proc.h"

enum {
	RESTART_MS = 1000,
	STOP_MS = 5000, /* from SIGTERM to the end of everything */
};

struct init {
	const struct trial *c;
	const struct cg *cg;
	unsigned i;
	int leash;     /* owned; -1: we stay */
	int dir_fd;    /* owned; the node's directory */
	int signals;   /* owned; signalfd */
	pid_t service; /* 0: not running */
	unsigned runs;
	int last_status;     /* of the run before, as from waitpid */
	uint64_t restart_ms; /* 0: do not */
	uint64_t stop_ms;    /* 0: not stopping */
};

/* For `pando dev status`. */
static void tell(const struct init *s)
{
	char text[160];
	(void)snprintf(text, sizeof text, "{\"pid\": %d, \"runs\": %u, \"last_status\": %d}\n", (int)s->service,
		       s->runs, s->last_status);
	_cleanup_(close_p) int fd = openat(s->dir_fd, "service.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, strlen(text)) < 0 ||
	    renameat(s->dir_fd, "service.new", s->dir_fd, "service.json") < 0)
		log_warn("service.json: %m; status will be stale");
}

static void service_exec(const struct init *s)
{
	if (s->c->service) {
		(void)execl("/bin/sh", "sh", "-c", s->c->service, (char *)NULL);
		return;
	}
	char keeper[4200], source[256], cpus[32];
	double n = s->c->node[s->i].cpu;
	(void)snprintf(keeper, sizeof keeper, "%s/pando-keeper", s->c->libexec);
	(void)snprintf(cpus, sizeof cpus, "%g", n > 0 ? n : (double)sysconf(_SC_NPROCESSORS_ONLN));
	cg_load_source(s->cg, source, sizeof source);
	if (*source)
		(void)execl(keeper, keeper, "--state", "/var/lib/pando", "--run", "/run/pando", "--load-source", source,
			    "--cpus", cpus, (char *)NULL);
	else
		(void)execl(keeper, keeper, "--state", "/var/lib/pando", "--run", "/run/pando", (char *)NULL);
}

static void service_start(struct init *s)
{
	s->restart_ms = 0;
	pid_t pid = fork();
	if (pid == 0) {
		sigset_t none;
		(void)sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		(void)setsid();
		service_exec(s);
		log_error("service: %m");
		_exit(127);
	}
	if (pid < 0) {
		log_error("fork for the service: %m, trying again");
		s->restart_ms = clock_ms() + RESTART_MS;
		return;
	}
	s->service = pid;
	s->runs++;
	tell(s);
}

static void reap(struct init *s)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != s->service)
			continue;
		s->service = 0;
		s->last_status = status;
		if (!s->stop_ms && !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
			s->restart_ms = clock_ms() + RESTART_MS;
			log_warn("the service has ended (%s %d), starting it again",
				 WIFEXITED(status) ? "status" : "signal",
				 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
		}
		tell(s);
	}
}

/* 1: this is the end. */
static int leash_read(struct init *s)
{
	char word[16];
	ssize_t n = recv(s->leash, word, sizeof word, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n == 5 && memcmp(word, "start", 5) == 0) {
		service_start(s);
		return 0;
	}
	s->leash = close_fd(s->leash);
	return !(n == 4 && memcmp(word, "stay", 4) == 0);
}

static void signal_read(struct init *s)
{
	struct signalfd_siginfo si;
	if (read(s->signals, &si, sizeof si) != (ssize_t)sizeof si)
		return;
	if (si.ssi_signo == SIGTERM && !s->stop_ms) {
		s->stop_ms = clock_ms() + STOP_MS;
		s->restart_ms = 0;
		if (s->service)
			(void)kill(s->service, SIGTERM);
	}
	reap(s);
}

/* Our end is the end of every process in the node. */
static int loop(struct init *s)
{
	for (;;) {
		uint64_t next = s->stop_ms ? s->stop_ms : s->restart_ms;
		struct pollfd pf[2] = { { .fd = s->signals, .events = POLLIN }, { .fd = s->leash, .events = POLLIN } };
		if (poll(pf, 2, next ? proc_left(next) : -1) < 0 && errno != EINTR)
			return 1;
		if (pf[0].revents)
			signal_read(s);
		if (pf[1].revents && leash_read(s))
			return 1;
		if (s->restart_ms && proc_left(s->restart_ms) == 0)
			service_start(s);
		if (s->stop_ms && (!s->service || proc_left(s->stop_ms) == 0))
			return 0;
	}
}

/* The interface is there when the starter says so. */
static int net_setup(struct init *s, struct err *e)
{
	char word[16], addr[16];
	ssize_t n;
	while ((n = recv(s->leash, word, sizeof word, 0)) < 0 && errno == EINTR)
		;
	if (n != 3 || memcmp(word, "net", 3) != 0)
		return err_set(e, -ECANCELED, "the start was interrupted");
	_cleanup_(close_p) int fd = -1;
	trial_addr(s->c, s->i, addr);
	int rc = nl_open(-1, &fd);
	if (rc == 0)
		rc = nl_up(fd, "lo", 1);
	if (rc == 0)
		rc = nl_addr4(fd, "eth0", addr, 24);
	if (rc == 0)
		rc = nl_up(fd, "eth0", 1);
	return rc == 0 ? 0 : err_set(e, rc, "network: %s", strerror(-rc));
}

static int setup(struct init *s, struct err *e)
{
	char path[256], name[16];
	node_path(s->c, s->i, "", path);
	s->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0)
		return err_set(e, -errno, "%s: %m", path);
	sigset_t set;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || (s->signals = signalfd(-1, &set, SFD_CLOEXEC)) < 0)
		return err_set(e, -errno, "signalfd: %m");
	(void)snprintf(name, sizeof name, "node%u", s->i);
	if (sethostname(name, strlen(name)) < 0)
		return err_set(e, -errno, "set the host name: %m");
	if (env_setup(s->c, s->i) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	int rc = mounts_setup(s->c, s->cg, s->i, e);
	return rc < 0 ? rc : net_setup(s, e);
}

int init_main(int leash_fd, const char *name, unsigned i)
{
	log_setup("pando-dev-init", LOG_INFO, 0);
	(void)prctl(PR_SET_NAME, "pando-dev-init");
	(void)fcntl(leash_fd, F_SETFD, FD_CLOEXEC);
	_cleanup_(trial_free_p) struct trial *c = NULL;
	struct cg cg;
	struct err e = { .text = "" };
	struct init s = { .i = i, .leash = leash_fd, .dir_fd = -1, .signals = -1, .cg = &cg };
	(void)umask(022);
	int rc =
	    getpid() != 1 ? err_set(&e, -EPERM, "this is started by pando dev up") : trial_load(name, -1, &c, &e);
	if (rc == 0 && (i < 1 || i > c->n))
		rc = err_set(&e, -EINVAL, "no node %u", i);
	s.c = c;
	if (rc == 0)
		rc = cg_find(&cg, &e);
	if (rc == 0)
		rc = setup(&s, &e);
	char words[sizeof e.text + 8] = "ready";
	if (rc < 0)
		(void)snprintf(words, sizeof words, "no: %s", e.text);
	if (send(s.leash, words, strlen(words), MSG_NOSIGNAL) < 0 || rc < 0)
		return 1;
	return loop(&s);
}
