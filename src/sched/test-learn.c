#include "check.h"
#include "sched/learn.h"

static void test_brief_and_long_programs_are_told_apart(void)
{
	struct learn *l;
	CHECK(learn_new(0, &l) == 0);
	struct learn_key sh = learn_key_make(1, 2, "/src"), cc = learn_key_make(1, 3, "/src");
	CHECK(learn_ask(l, sh).kind == LEARN_UNKNOWN && learn_ask(l, sh).intensity > 0.99);
	learn_exit(l, sh, 900000, 2000, 0);
	learn_exit(l, cc, 300000, 250000, 0);
	struct learn_guess g = learn_ask(l, sh);
	CHECK(g.kind == LEARN_BRIEF && g.cpu_us == 2000 && g.wall_us == 900000 && g.intensity < 0.06);
	g = learn_ask(l, cc);
	CHECK(g.kind == LEARN_LONG && g.intensity > 0.8 && g.intensity < 0.9);
	l = learn_free(l);
}

static void test_a_program_is_judged_by_directory_first(void)
{
	struct learn *l;
	CHECK(learn_new(0, &l) == 0);
	struct learn_key a = learn_key_make(1, 3, "/a"), b = learn_key_make(1, 3, "/b"), c = learn_key_make(1, 3, "/c");
	CHECK(a.program == b.program && a.dir != b.dir);
	learn_exit(l, a, 1000, 1000, 0);
	CHECK(learn_ask(l, b).kind == LEARN_BRIEF); /* by the program alone */
	for (int i = 0; i < 10; i++)
		learn_exit(l, b, 500000, 500000, 0);
	CHECK(learn_ask(l, a).kind == LEARN_BRIEF && learn_ask(l, b).kind == LEARN_LONG);
	CHECK(learn_ask(l, c).kind == LEARN_LONG);
	l = learn_free(l);
}

static void test_a_change_of_length_is_noticed_in_a_few_runs(void)
{
	struct learn *l;
	CHECK(learn_new(0, &l) == 0);
	struct learn_key k = learn_key_make(1, 3, "/a");
	for (int i = 0; i < 20; i++)
		learn_exit(l, k, 1000, 1000, 0);
	learn_exit(l, k, 40000, 40000, 0); /* one exception is not enough */
	CHECK(learn_ask(l, k).kind == LEARN_BRIEF);
	for (int i = 0; i < 3; i++)
		learn_exit(l, k, 40000, 40000, 0);
	CHECK(learn_ask(l, k).kind == LEARN_LONG);
	l = learn_free(l);
}

static void test_a_guess_without_exits_does_not_last(void)
{
	struct learn *l;
	CHECK(learn_new(0, &l) == 0);
	struct learn_key k = learn_key_make(1, 3, "/a");
	learn_exit(l, k, 1000, 1000, 0);
	int asked = 0;
	while (asked < 1000 && learn_ask(l, k).kind == LEARN_BRIEF)
		asked++;
	CHECK(asked >= 30 && asked < 1000);
	CHECK(learn_ask(l, k).kind == LEARN_UNKNOWN);
	l = learn_free(l);
}

static void test_wall_time_elsewhere_does_not_count(void)
{
	struct learn *l;
	CHECK(learn_new(0, &l) == 0);
	struct learn_key k = learn_key_make(1, 3, NULL);
	learn_exit(l, k, 100000, 50000, 0);
	for (int i = 0; i < 9; i++)
		learn_exit(l, k, 900000, 50000, 1);
	CHECK(learn_ask(l, k).wall_us == 100000 && learn_ask(l, k).cpu_us == 50000);
	l = learn_free(l);
}

static void test_memory_is_bounded_and_the_oldest_goes(void)
{
	struct learn *l;
	CHECK(learn_new(100, &l) == 0);
	struct learn_key keep = learn_key_make(1, 1, NULL);
	learn_exit(l, keep, 1000, 1000, 0);
	for (uint64_t i = 2; i < 10000; i++) {
		learn_exit(l, learn_key_make(1, i, i % 2 ? "/x" : NULL), 1000, 1000, 0);
		CHECK(learn_count(l) <= 100);
		if (i % 30 == 0) {
			CHECK(learn_ask(l, keep).kind == LEARN_BRIEF);
			learn_exit(l, keep, 1000, 1000, 0);
		}
	}
	CHECK(learn_count(l) == 100);
	CHECK(learn_ask(l, learn_key_make(1, 2, NULL)).kind == LEARN_UNKNOWN);
	CHECK(learn_ask(l, learn_key_make(1, 9998, NULL)).kind == LEARN_BRIEF);
	l = learn_free(l);

	CHECK(learn_new(1, &l) == 0);
	for (uint64_t i = 2; i < 100; i++)
		learn_exit(l, learn_key_make(1, i, "/x"), 1000, 1000, 0);
	CHECK(learn_count(l) == 1);
	l = learn_free(l);
}

static void test_absurd_figures_are_survived(void)
{
	struct learn *l;
	CHECK(learn_new(0, &l) == 0);
	struct learn_key k = learn_key_make(1, 3, "/a");
	learn_exit(l, k, 0, UINT64_MAX, 0);
	CHECK(learn_ask(l, k).kind == LEARN_LONG && learn_ask(l, k).cpu_us == UINT32_MAX);
	learn_exit(l, k, UINT64_MAX, 0, 0);
	CHECK(learn_ask(l, k).intensity >= 0.05 && learn_ask(l, k).intensity <= 1);
	l = learn_free(l);
}

int main(void)
{
	TEST(test_brief_and_long_programs_are_told_apart);
	TEST(test_a_program_is_judged_by_directory_first);
	TEST(test_a_change_of_length_is_noticed_in_a_few_runs);
	TEST(test_a_guess_without_exits_does_not_last);
	TEST(test_wall_time_elsewhere_does_not_count);
	TEST(test_memory_is_bounded_and_the_oldest_goes);
	TEST(test_absurd_figures_are_survived);
	return 0;
}
