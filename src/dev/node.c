#include "dev/node.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "dev/leash.h"
#include "dev/proc.h"
#include "dev/switch.h"

enum {
	READY_MS = 20000,
	GONE_MS = 10000,
	TIME_STEP_S = 100000, /* how far the monotonic clocks of two neighbours are apart */
};

void node_path(const struct trial *c, unsigned i, const char *what, char ret[static 256])
{
	(void)snprintf(ret, 256, "%s/node-%u%s%s", c->dir, i, *what ? "/" : "", what);
}

static int write_file(const char *path, const char *text, struct err *e)
{
	_cleanup_(close_p) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fchmod(fd, 0644) < 0)
		return err_set(e, -errno, "%s: %m", path);
	return 0;
}

/* The node's directory: lib (what differs of /var/lib), work (of the same overlay), pando (its /var/lib/pando), etc,
 * log. */
static int dir_make(const struct trial *c, unsigned i, struct err *e)
{
	static const char *const dirs[] = { "",     "lib",        "work",      "pando",      "etc",
					    "root", "root/upper", "root/work", "root/merged" };
	char path[256], text[128];
	for (size_t k = 0; k < sizeof dirs / sizeof *dirs; k++) {
		node_path(c, i, dirs[k], path);
		if (mkdir(path, k == 0 || strcmp(dirs[k], "pando") == 0 ? 0700 : 0755) < 0 && errno != EEXIST)
			return err_set(e, -errno, "mkdir %s: %m", path);
	}
	node_path(c, i, "etc/hostname", path);
	(void)snprintf(text, sizeof text, "node%u\n", i);
	int rc = write_file(path, text, e);
	node_path(c, i, "etc/machine-id", path);
	if (rc == 0 && access(path, F_OK) < 0) {
		uint64_t a = clock_ns() * 6364136223846793005u + i, b = a * 2862933555777941757u + (uint64_t)getpid();
		(void)snprintf(text, sizeof text, "%016llx%016llx\n", (unsigned long long)a, (unsigned long long)b);
		rc = write_file(path, text, e);
	}
	return rc;
}

static int time_offset(unsigned i, struct err *e)
{
	if (unshare(CLONE_NEWTIME) < 0)
		return err_set(e, -errno, "new time namespace: %m");
	char text[96];
	(void)snprintf(text, sizeof text, "monotonic %u 0\nboottime %u 0\n", i * TIME_STEP_S, i * TIME_STEP_S);
	int rc = file_write("/proc/self/timens_offsets", text);
	return rc == 0 ? 0 : err_set(e, rc, "/proc/self/timens_offsets: %s", strerror(-rc));
}

__attribute__((noreturn)) static void say_no(int leash, const struct err *e)
{
	char words[sizeof e->text + 8];
	(void)snprintf(words, sizeof words, "no: %s", e->text);
	(void)send(leash, words, strlen(words), MSG_NOSIGNAL); /* if nobody listens, nobody need know */
	_exit(1);
}

/* pid 1 of the node, in its namespaces. */
__attribute__((noreturn)) static void init_child(const struct trial *c, unsigned i, int leash)
{
	struct err e = { .text = "" };
	char log[256], a[16], b[16];
	node_path(c, i, "service.log", log);
	int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	int rc = log_fd < 0 ? -errno : leash_detach(log_fd, &leash, 1);
	if (rc == 0) {
		(void)snprintf(a, sizeof a, "%d", leash);
		(void)snprintf(b, sizeof b, "%u", i);
		(void)execl("/proc/self/exe", "pando", "dev", "--init", a, c->name, b, (char *)NULL);
		rc = -errno;
	}
	(void)err_set(&e, rc, "start its pid 1: %s", strerror(-rc));
	say_no(leash, &e);
}

/* Between us and pid 1 stands a process that goes where we must not: a new time namespace counts for children only, and
 * the cgroups must be those of the node when its cgroup namespace is made. */
__attribute__((noreturn)) static void between_child(const struct trial *c, const struct cg *cg, unsigned i, int leash,
						    int pid_fd)
{
	struct err e = { .text = "" };
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	int rc = cg_join(cg, c->name, (int)i, 0, &e);
	if (rc == 0)
		rc = time_offset(i, &e);
	if (rc < 0)
		say_no(leash, &e);

	struct clone_args args = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP,
		.exit_signal = SIGCHLD,
	};
	long pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0)
		init_child(c, i, leash);
	if (pid < 0) {
		(void)err_set(&e, -errno, "new namespaces: %m");
		say_no(leash, &e);
	}
	pid_t p = (pid_t)pid;
	if (write(pid_fd, &p, sizeof p) != (ssize_t)sizeof p)
		_exit(1); /* the starter is gone: the leash ends pid 1 */
	_exit(0);
}

int node_spawn(struct trial *c, const struct cg *cg, unsigned i, int *ret_leash, struct err *e)
{
	_cleanup_(close_p) int ours = -1, theirs = -1, pid_r = -1, pid_w = -1;
	int rc = dir_make(c, i, e);
	if (rc == 0)
		rc = cg_node_make(cg, c->name, i, e);
	if (rc == 0)
		rc = cg_limit_mem(cg, c->name, i, c->node[i].mem, e);
	if (rc == 0)
		rc = leash_new(&ours, &theirs, e);
	if (rc < 0)
		return err_wrap(e, rc, "node %u", i);
	int p[2];
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe: %m");
	pid_r = p[0];
	pid_w = p[1];

	pid_t between = fork();
	if (between == 0)
		between_child(c, cg, i, theirs, pid_w);
	if (between < 0)
		return err_set(e, -errno, "fork: %m");
	theirs = close_fd(theirs);
	pid_w = close_fd(pid_w);
	pid_t pid = 0;
	ssize_t n;
	while ((n = read(pid_r, &pid, sizeof pid)) < 0 && errno == EINTR)
		;
	int status;
	while (waitpid(between, &status, 0) < 0 && errno == EINTR)
		;
	if (n != (ssize_t)sizeof pid) {
		(void)err_set(e, -EIO, "node %u: its first process was killed", i);
		rc = leash_ready(ours, 0, "node", e); /* has its words, if it left any */
		return rc < 0 ? rc : -EIO;
	}
	if (proc_identify(pid, &c->node[i].init) < 0)
		return leash_ready(ours, 0, "node", e) < 0 ? -EIO : err_set(e, -EIO, "node %u ended at once", i);
	*ret_leash = take_fd(&ours);
	return 0;
}

int node_connect(const struct trial *c, unsigned i, int leash, struct err *e)
{
	_cleanup_(close_p) int ns = -1;
	int rc = proc_netns(&c->node[i].init, &ns, e);
	if (rc < 0) {
		char what[16];
		(void)snprintf(what, sizeof what, "node %u", i);
		return leash_ready(leash, 1000, what, e) < 0 ? -EIO : rc; /* it has ended: its own words tell more */
	}
	rc = switch_plug(c, i, ns, e);
	return rc == 0 ? leash_say(leash, "net", e) : rc;
}

int node_ready(const struct trial *c, unsigned i, int leash, struct err *e)
{
	char what[16];
	(void)snprintf(what, sizeof what, "node %u", i);
	int rc = leash_ready(leash, READY_MS, what, e);
	if (rc == 0 && c->node[i].rate_mbit > 0)
		rc = switch_apply_rate(c, i, e);
	return rc;
}

int node_say(unsigned i, int leash, const char *word, struct err *e)
{
	int rc = leash_say(leash, word, e);
	return rc == 0 ? 0 : err_wrap(e, rc, "node %u", i);
}

int node_kill(struct trial *c, const struct cg *cg, unsigned i, struct err *e)
{
	struct err net_e = { .text = "" };
	int net_rc = switch_unplug(c, i, &net_e);
	_cleanup_(close_p) int pidfd = -1;
	int has = proc_open(&c->node[i].init, &pidfd) == 0;
	(void)cg_kill(cg, c->name, (int)i, NULL);
	if (has) {
		(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0); /* -ESRCH: dead already */
		int rc = proc_wait_gone(pidfd, GONE_MS);
		if (rc < 0)
			return err_set(e, rc, "node %u: pid 1 (%d here) does not end", i, (int)c->node[i].init.pid);
	}
	int rc = cg_remove(cg, c->name, (int)i, GONE_MS, e);
	if (rc < 0)
		return rc;
	c->node[i].init = (struct dev_proc){ 0 };
	c->node[i].frozen = 0;
	if (net_rc < 0)
		return err_set(e, net_rc, "node %u was killed, but its network was not cut off before: %s", i,
			       net_e.text);
	return 0;
}
