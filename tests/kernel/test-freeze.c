/* Promises about frozen processes (cgroup v2): they can be looked at, traced and killed. */
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "check.h"
#include "kern/probe.h"
#include "support.h"

static char g_dir[256];

static int group_make(void)
{
	static const char *const mounts[] = { "/sys/fs/cgroup/unified", "/sys/fs/cgroup" };
	for (size_t i = 0; i < 2; i++) {
		char events[300];
		(void)snprintf(g_dir, sizeof g_dir, "%s/pando-test-freeze-%d", mounts[i], (int)getpid());
		if (mkdir(g_dir, 0755) < 0)
			continue;
		(void)snprintf(events, sizeof events, "%s/cgroup.freeze", g_dir);
		if (access(events, W_OK) == 0)
			return 0;
		(void)rmdir(g_dir);
	}
	return -1;
}

static void group_remove(void)
{
	uint64_t end = clock_ms() + WAIT_MS;
	while (rmdir(g_dir) < 0 && errno == EBUSY && clock_ms() < end)
		(void)poll(NULL, 0, 2);
	CHECK(access(g_dir, F_OK) < 0);
}

/* When a check failed: nothing may be left behind even so. */
static pid_t g_owner;

static void group_clear(void)
{
	char path[300];
	if (getpid() != g_owner || access(g_dir, F_OK) < 0)
		return;
	(void)snprintf(path, sizeof path, "%s/cgroup.kill", g_dir);
	_cleanup_(close_p) int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)!write(fd, "1", 1);
	uint64_t end = clock_ms() + WAIT_MS;
	while (rmdir(g_dir) < 0 && errno == EBUSY && clock_ms() < end)
		(void)poll(NULL, 0, 2);
}

static void put(const char *file, const char *text)
{
	char path[300];
	(void)snprintf(path, sizeof path, "%s/%s", g_dir, file);
	_cleanup_(close_p) int fd = open(path, O_WRONLY | O_CLOEXEC);
	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static void events_wait(const char *word)
{
	uint64_t end = clock_ms() + WAIT_MS;
	char path[300], text[128];
	(void)snprintf(path, sizeof path, "%s/cgroup.events", g_dir);
	for (;;) {
		_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
		CHECK(n > 0);
		text[n] = 0;
		if (strstr(text, word))
			return;
		CHECK(clock_ms() < end);
		(void)poll(NULL, 0, 1);
	}
}

struct mem {
	volatile uint64_t count; /* goes up while the child runs */
	char word[16];
};

static pid_t spinner_start(struct mem *m)
{
	_cleanup_(close_p) int dir = open(g_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct clone_args a = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (unsigned)dir };
	CHECK(dir >= 0);
	pid_t pid = (pid_t)syscall(SYS_clone3, &a, sizeof a);
	CHECK(pid >= 0);
	if (pid == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0)
		for (;;) {
			m->count++;
			(void)poll(NULL, 0, 1);
		}
	return pid;
}

/* space/ (a cut-off node), later image/: a frozen process makes no step, and its memory can be read and written. */
static void test_a_frozen_process_stays_readable_and_does_nothing(void)
{
	struct mem *m = shared(sizeof *m);
	(void)strcpy(m->word, "word");
	pid_t pid = spinner_start(m);
	put("cgroup.freeze", "1");
	events_wait("frozen 1");
	uint64_t before = m->count;
	char got[16] = "";
	struct iovec mine = { got, sizeof got }, its = { m->word, sizeof m->word };
	CHECK(process_vm_readv(pid, &mine, 1, &its, 1, 0) == (ssize_t)sizeof got && strcmp(got, "word") == 0);
	(void)strcpy(got, "changed");
	CHECK(process_vm_writev(pid, &mine, 1, &its, 1, 0) == (ssize_t)sizeof got && strcmp(m->word, "changed") == 0);
	grace();
	CHECK(m->count == before);
	put("cgroup.freeze", "0");
	uint64_t end = clock_ms() + WAIT_MS;
	while (m->count == before) {
		CHECK(clock_ms() < end);
		(void)poll(NULL, 0, 1);
	}
	child_stop(pid);
}

/* A frozen process can be seized and interrupted: the stop is reported, its registers are there (with the v1 freezer
 * they are not until it is thawed), and after the detach it is still frozen. */
static void test_a_frozen_process_can_be_traced(void)
{
	struct mem *m = shared(sizeof *m);
	struct user_regs_struct regs;
	pid_t pid = spinner_start(m);
	put("cgroup.freeze", "1");
	events_wait("frozen 1");
	uint64_t before = m->count;
	CHECK(ptrace(PTRACE_SEIZE, pid, NULL, 0L) == 0 && ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0);
	CHECK(stop_wait(pid) >> 16 == PTRACE_EVENT_STOP);
	CHECK(ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0 && regs.rip != 0);
	CHECK(ptrace(PTRACE_DETACH, pid, NULL, 0L) == 0);
	grace();
	CHECK(m->count == before);
	events_wait("frozen 1");
	put("cgroup.freeze", "0");
	child_stop(pid);
}

/* A frozen process can be killed without being thawed. */
static void test_a_frozen_process_can_be_killed(void)
{
	struct mem *m = shared(sizeof *m);
	pid_t pid = spinner_start(m);
	put("cgroup.freeze", "1");
	events_wait("frozen 1");
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(WTERMSIG(child_end(pid)) == SIGKILL);
	put("cgroup.freeze", "0");
}

/* What is started into a frozen group does not run. */
static void test_a_process_cloned_into_a_frozen_group_waits(void)
{
	struct mem *m = shared(sizeof *m);
	put("cgroup.freeze", "1");
	pid_t pid = spinner_start(m);
	grace();
	CHECK(m->count == 0);
	put("cgroup.freeze", "0");
	uint64_t end = clock_ms() + WAIT_MS;
	while (m->count == 0) {
		CHECK(clock_ms() < end);
		(void)poll(NULL, 0, 1);
	}
	child_stop(pid);
}

/* dev/, space/: cgroup.kill ends frozen ones too. After it the group is to be made anew: Linux 6.18 kills at once
 * whatever is cloned into a group that was killed before (it compares the count of kills with that of the caller's
 * group). */
static void test_a_group_is_killed_at_once_and_made_anew(void)
{
	struct mem *m = shared(sizeof *m);
	pid_t pid[2] = { spinner_start(m), spinner_start(m) };
	put("cgroup.freeze", "1");
	events_wait("frozen 1");
	put("cgroup.kill", "1");
	for (int i = 0; i < 2; i++)
		CHECK(WTERMSIG(child_end(pid[i])) == SIGKILL);
	group_remove();
	CHECK(mkdir(g_dir, 0755) == 0);
	m->count = 0;
	pid[0] = spinner_start(m);
	uint64_t end = clock_ms() + WAIT_MS;
	while (m->count == 0) {
		CHECK(clock_ms() < end);
		(void)poll(NULL, 0, 1);
	}
	child_stop(pid[0]);
}

int main(void)
{
	struct kern_has has;
	CHECK(probe_run(&has) == 0);
	if (!has.cgroup_v2_freeze || !has.cgroup_v2_kill || !has.seize || group_make() < 0)
		SKIP("needs the freezer of cgroup v2 and a place to make a group");
	g_owner = getpid();
	CHECK(atexit(group_clear) == 0);
	TEST(test_a_frozen_process_stays_readable_and_does_nothing);
	TEST(test_a_frozen_process_can_be_traced);
	TEST(test_a_frozen_process_can_be_killed);
	TEST(test_a_process_cloned_into_a_frozen_group_waits);
	TEST(test_a_group_is_killed_at_once_and_made_anew);
	group_remove();
	return 0;
}
