/* The lease watchdog, on a directory that looks like a cgroup, and as root on a real one. */
#include <fcntl.h>
#include <mntent.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "check.h"
#include "keeper/guard.h"
#include "keeper/leftover.h"
#include "member/lease_file.h"

static char g_dir[] = "/tmp/test-guard-XXXXXX";
static char g_lease[64];

static void file_write(const char *path, const char *text)
{
	_cleanup_(close_p) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static char state(const struct space_ends *ends)
{
	char path[320], c = 0;
	(void)snprintf(path, sizeof path, "%s/%s", ends->cgroup, ends->freezer_v2 ? "cgroup.freeze" : "freezer.self_freezing");
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && read(fd, &c, 1) == 1);
	return c;
}

/* A space that stands or runs by what is written into a file. */
static struct space_ends fake_space(void)
{
	struct space_ends ends = { .init = getpid(), .freezer_v2 = 1 };
	char path[320];
	(void)snprintf(ends.cgroup, sizeof ends.cgroup, "%s/pando-space-1", g_dir);
	CHECK(mkdir(ends.cgroup, 0700) == 0 || errno == EEXIST);
	(void)snprintf(path, sizeof path, "%s/cgroup.freeze", ends.cgroup);
	file_write(path, "0");
	(void)unlink(g_lease);
	return ends;
}

/* Follows the timer until the space is in this state. */
static void follow(struct guard *g, const struct space_ends *ends, char want)
{
	uint64_t end = clock_ms() + 20000;
	while (state(ends) != want) {
		struct pollfd p = { .fd = g->timer, .events = POLLIN };
		CHECK(clock_ms() < end && poll(&p, 1, 20000) == 1);
		guard_step(g);
	}
}

static void test_space_is_frozen_at_the_end_and_thawed_with_a_new_one(void)
{
	struct guard g;
	struct lease_file *f;
	struct space_ends ends = fake_space();
	CHECK(guard_init(&g) == 0 && lease_file_open(g_lease, &f, NULL) == 0);
	uint64_t until = lease_now_ms() + 200;
	lease_file_set(f, 1, until);
	guard_watch(&g, &ends, g_lease);
	follow(&g, &ends, '1');
	CHECK(lease_now_ms() >= until && g.is_frozen);
	lease_file_set(f, 1, lease_now_ms() + 100000);
	follow(&g, &ends, '0');
	CHECK(!g.is_frozen);
	lease_file_set(f, 1, 0);
	guard_step(&g);
	CHECK(state(&ends) == '1');
	lease_file_set(f, 1, UINT64_MAX);
	follow(&g, &ends, '0');
	lease_file_set(f, 1, lease_now_ms() + 100); /* an end after none is seen by itself */
	follow(&g, &ends, '1');
	(void)lease_file_close(f);
	guard_fini(&g);
}

static void test_an_end_that_moves_is_followed(void)
{
	struct guard g;
	struct lease_file *f;
	struct space_ends ends = fake_space();
	CHECK(guard_init(&g) == 0 && lease_file_open(g_lease, &f, NULL) == 0);
	lease_file_set(f, 1, lease_now_ms() + 50);
	guard_watch(&g, &ends, g_lease);
	for (int i = 0; i < 5; i++) {
		lease_file_set(f, 1, lease_now_ms() + 20000);
		guard_step(&g);
		CHECK(state(&ends) == '0');
		lease_file_set(f, 1, lease_now_ms() + 20001);
	}
	(void)lease_file_close(f);
	guard_fini(&g);
}

static void test_without_a_lease_nothing_is_frozen(void)
{
	struct guard g;
	struct lease_file *f;
	struct space_ends ends = fake_space();
	CHECK(guard_init(&g) == 0);
	guard_watch(&g, &ends, g_lease);
	CHECK(state(&ends) == '0' && !g.is_known);
	CHECK(lease_file_open(g_lease, &f, NULL) == 0); /* begun, but no lease yet */
	guard_step(&g);
	CHECK(state(&ends) == '0' && !g.is_known);
	lease_file_set(f, 1, 1);
	follow(&g, &ends, '1'); /* seen without being told */
	(void)lease_file_close(f);
	guard_fini(&g);
}

static void test_an_end_outlives_the_file(void)
{
	struct guard g;
	struct lease_file *f;
	struct space_ends ends = fake_space();
	CHECK(guard_init(&g) == 0 && lease_file_open(g_lease, &f, NULL) == 0);
	lease_file_set(f, 1, lease_now_ms() + 200);
	guard_watch(&g, &ends, g_lease);
	(void)lease_file_close(f);
	CHECK(lease_file_open(g_lease, &f, NULL) == 0); /* pandod starts again, and does not get further */
	(void)lease_file_close(f);
	guard_watch(&g, &ends, g_lease);
	follow(&g, &ends, '1');
	guard_fini(&g);
}

static void test_what_others_froze_is_left(void)
{
	struct guard g;
	struct lease_file *f;
	struct space_ends ends = fake_space();
	CHECK(guard_init(&g) == 0 && lease_file_open(g_lease, &f, NULL) == 0);
	CHECK(space_freeze(&ends, 1, NULL) == 0);
	lease_file_set(f, 1, lease_now_ms() + 100000);
	guard_watch(&g, &ends, g_lease);
	guard_step(&g);
	CHECK(state(&ends) == '1');
	(void)lease_file_close(f);
	guard_fini(&g);
}

static void test_a_late_thaw_of_others_is_put_right(void)
{
	struct guard g;
	struct lease_file *f;
	struct space_ends ends = fake_space();
	CHECK(guard_init(&g) == 0 && lease_file_open(g_lease, &f, NULL) == 0);
	lease_file_set(f, 1, 1);
	guard_watch(&g, &ends, g_lease);
	CHECK(state(&ends) == '1');
	CHECK(space_freeze(&ends, 0, NULL) == 0);
	follow(&g, &ends, '1');
	guard_watch(&g, NULL, NULL);
	struct pollfd p = { .fd = g.timer, .events = POLLIN };
	CHECK(poll(&p, 1, 0) == 0);
	(void)lease_file_close(f);
	guard_fini(&g);
}

/* A cgroup of our own below a hierarchy with a freezer; 0: there is none that we may use. */
static int real_cgroup(struct space_ends *ends, int v2)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	int found = 0;
	for (struct mntent *m = mounts ? getmntent(mounts) : NULL; m && !found; m = getmntent(mounts)) {
		if (v2 ? strcmp(m->mnt_type, "cgroup2") != 0 : strcmp(m->mnt_type, "cgroup") != 0 || !hasmntopt(m, "freezer"))
			continue;
		int n = snprintf(ends->cgroup, sizeof ends->cgroup, "%s/pando-space-test-%d", m->mnt_dir, getpid());
		found = n > 0 && (size_t)n < sizeof ends->cgroup && mkdir(ends->cgroup, 0755) == 0;
	}
	if (mounts)
		(void)endmntent(mounts);
	ends->freezer_v2 = v2;
	return found;
}

/* A process in the cgroup that writes to a pipe as fast as it is read. */
static pid_t busy_start(const struct space_ends *ends, int to)
{
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		char path[320];
		(void)snprintf(path, sizeof path, "%s/cgroup.procs", ends->cgroup);
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			_exit(1);
		for (;;)
			(void)!write(to, "x", 1);
	}
	return pid;
}

/* Whether it goes on: a whole pipe can come after it was frozen, not more. */
static int is_running(int from, int wait_ms)
{
	char buf[65536];
	for (int left = 3 * 65536; left > 0;) {
		struct pollfd p = { .fd = from, .events = POLLIN };
		ssize_t n = poll(&p, 1, wait_ms) == 1 ? read(from, buf, sizeof buf) : 0;
		if (n <= 0)
			return 0;
		left -= (int)n;
	}
	return 1;
}

static void real_space_frozen_and_killed(int v2)
{
	struct guard g;
	struct lease_file *f;
	struct space_ends ends = { 0 };
	int status, fds[2];
	if (geteuid() != 0 || !real_cgroup(&ends, v2)) {
		(void)printf("skip a cgroup of version %d can be made by root only, and where there is such a hierarchy\n", v2 ? 2 : 1);
		return;
	}
	(void)unlink(g_lease);
	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	ends.init = busy_start(&ends, fds[1]);
	char c;
	CHECK(read(fds[0], &c, 1) == 1); /* it is in the cgroup */
	CHECK(guard_init(&g) == 0 && lease_file_open(g_lease, &f, NULL) == 0);
	lease_file_set(f, 1, lease_now_ms() + 100);
	guard_watch(&g, &ends, g_lease);
	follow(&g, &ends, '1');
	CHECK(!is_running(fds[0], 300));
	lease_file_set(f, 1, UINT64_MAX);
	follow(&g, &ends, '0');
	CHECK(is_running(fds[0], 20000));

	/* Frozen spaces are destroyed too; a number that is another process's by now is not killed. */
	CHECK(space_freeze(&ends, 1, NULL) == 0);
	struct record_task t = record_task_of(ends.init);
	if (!v2) {
		leftover_kill(&(struct space_ends){ .init = ends.init }, t.start + 1);
		CHECK(waitpid(ends.init, &status, WNOHANG) == 0);
	}
	pid_t pid = ends.init;
	leftover_kill(&ends, t.start);
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	leftover_space(&ends, t.start);
	CHECK(access(ends.cgroup, F_OK) < 0);
	(void)lease_file_close(f);
	guard_fini(&g);
	(void)close_fd(fds[0]);
	(void)close_fd(fds[1]);
}

static void test_real_space_v2_is_frozen_and_killed(void)
{
	real_space_frozen_and_killed(1);
}

static void test_real_space_v1_is_frozen_and_killed(void)
{
	real_space_frozen_and_killed(0);
}

static void test_only_directories_of_a_space_are_removed(void)
{
	char dir[320];
	struct space_ends ends = { 0 };
	(void)snprintf(dir, sizeof dir, "%s/other", g_dir);
	CHECK(mkdir(dir, 0700) == 0);
	(void)snprintf(ends.cgroup, sizeof ends.cgroup, "%s/other", g_dir);
	leftover_space(&ends, 0);
	(void)snprintf(ends.cgroup, sizeof ends.cgroup, "%s/pando-space-x/../other", g_dir);
	leftover_space(&ends, 0);
	CHECK(rmdir(dir) == 0);
}

int main(void)
{
	char path[320];
	CHECK(mkdtemp(g_dir));
	(void)snprintf(g_lease, sizeof g_lease, "%s/lease", g_dir);
	TEST(test_space_is_frozen_at_the_end_and_thawed_with_a_new_one);
	TEST(test_an_end_that_moves_is_followed);
	TEST(test_without_a_lease_nothing_is_frozen);
	TEST(test_an_end_outlives_the_file);
	TEST(test_what_others_froze_is_left);
	TEST(test_a_late_thaw_of_others_is_put_right);
	TEST(test_real_space_v2_is_frozen_and_killed);
	TEST(test_real_space_v1_is_frozen_and_killed);
	TEST(test_only_directories_of_a_space_are_removed);
	(void)unlink(g_lease);
	(void)snprintf(path, sizeof path, "%s/pando-space-1/cgroup.freeze", g_dir);
	CHECK(unlink(path) == 0);
	*strrchr(path, '/') = 0;
	CHECK(rmdir(path) == 0 && rmdir(g_dir) == 0);
	return 0;
}
