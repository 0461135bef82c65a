#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "check.h"
#include "kern/probe.h"

static size_t lines_of(const char *path)
{
	_cleanup_(fclose_p) FILE *f = fopen(path, "re");
	size_t n = 0;
	for (int c; f && (c = getc(f)) != EOF;)
		n += c == '\n';
	return n;
}

static size_t entries_of(const char *path)
{
	_cleanup_(closedir_p) DIR *d = opendir(path);
	size_t n = 0;
	while (d && readdir(d))
		n++;
	return n;
}

static int probe_groups_left(const char *path, int depth)
{
	_cleanup_(closedir_p) DIR *d = opendir(path);
	int n = 0;
	for (struct dirent *e; d && (e = readdir(d));) {
		char sub[4096];
		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		char want[64];
		(void)snprintf(want, sizeof want, "pando-probe-");
		(void)snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
		/* Others may probe at the same time: only those whose runner is gone count. */
		if (strncmp(e->d_name, want, strlen(want)) == 0)
			n += kill(atoi(e->d_name + strlen(want)), 0) < 0;
		else if (depth > 0)
			n += probe_groups_left(sub, depth - 1);
	}
	return n;
}

static void test_every_item_has_words_and_an_answer(void)
{
	struct kern_has has;
	CHECK(probe_run(&has) == 0);
	for (size_t i = 0; i < probe_n; i++) {
		const struct probe_item *p = &probe_list[i];
		bool there = probe_present(&has, p);
		int why = probe_why(&has, p);
		(void)printf("   %-32s %-8s %-8s %s\n", p->name, there ? "present" : "absent",
			     p->needed ? "needed" : "optional", there ? "" : strerror(-why));
		CHECK(p->name && p->without && *p->without);
		CHECK(there == (why == 0));
		CHECK(why != -ETIMEDOUT && why != -EPROTO);
		for (size_t j = 0; j < i; j++)
			CHECK(probe_list[j].offset != p->offset && strcmp(probe_list[j].name, p->name) != 0);
	}
	(void)printf("   pid_max %u, fuse 7.%u\n", has.pid_max, has.fuse_minor);
	CHECK(has.pid_max > 300);
	CHECK(has.fuse == (has.fuse_minor > 0));
}

/* What userland can tell independently of our own trying. */
static void test_answers_agree_with_other_sources(void)
{
	struct kern_has has;
	CHECK(probe_run(&has) == 0);
	CHECK(has.psi == (access("/proc/pressure/cpu", R_OK) == 0));
	if (geteuid() == 0 && access("/proc/sys/kernel/ns_last_pid", W_OK) == 0)
		CHECK(has.ns_last_pid && has.set_tid);
	if (access("/proc/self/timens_offsets", F_OK) < 0)
		CHECK(!has.time_ns);
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		CHECK(!has.dev_fuse && !has.fuse && !has.fuse_resend);
	CHECK((probe_missing(&has) == NULL) ==
	      (has.user_notif && has.notif_addfd && has.wait_killable && has.namespaces && has.time_ns && has.set_tid &&
	       has.ns_last_pid && has.host_pid_max && has.pidfd_getfd && has.vm_readv && has.kcmp && has.seize &&
	       has.suspend_seccomp && has.dev_fuse && has.fuse && has.open_tree && has.openat2));
}

static void test_nothing_is_left_behind(void)
{
	char pid_max[2][32] = { "", "" };
	struct kern_has has;
	size_t mounts = lines_of("/proc/self/mountinfo"), fds = entries_of("/proc/self/fd"),
	       maps = lines_of("/proc/self/maps");
	for (int i = 0; i < 2; i++) {
		_cleanup_(close_p) int fd = open("/proc/sys/kernel/pid_max", O_RDONLY | O_CLOEXEC);
		CHECK(read(fd, pid_max[i], 31) > 0);
		if (i == 0)
			CHECK(probe_run(&has) == 0);
	}
	CHECK(strcmp(pid_max[0], pid_max[1]) == 0);
	CHECK(lines_of("/proc/self/mountinfo") == mounts);
	CHECK(entries_of("/proc/self/fd") == fds);
	CHECK(lines_of("/proc/self/maps") <= maps + 1); /* the heap may have grown */
	CHECK(waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD);
	CHECK(probe_groups_left("/sys/fs/cgroup", 4) == 0);
}

static void test_it_is_fast_enough_for_every_start(void)
{
	struct kern_has has;
	uint64_t best = UINT64_MAX;
	for (int i = 0; i < 3 && best > 1000; i++) { /* the machine may be busy with others: the best of three counts */
		uint64_t t = clock_ms();
		CHECK(probe_run(&has) == 0);
		t = clock_ms() - t;
		best = t < best ? t : best;
	}
	(void)printf("   %llu ms\n", (unsigned long long)best);
	CHECK(best < 1000);
}

/* An ordinary user gets answers too, and quickly: most things are refused, none is claimed wrongly. */
static void test_an_ordinary_user_is_told_what_is_refused(void)
{
	if (geteuid() != 0)
		return;
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct kern_has has;
		if (setgid(65534) < 0 || setuid(65534) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0) /* as after a login */
			_exit(1);
		if (probe_run(&has) != 0 || has.set_tid || has.time_ns || has.ns_pid_max || has.cgroup_v2 || has.tun)
			_exit(2);
		for (size_t i = 0; i < probe_n; i++)
			if (!probe_present(&has, &probe_list[i]) && probe_why(&has, &probe_list[i]) == -ETIMEDOUT)
				_exit((int)(100 + i));
		_exit(has.vm_readv && has.openat2 && has.user_notif ? 0 : 3);
	}
	int st = 0;
	CHECK(waitpid(pid, &st, 0) == pid);
	if (!WIFEXITED(st) || WEXITSTATUS(st))
		(void)fprintf(stderr, "status %#x %d\n", (unsigned)st, WEXITSTATUS(st));
	CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0);
}

/* An old kernel, played by a filter: what it lacks is absent with ENOSYS, and the rest is as before. */
static void test_calls_of_newer_kernels_may_be_missing(void)
{
	static const int lacking[] = { SYS_clone3,  SYS_userfaultfd, SYS_io_uring_setup, SYS_landlock_create_ruleset,
				       SYS_openat2, SYS_open_tree,   SYS_pidfd_getfd,    SYS_kcmp };
	enum { N = sizeof lacking / sizeof lacking[0] };
	struct sock_filter code[N + 3] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
	struct sock_fprog prog = { .len = N + 3, .filter = code };
	for (size_t i = 0; i < N; i++)
		code[i + 1] =
		    (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)lacking[i], (uint8_t)(N - i), 0);
	code[N + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[N + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);

	struct kern_has with;
	CHECK(probe_run(&with) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct kern_has has;
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
			_exit(1);
		if (probe_run(&has) != 0)
			_exit(2);
		bool *absent[] = { &has.set_tid, &has.uffd,      &has.uffd_wp_async, &has.io_uring, &has.landlock,
				   &has.openat2, &has.open_tree, &has.pidfd_getfd,   &has.kcmp,     &has.cgroup_v2 };
		for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
			for (size_t j = 0; j < probe_n; j++)
				if ((size_t)((char *)absent[i] - (char *)&has) == probe_list[j].offset &&
				    (*absent[i] || (has.why[j] != -ENOSYS && with.why[j] == 0)))
					_exit((int)(100 + j));
		bool same =
		    has.user_notif == with.user_notif && has.vm_readv == with.vm_readv && has.time_ns == with.time_ns;
		_exit(same && probe_missing(&has) ? 0 : 3);
	}
	int st = 0;
	CHECK(waitpid(pid, &st, 0) == pid);
	if (!WIFEXITED(st) || WEXITSTATUS(st))
		(void)fprintf(stderr, "status %#x %d\n", (unsigned)st, WEXITSTATUS(st));
	CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0);
}

int main(void)
{
	TEST(test_every_item_has_words_and_an_answer);
	TEST(test_answers_agree_with_other_sources);
	TEST(test_nothing_is_left_behind);
	TEST(test_it_is_fast_enough_for_every_start);
	TEST(test_an_ordinary_user_is_told_what_is_refused);
	TEST(test_calls_of_newer_kernels_may_be_missing);
	return 0;
}
