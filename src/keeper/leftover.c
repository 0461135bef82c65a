#include "keeper/leftover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

/* A descriptor of the task that started then, or -ESRCH. If the number has that start after the descriptor was made, then the
 * descriptor is of that task: the one with this number cannot have begun later. */
static int task_open(const struct record_task *t)
{
	int fd = t->pid > 0 ? (int)syscall(SYS_pidfd_open, t->pid, 0) : -1;
	if (fd >= 0 && record_task_of(t->pid).start == t->start)
		return fd;
	(void)close_fd(fd);
	return -ESRCH;
}

static void task_kill(int pidfd, int signo)
{
	if (pidfd >= 0)
		(void)syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0); /* ESRCH: it has ended */
}

/* 0: it has ended. -ETIMEDOUT. */
static int task_wait(int pidfd, uint64_t until_ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	while (pidfd >= 0) {
		uint64_t now = clock_ms();
		if (now >= until_ms)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)(until_ms - now)) == 1)
			break;
	}
	return 0;
}

/* A wrong directory would be fatal for others. */
static int is_space_cgroup(const char *dir)
{
	const char *name = strrchr(dir, '/');
	return name && strncmp(name, "/pando-space-", 13) == 0 && !strstr(dir, "/../");
}

static int control_open(const struct space_ends *ends, const char *name, int flags)
{
	char path[sizeof ends->cgroup + 32];
	(void)snprintf(path, sizeof path, "%s/%s", ends->cgroup, name);
	return open(path, flags | O_CLOEXEC);
}

/* In the v1 freezer a killed task stays until it is thawed, and then ends before it runs. Only a frozen one is killed by its number:
 * while it is frozen the number is its own. */
static void frozen_v1_kill(const struct space_ends *ends)
{
	char state[16] = "";
	_cleanup_(close_p) int fd = control_open(ends, "freezer.state", O_RDONLY);
	if (fd < 0 || read(fd, state, sizeof state - 1) < 0 || strncmp(state, "FROZEN", 6) != 0)
		return;
	int list_fd = control_open(ends, "cgroup.procs", O_RDONLY);
	_cleanup_(fclose_p) FILE *list = list_fd < 0 ? NULL : fdopen(list_fd, "re");
	if (!list) {
		(void)close_fd(list_fd);
		return;
	}
	int pid;
	while (fscanf(list, "%d", &pid) == 1)
		if (pid > 1 && pid != getpid())
			(void)kill(pid, SIGKILL);
}

void leftover_kill(const struct space_ends *ends, uint64_t start)
{
	_cleanup_(close_p) int init = task_open(&(struct record_task){ .pid = ends->init, .start = start });
	task_kill(init, SIGKILL); /* the kernel kills the rest of its pid namespace */
	if (!is_space_cgroup(ends->cgroup))
		return;
	if (ends->freezer_v2) {
		_cleanup_(close_p) int fd = control_open(ends, "cgroup.kill", O_WRONLY);
		(void)!write(fd, "1", 1); /* without it pid 1's end does it */
	} else {
		frozen_v1_kill(ends);
	}
	(void)space_freeze(ends, 0, NULL); /* gone is fine */
}

void leftover_space(const struct space_ends *ends, uint64_t start)
{
	_cleanup_(close_p) int init = task_open(&(struct record_task){ .pid = ends->init, .start = start });
	leftover_kill(ends, start);
	if (task_wait(init, clock_ms() + LEFTOVER_END_MS) < 0)
		log_error("pid 1 of the space (%d) does not end; going on without", ends->init);
	if (ends->init > 0)
		(void)waitpid(ends->init, NULL, WNOHANG); /* ours if we are the keeper it was announced to */
	if (!is_space_cgroup(ends->cgroup))
		return;
	struct space_ends rest = *ends;
	rest.init = 0;
	space_destroy(&rest);
	if (access(rest.cgroup, F_OK) == 0)
		log_warn("%s: not empty, left behind", rest.cgroup);
}

static void programs_end(const struct record *r)
{
	uint64_t leave_ms = clock_ms() + LEFTOVER_LEAVE_MS;
	for (unsigned i = 0; i < r->n_children; i++) {
		_cleanup_(close_p) int fd = task_open(&r->child[i]);
		if (fd < 0)
			continue;
		log_notice("waiting for pid %d of the keeper before to end", r->child[i].pid);
		if (task_wait(fd, leave_ms) == 0)
			continue;
		log_warn("pid %d has not ended in %d s: killed", r->child[i].pid, LEFTOVER_LEAVE_MS / 1000);
		task_kill(fd, SIGKILL);
		if (task_wait(fd, clock_ms() + LEFTOVER_END_MS) < 0)
			log_error("pid %d does not end; going on without", r->child[i].pid);
	}
}

void leftover_clear(const char *run_dir)
{
	struct record r;
	struct err e = { 0 };
	int rc = record_read(run_dir, &r, &e);
	if (rc == -ENOENT)
		return;
	if (rc < 0) {
		log_error("%s; if a space of it still runs, end it by hand", e.text);
		return;
	}
	struct space_ends ends = { .sock = -1, .init = r.init.pid, .freezer_v2 = r.freezer_v2 };
	(void)strcpy(ends.cgroup, r.cgroup);
	int has_space = r.init.pid > 0 && is_space_cgroup(ends.cgroup);
	if (has_space && space_freeze(&ends, 1, &e) < 0)
		log_debug("%s; it is killed then", e.text);
	programs_end(&r);
	if (r.init.pid > 0 || has_space) {
		log_notice("ending what is left of the space of the keeper before");
		leftover_space(&ends, r.init.start);
	}
	r = (struct record){ 0 };
	if (record_write(run_dir, &r, &e) < 0)
		log_warn("%s", e.text);
}
