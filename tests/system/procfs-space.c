/* A space with the /proc of the cluster, as pandod makes it: space_create, the journal, the server on its loop, pando-procfs as a child
 * (as the keeper starts it), ZYG_PROC_FINISH when it is there; then once more as a pandod that was started again. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/paths.h"
#include "check.h"
#include "procfs/server.h"
#include "space/create.h"
#include "stub/proto.h"

enum { WAIT_MS = 20000, PROC_MAGIC = 0x9fa0, FUSE_MAGIC = 0x65735546 };

static uv_loop_t loop;
static char libexec[PATHS_MAX], run_dir[64];
static struct space_ends ends;
static int journal = -1, clients;
static struct procfs_server *server;
static pid_t procfs_pid;

static int no_call(void *ctx, uint16_t node, const void *p, size_t n, uint32_t timeout_ms, uint64_t token)
{
	return -ENOTCONN; /* there is but one node */
}

static void on_client(void *ctx, int there, int pid)
{
	clients += there;
}

static void on_turn(uv_timer_t *t)
{
}

/* Turns the loop until *what is at least want. */
static void loop_until(const int *what, int want)
{
	uint64_t until = clock_ms() + WAIT_MS;
	while (*what < want && clock_ms() < until)
		(void)uv_run(&loop, UV_RUN_ONCE);
	CHECK(*what >= want);
}

static void pandod_start(void)
{
	struct err e = { 0 };
	struct procfs_server_config cfg = { .loop = &loop, .run_dir = run_dir, .self = 1, .call = no_call, .on_client = on_client };
	CHECK(procfs_server_new(&cfg, &server, &e) == 0);
	CHECK(procfs_server_node(server, 1, "one", 1) == 0);
	procfs_server_ready(server);
	CHECK(procfs_server_space(server, ends.fuse_fd, ends.proc_fd, journal, &e) == 0);
}

static void procfs_start(void)
{
	char exe[PATHS_MAX + 32];
	(void)snprintf(exe, sizeof exe, "%s/pando-procfs", libexec);
	procfs_pid = fork();
	CHECK(procfs_pid >= 0);
	if (procfs_pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)execl(exe, exe, "--run", run_dir, NULL);
		_exit(127);
	}
}

/* What the zygote says to ZYG_PROC_FINISH, while the loop turns for the server. */
static int proc_finish(void)
{
	struct zyg_cmd c = { .op = ZYG_PROC_FINISH, .id = 7 };
	union {
		struct cmsghdr h;
		char b[CMSG_SPACE(sizeof(int))];
	} u = { .h = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) } };
	memcpy(CMSG_DATA(&u.h), &ends.proc_fd, sizeof(int));
	struct iovec iov = { &c, sizeof c };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b };
	CHECK(sendmsg(ends.sock, &h, 0) == (ssize_t)sizeof c);
	struct zyg_msg m = { 0 };
	uint64_t until = clock_ms() + WAIT_MS;
	while (clock_ms() < until) {
		(void)uv_run(&loop, UV_RUN_ONCE);
		if (recv(ends.sock, &m, sizeof m, MSG_DONTWAIT) == (ssize_t)sizeof m && m.op == ZYG_PROC_FINISHED)
			break;
	}
	CHECK(m.op == ZYG_PROC_FINISHED && m.id == 7);
	return m.result;
}

/* Runs fn in the space, as a process of it, while the loop turns; its result (0..100). */
static int inside(int (*fn)(void))
{
	char pid_ns[64], mnt_ns[64];
	(void)snprintf(pid_ns, sizeof pid_ns, "/proc/%d/ns/pid", ends.init);
	(void)snprintf(mnt_ns, sizeof mnt_ns, "/proc/%d/ns/mnt", ends.init);
	pid_t outer = fork();
	CHECK(outer >= 0);
	if (outer == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		int p = open(pid_ns, O_RDONLY), m = open(mnt_ns, O_RDONLY);
		if (setns(p, CLONE_NEWPID) < 0 || setns(m, CLONE_NEWNS) < 0)
			_exit(101);
		pid_t pid = fork();
		if (pid == 0)
			_exit(fn());
		int status;
		(void)waitpid(pid, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 102);
	}
	int status = 0;
	uint64_t until = clock_ms() + WAIT_MS;
	while (waitpid(outer, &status, WNOHANG) != outer) {
		CHECK(clock_ms() < until);
		(void)uv_run(&loop, UV_RUN_ONCE);
	}
	CHECK(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static long type_of(const char *path)
{
	struct statfs st;
	return statfs(path, &st) < 0 ? -errno : st.f_type;
}

static int link_is(const char *path, const char *want)
{
	char text[256];
	ssize_t n = readlink(path, text, sizeof text - 1);
	text[n > 0 ? n : 0] = 0;
	return strcmp(text, want) == 0;
}

/* Number of lines of the space's mounts on this place. */
static int mounts_on(const char *dir)
{
	char line[4096], at[512];
	int n = 0;
	_cleanup_(fclose_p) FILE *f = fopen("/proc/self/mounts", "re");
	while (f && fgets(line, sizeof line, f))
		n += sscanf(line, "%*s %511s", at) == 1 && strcmp(at, dir) == 0;
	return n;
}

static int see_mounts(void)
{
	if (type_of("/proc") != FUSE_MAGIC)
		return 1;
	if (type_of("/proc/.n") != PROC_MAGIC || mounts_on("/proc/.n") != 1)
		return 2;
	if (type_of("/proc/sys") != PROC_MAGIC || mounts_on("/proc/sys") != 1)
		return 3;
	char pid[16];
	(void)snprintf(pid, sizeof pid, "%d", getpid());
	if (!link_is("/proc/.n/self", pid))
		return 4;
	if (access("/proc/1/stat", R_OK) < 0 || access("/proc/self/status", R_OK) < 0)
		return 5;
	return 0;
}

static int see_native(void)
{
	return type_of("/proc") != PROC_MAGIC || access("/proc/1/stat", R_OK) < 0;
}

/* The ways to oneself stand while nobody serves, though nobody in the space went them before. */
static int see_without_server(void)
{
	if (open("/proc/self/fd/0", O_RDONLY) < 0 || (access("/dev/fd", F_OK) == 0 && open("/dev/fd/0", O_RDONLY) < 0))
		return 1;
	if (access("/proc/thread-self/comm", R_OK) < 0 || access("/proc/mounts", R_OK) < 0 || access("/proc/net/dev", R_OK) < 0)
		return 2;
	return type_of("/proc/.n") != PROC_MAGIC || access("/proc/sys/kernel/ostype", R_OK) < 0 ? 3 : 0;
}

static void space_make(int use_fuse)
{
	struct err e = { 0 };
	struct space_layout l = { .slot = 1, .libexec = libexec, .use_fuse = use_fuse };
	int rc = space_create(&l, &ends, &e);
	if (rc < 0)
		(void)fprintf(stderr, "%s\n", e.text);
	CHECK(rc == 0);
}

static void test_without_fuse_the_native_proc_is_there(void)
{
	space_make(0);
	CHECK(ends.fuse_fd == -1 && ends.proc_fd == -1);
	CHECK(inside(see_native) == 0);
	space_destroy(&ends);
	ends.sock = close_fd(ends.sock);
}

static void test_the_space_is_made_before_a_server_is_there(void)
{
	space_make(1);
	CHECK(ends.fuse_fd >= 0 && ends.proc_fd >= 0);
	CHECK(procfs_journal_new(&journal, NULL) == 0);
}

static void test_proc_is_finished_when_a_server_is_there(void)
{
	pandod_start();
	procfs_start();
	loop_until(&clients, 1);
	CHECK(proc_finish() == 0);
	CHECK(inside(see_mounts) == 0);
}

static void test_finishing_twice_changes_nothing(void)
{
	CHECK(proc_finish() == 0);
	CHECK(inside(see_mounts) == 0);
}

static void test_the_ways_to_oneself_need_no_server(void)
{
	int status;
	CHECK(kill(procfs_pid, SIGKILL) == 0 && waitpid(procfs_pid, &status, 0) == procfs_pid);
	CHECK(inside(see_without_server) == 0);
	int before = clients;
	procfs_start();
	loop_until(&clients, before + 1);
	CHECK(inside(see_mounts) == 0);
}

static int closed;
static void on_closed(void *ctx)
{
	closed++;
}

static void test_a_new_pandod_takes_the_mount_over(void)
{
	procfs_server_close(server, on_closed, NULL);
	loop_until(&closed, 1);
	int before = clients;
	pandod_start();
	loop_until(&clients, before + 1);
	CHECK(proc_finish() == 0);
	CHECK(inside(see_mounts) == 0);
}

static void test_the_server_ends_with_the_space(void)
{
	procfs_server_space_gone(server);
	ends.fuse_fd = close_fd(ends.fuse_fd);
	space_destroy(&ends);
	int status = 0;
	uint64_t until = clock_ms() + WAIT_MS;
	while (waitpid(procfs_pid, &status, WNOHANG) != procfs_pid) {
		CHECK(clock_ms() < until);
		(void)uv_run(&loop, UV_RUN_ONCE);
	}
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	ends.sock = close_fd(ends.sock);
	ends.proc_fd = close_fd(ends.proc_fd);
	journal = close_fd(journal);
	procfs_server_close(server, on_closed, NULL);
	loop_until(&closed, 2);
}

int main(void)
{
	uv_timer_t turn;
	if (geteuid() != 0)
		SKIP("needs root");
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		SKIP("needs /dev/fuse");
	const char *dir = getenv("PANDO_LIBEXEC");
	CHECK(dir && strlen(dir) < sizeof libexec);
	(void)strcpy(libexec, dir);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)strcpy(run_dir, "/tmp/procfs-space.XXXXXX");
	CHECK(mkdtemp(run_dir));
	CHECK(uv_loop_init(&loop) == 0 && uv_timer_init(&loop, &turn) == 0);
	CHECK(uv_timer_start(&turn, on_turn, 5, 5) == 0); /* no wait of the loop is longer */

	TEST(test_without_fuse_the_native_proc_is_there);
	TEST(test_the_space_is_made_before_a_server_is_there);
	TEST(test_proc_is_finished_when_a_server_is_there);
	TEST(test_finishing_twice_changes_nothing);
	TEST(test_the_ways_to_oneself_need_no_server);
	TEST(test_a_new_pandod_takes_the_mount_over);
	TEST(test_the_server_ends_with_the_space);

	uv_close((uv_handle_t *)&turn, NULL);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	CHECK(uv_loop_close(&loop) == 0);
	char sock[128];
	(void)snprintf(sock, sizeof sock, "%s/procfs.sock", run_dir);
	(void)unlink(sock);
	CHECK(rmdir(run_dir) == 0);
	return 0;
}
