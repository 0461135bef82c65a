/* Reading the native procfs for somebody: what the kernel refuses to him is refused, and nothing leads out of it. As root. */
#include "procfs/serve.h"

#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"

enum { UID_A = 12345, UID_B = 23456 };

static int procfd;
static pid_t of_a, of_root; /* sleeping processes */

static const struct cred root = { .caps = CRED_CAPS_ALL };
static const struct cred user_a = { .uid = UID_A, .gid = UID_A };
static const struct cred user_b = { .uid = UID_B, .gid = UID_B };

static pid_t sleeper(uid_t uid)
{
	int ready[2];
	char byte;
	CHECK(pipe2(ready, O_CLOEXEC) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (uid && (setgroups(0, NULL) < 0 || setgid(uid) < 0 || setuid(uid) < 0))
			_exit(1);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* setuid clears it */
		(void)prctl(PR_SET_DUMPABLE, 1);
		(void)!write(ready[1], "r", 1);
		for (;;)
			(void)pause();
	}
	(void)close(ready[1]);
	CHECK(read(ready[0], &byte, 1) == 1);
	(void)close(ready[0]);
	return pid;
}

/* The status of the answer; *ret (the caller frees) is at its body. */
static int ask(enum remote_op op, const struct cred *c, int local, const char *path, struct wr *reply, struct rd *ret)
{
	struct serve_job j = { .procfd = procfd, .local = local, .q = { .op = (uint8_t)op, .cred = *c, .size = 4096 } };
	(void)snprintf(j.q.path, sizeof(j.q.path), "%s", path);
	*reply = (struct wr){ 0 };
	serve_run(&j, reply);
	CHECK(geteuid() == 0 && setfsuid((uid_t)-1) == 0);
	return remote_reply_get(reply->p, reply->n, ret);
}

static int status_of(enum remote_op op, const struct cred *c, pid_t pid, const char *file)
{
	char path[64];
	struct wr w;
	struct rd r;
	(void)snprintf(path, sizeof(path), "%d%s%s", pid, *file ? "/" : "", file);
	int rc = ask(op, c, 0, path, &w, &r);
	wr_fini(&w);
	return rc;
}

static void test_everybody_reads_what_is_for_everybody(void)
{
	static const char *const open_files[] = { "stat", "status", "cmdline", "comm", "statm", "limits", "cgroup" };
	for (size_t i = 0; i < sizeof(open_files) / sizeof(open_files[0]); i++) {
		CHECK(status_of(REMOTE_READ, &user_b, of_a, open_files[i]) == 0);
		CHECK(status_of(REMOTE_READ, &user_b, of_root, open_files[i]) == 0);
	}
}

static void test_private_files_are_for_the_owner_and_root(void)
{
	static const char *const files[] = { "environ", "maps", "smaps", "auxv", "io", "mem" };
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		CHECK(status_of(REMOTE_READ, &user_b, of_a, files[i]) == -EACCES);
		CHECK(status_of(REMOTE_READ, &user_a, of_root, files[i]) == -EACCES);
		if (strcmp(files[i], "mem") == 0)
			continue; /* nothing is mapped at 0 */
		CHECK(status_of(REMOTE_READ, &user_a, of_a, files[i]) == 0);
		CHECK(status_of(REMOTE_READ, &root, of_a, files[i]) == 0);
	}
	CHECK(status_of(REMOTE_LIST, &user_b, of_a, "fd") == -EACCES && status_of(REMOTE_LIST, &user_a, of_a, "fd") == 0);
	CHECK(status_of(REMOTE_READLINK, &user_b, of_a, "exe") == -EACCES && status_of(REMOTE_READLINK, &user_a, of_a, "exe") == 0);
	CHECK(status_of(REMOTE_READLINK, &user_a, of_root, "cwd") == -EACCES);
	CHECK(status_of(REMOTE_READLINK, &user_a, of_a, "stat") == -EINVAL);
}

static void test_uid_0_without_capabilities_is_no_root(void)
{
	const struct cred bare = { 0 };
	CHECK(status_of(REMOTE_READ, &bare, of_a, "environ") == -EACCES);
}

static void test_a_group_counts(void)
{
	struct cred c = user_b;
	char path[] = "/tmp/test-serve.XXXXXX";
	int fd = mkstemp(path);
	CHECK(fd >= 0 && fchown(fd, 0, 777) == 0 && fchmod(fd, 0640) == 0);
	(void)close(fd);
	CHECK(cred_enter(&c) == 0);
	CHECK(open(path, O_RDONLY) < 0 && errno == EACCES);
	cred_leave();
	c.n_groups = 1;
	c.groups[0] = 777;
	CHECK(cred_enter(&c) == 0);
	fd = open(path, O_RDONLY);
	cred_leave();
	CHECK(fd >= 0);
	(void)close(fd);
	fd = open(path, O_RDWR); /* root again */
	CHECK(fd >= 0);
	(void)close(fd);
	(void)unlink(path);
}

static int go[2];

static void *other_thread(void *arg)
{
	char byte;
	int ok = read(go[0], &byte, 1) == 1 && setfsuid((uid_t)-1) == 0;
	char path[64];
	(void)snprintf(path, sizeof(path), "/proc/%d/environ", of_root);
	_cleanup_(close_p) int fd = open(path, O_RDONLY);
	return (void *)(intptr_t)(ok && fd >= 0);
}

static void test_credentials_are_those_of_one_thread(void)
{
	pthread_t t;
	void *ok;
	CHECK(pipe(go) == 0 && pthread_create(&t, NULL, other_thread, NULL) == 0);
	CHECK(cred_enter(&user_a) == 0);
	CHECK(write(go[1], "g", 1) == 1 && pthread_join(t, &ok) == 0);
	cred_leave();
	CHECK(ok);
	(void)close(go[0]);
	(void)close(go[1]);
}

static void test_no_link_is_followed(void)
{
	static const char *const paths[] = { "self/stat", "thread-self/stat", "1/root/etc/passwd", "1/cwd/x", "self", "1/root" };
	struct wr w;
	struct rd r;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		int rc = ask(REMOTE_READ, &root, 1, paths[i], &w, &r);
		CHECK(rc == -ELOOP || rc == -EXDEV);
		wr_fini(&w);
		rc = ask(REMOTE_LIST, &root, 1, paths[i], &w, &r);
		CHECK(rc < 0);
		wr_fini(&w);
	}
}

static void test_other_nodes_see_processes_and_figures_only(void)
{
	static const char *const no[] = { "sys/kernel/core_pattern", "kcore", "kmsg", "net/tcp", "mounts", "sysrq-trigger", "config.gz", "cmdline" };
	struct wr w;
	struct rd r;
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		CHECK(ask(REMOTE_READ, &root, 0, no[i], &w, &r) == -ENOENT);
		wr_fini(&w);
	}
	CHECK(ask(REMOTE_READ, &user_b, 0, "meminfo", &w, &r) == 0);
	wr_fini(&w);
	CHECK(ask(REMOTE_LIST, &root, 0, "", &w, &r) == 0);
	(void)rd_u64(&r);
	for (uint32_t n = rd_count(&r, 10000, REMOTE_ENTRY_MIN); n; n--) {
		struct remote_entry e;
		remote_entry_get(&r, &e);
		CHECK(!r.bad && serve_is_global(e.name));
	}
	CHECK(rd_done(&r) == 0);
	wr_fini(&w);
}

static void test_only_the_node_itself_writes(void)
{
	char path[64];
	struct wr w;
	struct rd r;
	(void)snprintf(path, sizeof(path), "%d/oom_score_adj", of_a);
	struct serve_job j = { .procfd = procfd, .q = { .op = REMOTE_WRITE, .cred = root, .data = (const uint8_t *)"77", .data_n = 2 } };
	memcpy(j.q.path, path, sizeof(path));
	struct wr reply = { 0 };
	serve_run(&j, &reply);
	CHECK(remote_reply_get(reply.p, reply.n, &r) == -EACCES);
	wr_fini(&reply);
	j.local = 1;
	serve_run(&j, &reply);
	CHECK(remote_reply_get(reply.p, reply.n, &r) == 0 && rd_u32(&r) == 2);
	wr_fini(&reply);
	CHECK(ask(REMOTE_READ, &root, 0, path, &w, &r) == 0);
	CHECK(rd_u8(&r) == 1 && rd_u32(&r) == 3 && memcmp(r.p, "77\n", 3) == 0);
	wr_fini(&w);
}

static void test_the_bulk_answer_has_all_but_the_hidden(void)
{
	uint32_t hidden[1] = { (uint32_t)of_root };
	struct serve_job j = { .procfd = procfd, .hidden = hidden, .n_hidden = 1, .q = { .op = REMOTE_BULK, .cred = root } };
	struct wr w = { 0 };
	struct rd r;
	int seen_a = 0;
	serve_run(&j, &w);
	CHECK(remote_reply_get(w.p, w.n, &r) == 0 && rd_u32(&r) == 0);
	uint32_t last = 0;
	for (uint32_t n = rd_count(&r, REMOTE_PID_MAX, REMOTE_PROC_MIN); n; n--) {
		struct remote_proc p;
		remote_proc_get(&r, &p);
		CHECK(!r.bad && p.pid > last && p.pid != (uint32_t)of_root);
		last = p.pid;
		if (p.pid == (uint32_t)of_a) {
			seen_a = 1;
			CHECK(p.owner.uid == UID_A && (p.owner.flags & REMOTE_PID_DUMPABLE));
		}
	}
	CHECK(rd_done(&r) == 0 && seen_a);
	wr_fini(&w);
	char path[32];
	(void)snprintf(path, sizeof(path), "%d/stat", of_root);
	j.q.op = REMOTE_READ;
	memcpy(j.q.path, path, sizeof(path));
	serve_run(&j, &w);
	CHECK(remote_reply_get(w.p, w.n, &r) == -ENOENT);
	wr_fini(&w);
}

static void test_figures_come_with_cpuinfo_when_asked_for(void)
{
	for (uint32_t flags = 0; flags <= REMOTE_STATS_CPUINFO; flags++) {
		struct serve_job j = { .procfd = procfd, .q = { .op = REMOTE_STATS, .cred = user_b, .flags = flags } };
		struct wr w = { 0 };
		struct rd r;
		serve_run(&j, &w);
		CHECK(remote_reply_get(w.p, w.n, &r) == 0);
		for (int i = 0; i < REMOTE_S_COUNT; i++) {
			size_t n;
			(void)rd_bytes(&r, REMOTE_CHUNK, &n);
			CHECK((n > 0) == (i != REMOTE_S_CPUINFO || flags));
		}
		CHECK(rd_done(&r) == 0);
		wr_fini(&w);
	}
}

static void test_status_tells_groups_and_capabilities(void)
{
	struct cred c = { .uid = 5 };
	cred_parse_status("Name:\tx\nGroups:\t4 24 1000 \nNStgid:\t1\nCapPrm:\t00000000000000ff\nCapEff:\t00000000a0000003\n", &c);
	CHECK(c.uid == 5 && c.n_groups == 3 && c.groups[0] == 4 && c.groups[2] == 1000 && c.caps == 0xa0000003);
	cred_parse_status("Name:\tx\nGroups:\t\n", &c);
	CHECK(c.n_groups == 0 && c.caps == 0);
	char many[4096] = "\nGroups:\t";
	for (size_t i = 0; i < CRED_GROUPS_MAX + 10; i++)
		(void)strcat(many, "7 ");
	cred_parse_status(many, &c);
	CHECK(c.n_groups == CRED_GROUPS_MAX);

	cred_of(procfd, of_a, UID_A, UID_A, &c);
	CHECK(c.uid == UID_A && c.caps == 0 && c.n_groups == 0);
	struct stat st;
	cred_of(procfd, getpid(), 0, 0, &c);
	CHECK((c.caps != 0) == (fstatat(procfd, "1/ns/user", &st, 0) == 0)); /* where pid 1 cannot be looked at, nobody is believed */
	cred_of(procfd, 0, 0, 0, &c);
	CHECK(c.caps == CRED_CAPS_ALL);
	cred_of(procfd, 0, 5, 5, &c);
	CHECK(c.caps == 0);
	cred_of(procfd, 0x7fffffff, 0, 0, &c);
	CHECK(c.caps == 0);
}

static void test_credentials_on_the_wire_stand_every_prefix(void)
{
	struct cred c = { .uid = 1, .gid = 2, .caps = 3, .n_groups = 2, .groups = { 8, 9 } }, got;
	struct wr w = { 0 };
	cred_put(&w, &c);
	for (size_t n = 0; n <= w.n; n++) {
		struct rd r;
		rd_init(&r, w.p, n);
		cred_get(&r, &got);
		CHECK(rd_done(&r) == (n == w.n ? 0 : -EBADMSG) && got.n_groups <= CRED_GROUPS_MAX);
	}
	CHECK(got.groups[1] == 9);
	wr_fini(&w);
}

int main(void)
{
	if (geteuid() != 0)
		SKIP("needs root");
	procfd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(procfd >= 0);
	if (setgroups(0, NULL) < 0)
		SKIP("needs CAP_SETGID");
	of_a = sleeper(UID_A);
	of_root = sleeper(0);
	TEST(test_everybody_reads_what_is_for_everybody);
	TEST(test_private_files_are_for_the_owner_and_root);
	TEST(test_uid_0_without_capabilities_is_no_root);
	TEST(test_a_group_counts);
	TEST(test_credentials_are_those_of_one_thread);
	TEST(test_no_link_is_followed);
	TEST(test_other_nodes_see_processes_and_figures_only);
	TEST(test_only_the_node_itself_writes);
	TEST(test_the_bulk_answer_has_all_but_the_hidden);
	TEST(test_figures_come_with_cpuinfo_when_asked_for);
	TEST(test_status_tells_groups_and_capabilities);
	TEST(test_credentials_on_the_wire_stand_every_prefix);
	(void)kill(of_a, SIGKILL);
	(void)kill(of_root, SIGKILL);
	(void)waitpid(of_a, NULL, 0);
	(void)waitpid(of_root, NULL, 0);
	return 0;
}
