#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "check.h"
#include "sched/load.h"

static const struct load_report good = { .cpus_milli = 1500,
					 .speed_milli = 900,
					 .running_milli = 7250,
					 .usage_milli = 1490,
					 .mem_total = 8ull << 30,
					 .mem_free = 3ull << 30,
					 .tasks = 321,
					 .psi_cpu = 123,
					 .psi_mem = LOAD_PSI_UNKNOWN,
					 .age_ms = 17 };

static void test_a_report_is_read_back(void)
{
	struct wr w = { 0 };
	struct load_report l;
	load_encode(&w, &good);
	CHECK(wr_done(&w) == 0);
	CHECK(load_decode(w.p, w.n, &l) == 0);
	CHECK(l.cpus_milli == good.cpus_milli && l.speed_milli == good.speed_milli &&
	      l.running_milli == good.running_milli && l.usage_milli == good.usage_milli &&
	      l.mem_total == good.mem_total && l.mem_free == good.mem_free && l.tasks == good.tasks &&
	      l.psi_cpu == good.psi_cpu && l.psi_mem == good.psi_mem && l.age_ms == good.age_ms);
	wr_fini(&w);
}

static void test_every_prefix_and_every_extension_is_refused(void)
{
	struct wr w = { 0 };
	struct load_report l;
	load_encode(&w, &good);
	for (size_t cut = 0; cut < w.n; cut++)
		CHECK(load_decode(w.p, cut, &l) == -EBADMSG);
	wr_u8(&w, 0);
	CHECK(load_decode(w.p, w.n, &l) == -EBADMSG);
	w.p[0] = 2; /* a later version may append */
	CHECK(load_decode(w.p, w.n, &l) == 0 && l.tasks == good.tasks);
	w.p[0] = 0;
	CHECK(load_decode(w.p, w.n, &l) == -EBADMSG);
	wr_fini(&w);
}

static int refused(struct load_report l)
{
	struct wr w = { 0 };
	struct load_report ret;
	load_encode(&w, &l);
	int rc = load_decode(w.p, w.n, &ret);
	wr_fini(&w);
	return rc == -EBADMSG;
}

static void test_figures_out_of_range_are_refused(void)
{
	struct load_report l = good;
	CHECK(!refused(l));
	l.cpus_milli = 0;
	CHECK(refused(l));
	l.cpus_milli = UINT32_MAX;
	CHECK(refused(l));
	l = good;
	l.speed_milli = 0;
	CHECK(refused(l));
	l = good;
	l.running_milli = UINT32_MAX;
	CHECK(refused(l));
	l = good;
	l.mem_free = l.mem_total + 1;
	CHECK(refused(l));
	l = good;
	l.psi_cpu = 1001;
	CHECK(refused(l));
	l = good;
	l.tasks = UINT32_MAX;
	CHECK(refused(l));
}

static void test_speed_is_measured_alike_twice(void)
{
	double a = load_speed(), b = load_speed();
	(void)printf("   speed %.2f %.2f\n", a, b);
	CHECK(a > 0.01 && a < 100 && b > a / 2 && b < a * 2);
}

static pid_t spin_start(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (volatile unsigned long i = 0;; i++)
			;
	}
	CHECK(pid > 0);
	return pid;
}

static void spin_stop(pid_t pid)
{
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
}

/* Samples every 50 ms until the figure is at least this or the deadline is over. */
static struct load_report sample_until(struct load_probe *p, uint32_t running_milli, int ms)
{
	struct load_report l;
	uint64_t end = clock_ms() + (uint64_t)ms;
	do {
		(void)poll(NULL, 0, 50); /* load is a matter of time */
		struct err e = { .text = "" };
		if (load_probe_sample(p, clock_ms(), &l, &e) < 0)
			(void)fprintf(stderr, "%s\n", e.text);
		CHECK(load_probe_sample(p, clock_ms(), &l, &e) == 0);
	} while ((l.running_milli < running_milli || (running_milli > 0 && l.tasks == 0)) && clock_ms() < end); /* 0 tasks: not known just now */
	return l;
}

static void test_the_host_shows_two_busy_tasks(void)
{
	struct load_config c = { .source = "host", .speed = 1 };
	struct load_probe *p;
	CHECK(load_probe_new(&c, &p, NULL) == 0);
	struct load_report l = sample_until(p, 0, 0);
	CHECK(l.mem_total > l.mem_free && l.mem_free > 0 &&
	      l.cpus_milli == (uint32_t)sysconf(_SC_NPROCESSORS_ONLN) * 1000);
	pid_t a = spin_start(), b = spin_start();
	l = sample_until(p, 1900, 10000);
	CHECK(l.running_milli >= 1900 && l.usage_milli > 300 && l.tasks > 2);
	spin_stop(a);
	spin_stop(b);
	p = load_probe_free(p);
}

/* A group of the given hierarchy, made for the test; "" when the machine has none. */
static int group_make(const char *mount, char *ret, size_t size)
{
	(void)snprintf(ret, size, "%s/pando-test-load-%d", mount, (int)getpid());
	return mkdir(ret, 0755);
}

static void put(const char *dir, const char *file, const char *text)
{
	char path[512];
	(void)snprintf(path, sizeof path, "%s/%s", dir, file);
	_cleanup_(close_p) int fd = open(path, O_WRONLY | O_CLOEXEC);
	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

/* Two busy tasks in a group, one of them in a group below it, and one busy task outside. */
static void group_check(const char *mount, int by_name)
{
	char dir[256], sub[300], source[300], text[32];
	if (group_make(mount, dir, sizeof dir) < 0) {
		(void)printf("   no %s here\n", mount);
		return;
	}
	(void)snprintf(sub, sizeof sub, "%s/inner", dir);
	CHECK(mkdir(sub, 0755) == 0);
	(void)snprintf(source, sizeof source, "cgroup:%s", by_name ? strrchr(dir, '/') + 1 : dir);
	struct load_config c = { .source = source, .speed = 1, .cpus = 0.5 };
	struct load_probe *p = NULL;
	struct err e = { .text = "" };
	int rc = load_probe_new(&c, &p, &e);
	pid_t pid[3] = { spin_start(), spin_start(), spin_start() };
	struct load_report idle = { 0 }, l = { 0 };
	if (!rc) {
		idle = sample_until(p, 0, 0);
		for (int i = 0; i < 2; i++) {
			(void)snprintf(text, sizeof text, "%d", (int)pid[i]);
			put(i ? sub : dir, "cgroup.procs", text);
		}
		l = sample_until(p, 1800, 10000);
	}
	for (int i = 0; i < 3; i++)
		spin_stop(pid[i]);
	p = load_probe_free(p);
	uint64_t end = clock_ms() + 5000;
	while ((rmdir(sub) < 0 || rmdir(dir) < 0) && errno == EBUSY && clock_ms() < end)
		(void)poll(NULL, 0, 5); /* the kernel's own clean-up after the tasks */
	(void)rmdir(dir);
	if (rc)
		(void)fprintf(stderr, "%s\n", e.text);
	CHECK(rc == 0);
	CHECK(access(dir, F_OK) < 0);
	CHECK(idle.running_milli < 500 && idle.cpus_milli == 500);
	(void)printf("   %s: running %u usage %u tasks %u\n", mount, l.running_milli, l.usage_milli, l.tasks);
	CHECK(l.running_milli >= 1800 && l.running_milli <= 2300 && l.usage_milli > 0 && l.tasks == 2);
}

static void test_a_control_group_shows_its_own_tasks_only(void)
{
	group_check("/sys/fs/cgroup/cpuacct", 0);
	group_check("/sys/fs/cgroup/cpuacct", 1);
	group_check("/sys/fs/cgroup/unified", 0);
	if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0)
		group_check("/sys/fs/cgroup", 0);
}

static void test_the_quota_of_a_group_is_its_number_of_cpus(void)
{
	char dir[256], acct[256], source[300];
	if (group_make("/sys/fs/cgroup/cpu", dir, sizeof dir) < 0) {
		(void)printf("   no v1 cpu controller here\n");
		return;
	}
	(void)snprintf(source, sizeof source, "cgroup:%s", strrchr(dir, '/') + 1);
	int made = group_make("/sys/fs/cgroup/cpuacct", acct, sizeof acct) == 0; /* else the same hierarchy */
	put(dir, "cpu.cfs_quota_us", "25000");
	struct load_config c = { .source = source, .speed = 1 };
	struct load_probe *p = NULL;
	struct load_report l = { 0 };
	int rc = load_probe_new(&c, &p, NULL);
	if (!rc)
		rc = load_probe_sample(p, clock_ms(), &l, NULL);
	p = load_probe_free(p);
	CHECK(rmdir(dir) == 0 && (!made || rmdir(acct) == 0));
	CHECK(rc == 0 && l.cpus_milli == 250);
}

static void test_bad_sources_are_refused_with_words(void)
{
	static const char *const bad[] = {
		"", "hosts", "cgroup:", "cgroup:/tmp", "cgroup:no/such/group", "cgroup:../../etc"
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct load_config c = { .source = bad[i], .speed = 1 };
		struct load_probe *p;
		struct err e = { .text = "" };
		if (strcmp(bad[i], "cgroup:") == 0)
			continue; /* the root of the hierarchy: allowed */
		CHECK(load_probe_new(&c, &p, &e) < 0 && e.text[0]);
	}
	struct load_config c = { .source = "host", .cpus = -1 };
	struct load_probe *p;
	CHECK(load_probe_new(&c, &p, NULL) == -EINVAL);
}

static void test_a_look_is_cheap(void)
{
	struct load_config c = { .source = "host", .speed = 1 };
	struct load_probe *p;
	struct load_report l;
	CHECK(load_probe_new(&c, &p, NULL) == 0);
	uint64_t best = UINT64_MAX;
	for (int i = 0; i < 50; i++) {
		uint64_t t = clock_ns();
		CHECK(load_probe_sample(p, clock_ms(), &l, NULL) == 0);
		t = clock_ns() - t;
		best = t < best ? t : best;
	}
	(void)printf("   %llu us\n", (unsigned long long)best / 1000);
	CHECK(best < 2000000);
	p = load_probe_free(p);
}

int main(void)
{
	TEST(test_a_report_is_read_back);
	TEST(test_every_prefix_and_every_extension_is_refused);
	TEST(test_figures_out_of_range_are_refused);
	TEST(test_speed_is_measured_alike_twice);
	TEST(test_the_host_shows_two_busy_tasks);
	TEST(test_a_control_group_shows_its_own_tasks_only);
	TEST(test_the_quota_of_a_group_is_its_number_of_cpus);
	TEST(test_bad_sources_are_refused_with_words);
	TEST(test_a_look_is_cheap);
	return 0;
}
