#include "procfs/merge.h"

#include <string.h>

#include "check.h"

typedef void (*merge_fn)(const struct merge_text *texts, size_t n, size_t self, struct wr *ret);

static void is(merge_fn fn, const char *a, const char *b, size_t self, const char *want)
{
	const struct merge_text t[2] = { { a, strlen(a) }, { b, strlen(b) } };
	struct wr w = { 0 };
	fn(t, 2, self, &w);
	CHECK(wr_done(&w) == 0);
	if (w.n != strlen(want) || memcmp(w.p, want, w.n) != 0)
		(void)fprintf(stderr, "got:\n%.*s\nwant:\n%s\n", (int)w.n, (const char *)w.p, want);
	CHECK(w.n == strlen(want) && memcmp(w.p, want, w.n) == 0);
	wr_fini(&w);
}

static void test_cpus_are_numbered_through_and_summed(void)
{
	is(merge_stat, "cpu  1 2 3 4\ncpu0 1 2 3 4\nintr 10 1 2\nctxt 5\nbtime 100\nprocesses 7\nprocs_running 1\nprocs_blocked 0\nsoftirq 3 1 2\n",
	   "cpu  10 20 30 40 50\ncpu0 4 5 6 7 8\ncpu1 6 15 24 33 42\nintr 1 1\nctxt 6\nbtime 200\nprocesses 8\nprocs_running 2\nprocs_blocked 1\nsoftirq 4 1 3\n",
	   1,
	   "cpu  11 22 33 44 50\ncpu0 1 2 3 4\ncpu1 4 5 6 7 8\ncpu2 6 15 24 33 42\nintr 11\nctxt 11\nbtime 200\nprocesses 15\n"
	   "procs_running 3\nprocs_blocked 1\nsoftirq 7 2 5\n");
}

static void test_memory_is_summed_but_sizes_of_pages(void)
{
	is(merge_meminfo, "MemTotal:        1000 kB\nHugePages_Total:       1\nHugepagesize:    2048 kB\nOnlyA:  5 kB\n",
	   "MemTotal:        2000 kB\nHugePages_Total:       2\nHugepagesize:    1024 kB\nVmallocTotal:   7 kB\n", 0,
	   "MemTotal:           3000 kB\nHugePages_Total:        3\nHugepagesize:       2048 kB\nOnlyA:                 5 kB\nVmallocTotal:          7 kB\n");
}

static void test_load_and_idle_are_summed_uptime_is_own(void)
{
	is(merge_loadavg, "0.50 1.00 1.99 1/100 4000\n", "0.75 0.01 0.02 2/50 9000\n", 1, "1.25 1.01 2.01 3/150 9000\n");
	is(merge_uptime, "100.50 200.75\n", "5.00 7.30\n", 0, "100.50 208.05\n");
}

static void test_texts_that_make_no_sense_are_left_out(void)
{
	is(merge_loadavg, "x y z\n", "0.75 0.01 0.02 2/50 9000\n", 0, "0.75 0.01 0.02 2/50 0\n");
	is(merge_uptime, "", "5.0 7.30", 0, "0.00 0.00\n");
	is(merge_meminfo, "MemTotal\n: 5 kB\nA: x kB\n\n", "B: 1", 0, ":                      5 kB\nB:                     1\n");
	is(merge_stat, "cpu\ncpu0\nintr x\n\n", "btime 5\nsoftirq", 0,
	   "cpu \ncpu0\nintr 0\nctxt 0\nbtime 0\nprocesses 0\nprocs_running 0\nprocs_blocked 0\n");
}

static void cpuinfo(const struct merge_text *texts, size_t n, size_t self, struct wr *ret)
{
	merge_cpuinfo(texts, n, ret);
}

static void test_processors_and_sockets_are_numbered_through(void)
{
	is(cpuinfo, "processor\t: 0\nphysical id\t: 0\nflags\t\t: a b\n\nprocessor\t: 1\nphysical id\t: 1\n\n", "processor\t: 0\nphysical id\t: 0\n\n", 0,
	   "processor\t: 0\nphysical id\t: 0\nflags\t\t: a b\n\nprocessor\t: 1\nphysical id\t: 1\n\nprocessor\t: 2\nphysical id\t: 2\n\n");
}

/* Any prefix of true texts is taken for what it is worth. */
static void test_every_prefix_is_borne(void)
{
	static const char stat[] = "cpu  1 2 3 4\ncpu0 1 2 3 4\nintr 10 1 2\nctxt 5\nbtime 100\nprocesses 7\nsoftirq 3 1 2\n";
	static const char mem[] = "MemTotal:        1000 kB\nHugePages_Total:       1\n";
	static const char load[] = "0.50 1.00 1.99 1/100 4000\n", up[] = "100.50 200.75\n", cpu[] = "processor\t: 0\nphysical id\t: 0\n\n";
	static const struct {
		merge_fn fn;
		const char *text;
	} all[] = { { merge_stat, stat }, { merge_meminfo, mem }, { merge_loadavg, load }, { merge_uptime, up }, { cpuinfo, cpu } };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		for (size_t n = 0; n <= strlen(all[i].text); n++) {
			char *copy = malloc(n + 1); /* its end is watched by the sanitizer */
			CHECK(copy);
			memcpy(copy, all[i].text, n);
			struct merge_text t = { copy, n };
			struct wr w = { 0 };
			all[i].fn(&t, 1, 0, &w);
			CHECK(wr_done(&w) == 0);
			wr_fini(&w);
			free(copy);
		}
	}
}

int main(void)
{
	TEST(test_cpus_are_numbered_through_and_summed);
	TEST(test_memory_is_summed_but_sizes_of_pages);
	TEST(test_load_and_idle_are_summed_uptime_is_own);
	TEST(test_texts_that_make_no_sense_are_left_out);
	TEST(test_processors_and_sockets_are_numbered_through);
	TEST(test_every_prefix_is_borne);
	return 0;
}
