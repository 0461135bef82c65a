#include "transport/deadline.h"

#include "check.h"

enum { N = 300 };

static uint64_t g_random = 1;

static unsigned random_below(unsigned n)
{
	g_random = g_random * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(g_random >> 33) % n;
}

static void test_they_come_in_order_of_time(void)
{
	struct deadlines q = { 0 };
	static struct deadline d[N];
	for (unsigned i = 0; i < N; i++)
		CHECK(deadline_set(&q, &d[i], random_below(50)) == 0);
	uint64_t last = 0;
	for (unsigned i = 0; i < N; i++) {
		CHECK(deadlines_next(&q) >= last);
		struct deadline *k = deadlines_due(&q, 50);
		CHECK(k && k->at_ms >= last && k->pos == 0);
		last = k->at_ms;
	}
	CHECK(!deadlines_due(&q, UINT64_MAX) && deadlines_next(&q) == UINT64_MAX);
	deadlines_fini(&q);
}

static void test_none_comes_before_its_time(void)
{
	struct deadlines q = { 0 };
	struct deadline a = { 0 }, b = { 0 };
	CHECK(deadline_set(&q, &a, 10) == 0 && deadline_set(&q, &b, 20) == 0);
	CHECK(!deadlines_due(&q, 9));
	CHECK(deadlines_due(&q, 10) == &a && !deadlines_due(&q, 19) && deadlines_due(&q, 20) == &b);
	deadlines_fini(&q);
}

/* Against a plain array, with moves and clears anywhere. */
static void test_moved_and_cleared_ones_keep_the_order(void)
{
	struct deadlines q = { 0 };
	static struct deadline d[N];
	static uint64_t at[N]; /* 0: not set */
	memset(d, 0, sizeof d);
	for (unsigned step = 0; step < 20000; step++) {
		unsigned i = random_below(N), what = random_below(4);
		if (what == 0) {
			deadline_clear(&q, &d[i]);
			at[i] = 0;
		} else if (what < 3) {
			at[i] = 1 + random_below(1000);
			CHECK(deadline_set(&q, &d[i], at[i]) == 0);
		} else {
			uint64_t best = UINT64_MAX;
			for (unsigned k = 0; k < N; k++)
				if (at[k] && at[k] < best)
					best = at[k];
			CHECK(deadlines_next(&q) == best);
			struct deadline *k = deadlines_due(&q, best);
			CHECK(!k == (best == UINT64_MAX));
			if (k) {
				CHECK(at[k - d] == best);
				at[k - d] = 0;
			}
		}
	}
	deadlines_fini(&q);
	for (unsigned i = 0; i < N; i++)
		CHECK(d[i].pos == 0); /* so that clearing it later does no harm */
}

int main(void)
{
	TEST(test_they_come_in_order_of_time);
	TEST(test_none_comes_before_its_time);
	TEST(test_moved_and_cleared_ones_keep_the_order);
	return 0;
}
