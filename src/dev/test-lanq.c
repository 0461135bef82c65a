#include "dev/lanq.h"

#include "check.h"

static const uint32_t zero[2] = { 0, 0 }, high[2] = { 0xffffffffu, 0xffffffffu };

static void test_an_untouched_link_is_immediate(void)
{
	struct lanq *q = lanq_new(3);
	uint64_t t = 0;
	CHECK(q);
	CHECK(lanq_send(q, 1000, 1, 1500, &t) == 0 && t == 1000);
	CHECK(lanq_way(q, 1000, 1, 2, high, &t) == 0 && t == 1000);
	CHECK(lanq_arrive(q, 1000, 2, 1500, &t) == 0 && t == 1000);
	lanq_free(q);
}

static void test_delay_is_one_way_and_jitter_keeps_order(void)
{
	struct lanq *q = lanq_new(2);
	uint64_t t = 0, u = 0;
	CHECK(lanq_set_pair(q, 1, 2, 10000, 5000, 0, 0) == 0);
	CHECK(lanq_way(q, 0, 1, 2, high, &t) == 0);
	CHECK(t > 14900000 && t <= 15000000);
	CHECK(lanq_way(q, 1, 1, 2, zero, &u) == 0);
	CHECK(u == t); /* it would have come first */
	CHECK(lanq_way(q, 0, 2, 1, high, &u) == 0 && u == 0);
	lanq_free(q);
}

static void test_a_rate_spaces_frames_and_fills_a_queue(void)
{
	struct lanq *q = lanq_new(2);
	uint64_t t = 0;
	CHECK(lanq_set_rate(q, 1, 8000000) == 0); /* one byte a microsecond */
	CHECK(lanq_send(q, 0, 1, 1000, &t) == 0 && t == 1000000);
	CHECK(lanq_send(q, 0, 1, 1000, &t) == 0 && t == 2000000);
	int passed = 2;
	while (lanq_send(q, 0, 1, 1000, &t) == 0)
		CHECK(++passed < 1000);
	CHECK(passed >= 200 && passed <= 202);
	CHECK(lanq_send(q, 300000000, 1, 1000, &t) == 0 && t == 301000000);
	CHECK(lanq_arrive(q, 0, 1, 500, &t) == 0 && t == 500000); /* the other way has its own queue */
	lanq_free(q);
}

static void test_cut_and_loss_drop(void)
{
	struct lanq *q = lanq_new(2);
	uint64_t t = 0;
	CHECK(lanq_set_pair(q, 1, 2, 0, 0, 0, 1) == 0);
	CHECK(lanq_way(q, 0, 1, 2, high, &t) == LANQ_DROP);
	CHECK(lanq_way(q, 0, 2, 1, high, &t) == 0);
	CHECK(lanq_set_pair(q, 1, 2, 0, 0, 250000, 0) == 0);
	unsigned dropped = 0;
	for (uint32_t k = 0; k < 1000; k++) {
		uint32_t dice[2] = { k * (0xffffffffu / 1000), 0 };
		dropped += lanq_way(q, 0, 1, 2, dice, &t) == LANQ_DROP;
	}
	CHECK(dropped >= 249 && dropped <= 251);
	CHECK(lanq_set_pair(q, 1, 2, 0, 0, 1000000, 0) == 0);
	CHECK(lanq_way(q, 0, 1, 2, high, &t) == LANQ_DROP);
	lanq_free(q);
}

static void test_strangers_are_refused(void)
{
	struct lanq *q = lanq_new(2);
	CHECK(lanq_set_pair(q, 0, 1, 0, 0, 0, 0) == -EINVAL);
	CHECK(lanq_set_pair(q, 1, 3, 0, 0, 0, 0) == -EINVAL);
	CHECK(lanq_set_pair(q, 1, 2, 0, 0, 1000001, 0) == -EINVAL);
	CHECK(lanq_set_rate(q, 3, 1) == -EINVAL);
	lanq_free(q);
}

int main(void)
{
	TEST(test_an_untouched_link_is_immediate);
	TEST(test_delay_is_one_way_and_jitter_keeps_order);
	TEST(test_a_rate_spaces_frames_and_fills_a_queue);
	TEST(test_cut_and_loss_drop);
	TEST(test_strangers_are_refused);
	return 0;
}
