/* Promises about the allocation of pids, each tried in a pid namespace of its own: clone3(set_tid), ns_last_pid,
 * pid_max. */
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"
#include "kern/probe.h"
#include "support.h"

static struct kern_has g_has;

static void put(const char *name, long v)
{
	char path[64], text[32];
	(void)snprintf(path, sizeof path, "/proc/sys/kernel/%s", name);
	int n = snprintf(text, sizeof text, "%ld", v);
	_cleanup_(close_p) int fd = open(path, O_WRONLY | O_CLOEXEC);
	CHECK(fd >= 0 && write(fd, text, (size_t)n) == n);
}

static long get(const char *name)
{
	char path[64], text[32] = "";
	(void)snprintf(path, sizeof path, "/proc/sys/kernel/%s", name);
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
	return atol(text);
}

/* A child with the wanted pid (0: any) that ends at once, or stays when stay is set. Its pid or -errno. */
static pid_t clone_pid(pid_t want, int stay)
{
	struct clone_args a = { .exit_signal = SIGCHLD,
				.set_tid = (uint64_t)(uintptr_t)&want,
				.set_tid_size = want != 0 };
	if (!want)
		a.set_tid = 0;
	long pid = syscall(SYS_clone3, &a, sizeof a);
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		while (stay)
			(void)pause();
		_exit(0);
	}
	if (!stay)
		CHECK(waitpid((pid_t)pid, NULL, 0) == (pid_t)pid);
	return (pid_t)pid;
}

/* Runs fn as pid 1 of a new pid namespace with its own /proc. */
static void in_pidns(void (*fn)(void))
{
	pid_t pid = child_start();
	if (pid == 0) {
		CHECK(unshare(CLONE_NEWPID | CLONE_NEWNS) == 0 &&
		      mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
		pid_t init = fork();
		CHECK(init >= 0);
		if (init == 0) {
			CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
			CHECK(getpid() == 1 && mount("proc", "/proc", "proc", 0, NULL) == 0);
			fn();
			_exit(0);
		}
		int st = 0;
		CHECK(waitpid(init, &st, 0) == init);
		_exit(WIFEXITED(st) ? WEXITSTATUS(st) : 98);
	}
	CHECK(child_end(pid) == 0);
}

/* space/: after a write of N the next pid is N + 1; one that is in use is passed over. */
static void steer(void)
{
	put("ns_last_pid", 40000);
	CHECK(clone_pid(0, 0) == 40001 && clone_pid(0, 0) == 40002 && get("ns_last_pid") == 40002);
	CHECK(clone_pid(40004, 1) == 40004);
	CHECK(clone_pid(0, 0) == 40003 && clone_pid(0, 0) == 40005);
	put("ns_last_pid", 40000);
	CHECK(clone_pid(0, 0) == 40001);
}

static void test_ns_last_pid_steers_the_next_pids(void)
{
	in_pidns(steer);
}

/* space/: a process restored with its own pid does not disturb the steering. */
static void set_tid_keeps_cursor(void)
{
	put("ns_last_pid", 50000);
	CHECK(clone_pid(700000 % 32000, 0) == 700000 % 32000);
	CHECK(clone_pid(60000, 1) == 60000 && clone_pid(20000, 1) == 20000);
	CHECK(get("ns_last_pid") == 50000 && clone_pid(0, 0) == 50001);
	CHECK(clone_pid(60000, 0) == -EEXIST);
}

static void test_set_tid_does_not_move_the_cursor(void)
{
	in_pidns(set_tid_keeps_cursor);
}

/* space/: the allocator wraps to 300, whatever slot it was steered into: so what wraps falls into slot 0. */
static void wrap(void)
{
	put("pid_max", 32000);
	put("ns_last_pid", 31997);
	CHECK(clone_pid(0, 0) == 31998 && clone_pid(0, 0) == 31999);
	CHECK(clone_pid(0, 0) == 300 && clone_pid(0, 0) == 301);
}

static void test_after_pid_max_pids_go_on_at_300(void)
{
	in_pidns(wrap);
}

/* space/: pid_max is the namespace's own, starts at 4194304, and is a wall for chosen pids too; the machine's stays. */
static long g_outside;

static void own_pid_max(void)
{
	CHECK(get("pid_max") == 4194304);
	CHECK(clone_pid(4194303, 0) == 4194303 && clone_pid(4194304, 0) == -EINVAL);
	put("pid_max", 131072);
	CHECK(clone_pid(131071, 0) == 131071 && clone_pid(131072, 0) == -EINVAL);
	put("pid_max", 4194304); /* raised around the arrival of a process, and lowered again */
	CHECK(clone_pid(200000, 1) == 200000);
	put("pid_max", 131072);
	CHECK(kill(200000, 0) == 0); /* those above stay */
	put("ns_last_pid", 131000);
	CHECK(clone_pid(0, 0) == 131001);
}

static void test_pid_max_is_a_wall_of_the_namespace(void)
{
	g_outside = get("pid_max");
	in_pidns(own_pid_max);
	CHECK(get("pid_max") == g_outside);
}

/* space/: a number that is still a group or session of a living process here is not given away: but only here. That is
 * why a placeholder must stay in the owner's kernel for what lives elsewhere. */
static void numbers_in_use(void)
{
	struct gate done;
	gate_init(&done);
	put("ns_last_pid", 8000);
	struct clone_args a = { .exit_signal = SIGCHLD };
	pid_t leader = (pid_t)syscall(SYS_clone3, &a, sizeof a);
	CHECK(leader >= 0);
	if (leader == 0) { /* makes a session, leaves a member behind, ends */
		CHECK(setsid() == 8001 && fork() >= 0);
		if (getpid() != 8001)
			for (;;)
				(void)pause();
		_exit(0);
	}
	CHECK(leader == 8001 && waitpid(leader, NULL, 0) == leader);
	put("ns_last_pid", 8000);
	CHECK(clone_pid(0, 0) == 8003); /* 8001 is a session, 8002 its member */
	CHECK(clone_pid(8001, 0) == -EEXIST);
	CHECK(kill(8002, SIGKILL) == 0 && waitpid(8002, NULL, 0) == 8002); /* orphans come to pid 1 */
	put("ns_last_pid", 8000);
	CHECK(clone_pid(0, 0) == 8001);
}

static void test_a_session_keeps_its_number_while_it_has_a_local_member(void)
{
	in_pidns(numbers_in_use);
}

/* kern/: CAP_CHECKPOINT_RESTORE alone is enough for an ordinary user to choose pids; without it there is EPERM. */
static void caps_needed(void)
{
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK(setuid(65534) == 0);
		_exit(clone_pid(9000, 0) == -EPERM ? 0 : 1);
	}
	int st = 0;
	CHECK(waitpid(pid, &st, 0) == pid && st == 0);
}

static void test_an_ordinary_user_cannot_choose_pids(void)
{
	in_pidns(caps_needed);
}

int main(void)
{
	CHECK(probe_run(&g_has) == 0);
	if (!g_has.set_tid || !g_has.ns_last_pid || !g_has.namespaces)
		SKIP("needs pid namespaces, clone3 set_tid and ns_last_pid");
	TEST(test_ns_last_pid_steers_the_next_pids);
	TEST(test_set_tid_does_not_move_the_cursor);
	TEST(test_a_session_keeps_its_number_while_it_has_a_local_member);
	TEST(test_an_ordinary_user_cannot_choose_pids);
	if (!g_has.ns_pid_max)
		SKIP("no pid_max per namespace: the tests that lower it are not run, they would change the machine");
	TEST(test_after_pid_max_pids_go_on_at_300);
	TEST(test_pid_max_is_a_wall_of_the_namespace);
	return 0;
}
