#include "member/lease.h"

#include "check.h"

enum { FREEZE = 2253 };
static struct lease g_l;

static struct nodeset set(const char *ids)
{
	struct nodeset s = { 0 };
	for (; *ids; ids++)
		nodeset_add(&s, (uint16_t)(*ids - '0'));
	return s;
}

static struct lease_update voters(uint64_t now, const char *ids)
{
	struct lease_update u;
	CHECK(lease_step(&g_l, &(struct lease_event){ .type = LEASE_VOTERS, .now_ms = now, .voters = set(ids), .freeze_ms = FREEZE }, &u) == 0);
	return u;
}

static struct lease_update grant(uint64_t now, uint16_t node, uint64_t sent, const char *ids)
{
	struct lease_update u;
	CHECK(lease_step(&g_l, &(struct lease_event){ .type = LEASE_GRANT, .now_ms = now, .node = node, .sent_ms = sent, .freeze_ms = FREEZE,
						      .voters = set(ids) }, &u) == 0);
	return u;
}

static struct lease_update tick(uint64_t now)
{
	struct lease_update u;
	CHECK(lease_step(&g_l, &(struct lease_event){ .type = LEASE_TICK, .now_ms = now }, &u) == 0);
	return u;
}

static void test_a_sole_voter_always_runs(void)
{
	lease_init(&g_l, 1, 100, 0, FREEZE);
	CHECK(!g_l.running);
	CHECK(voters(101, "1").thawed && g_l.until_ms == UINT64_MAX);
	CHECK(!tick(10000000).froze && g_l.running);
}

static void test_company_gives_the_sole_voter_time_for_the_first_grant(void)
{
	lease_init(&g_l, 1, 0, 0, FREEZE);
	CHECK(voters(1000, "1").thawed);
	CHECK(!voters(5000, "12").froze && g_l.until_ms == 5000 + FREEZE);
	CHECK(!grant(5010, 2, 5005, "12").froze && g_l.until_ms == 5005 + FREEZE);
	CHECK(tick(5005 + FREEZE).froze);
}

static void test_a_majority_counting_itself_keeps_it_running(void)
{
	lease_init(&g_l, 1, 0, 0, FREEZE);
	CHECK(!voters(0, "123").thawed);
	CHECK(grant(1010, 2, 1000, "123").thawed && g_l.until_ms == 1000 + FREEZE);
	CHECK(!tick(1000 + FREEZE - 1).froze);
	CHECK(tick(1000 + FREEZE).froze && !g_l.running);
	CHECK(!tick(9000).froze);
	CHECK(grant(9010, 3, 9000, "123").thawed);
}

static void test_one_that_does_not_vote_needs_a_majority_of_the_others(void)
{
	lease_init(&g_l, 9, 0, 0, FREEZE);
	CHECK(!voters(0, "123").thawed);
	CHECK(!grant(1000, 1, 990, "123").thawed);
	CHECK(grant(1100, 2, 1090, "123").thawed && g_l.until_ms == 990 + FREEZE);
	CHECK(!grant(1200, 3, 1190, "123").froze && g_l.until_ms == 1090 + FREEZE);
	CHECK(!grant(1300, 3, 1180, "123").froze && g_l.grants[3].sent_ms == 1190); /* overtaken */
}

static void test_each_set_that_a_granter_believes_in_needs_its_majority(void)
{
	lease_init(&g_l, 1, 0, 0, FREEZE);
	(void)voters(0, "12");
	CHECK(grant(1000, 2, 1000, "12").thawed);
	/* Node 2 knows of a larger set: two of four are no majority there. */
	CHECK(grant(1100, 2, 1100, "1234").froze);
	CHECK(grant(1200, 3, 1200, "1234").thawed && g_l.until_ms == 1100 + FREEZE);
}

static void test_what_an_earlier_run_was_granted_is_kept(void)
{
	lease_init(&g_l, 1, 1000, 2500, FREEZE);
	CHECK(g_l.running && !voters(1100, "123").froze && !tick(2499).froze);
	CHECK(tick(2500).froze);
	lease_init(&g_l, 1, 1000, 900, FREEZE);
	CHECK(!g_l.running);
	lease_init(&g_l, 1, 1000, UINT64_MAX, FREEZE);
	CHECK(g_l.running && g_l.until_ms == 1000 + FREEZE);
	lease_init(&g_l, 1, 1000, 2500, FREEZE);
	struct lease_update u;
	CHECK(lease_step(&g_l, &(struct lease_event){ .type = LEASE_RESET, .now_ms = 1001 }, &u) == 0 && u.froze);
}

static void test_impossible_events_are_refused(void)
{
	struct lease_update u;
	lease_init(&g_l, 1, 1000, 0, FREEZE);
	CHECK(lease_step(&g_l, &(struct lease_event){ .type = LEASE_TICK, .now_ms = 999 }, &u) == -EINVAL);
	CHECK(lease_step(&g_l, &(struct lease_event){ .type = LEASE_GRANT, .now_ms = 1001, .node = 0, .sent_ms = 1000 }, &u) == -EINVAL);
	CHECK(lease_step(&g_l, &(struct lease_event){ .type = LEASE_GRANT, .now_ms = 1001, .node = 129, .sent_ms = 1000 }, &u) == -EINVAL);
	CHECK(lease_step(&g_l, &(struct lease_event){ .type = LEASE_GRANT, .now_ms = 1001, .node = 2, .sent_ms = 1002 }, &u) == -EINVAL);
}

int main(void)
{
	TEST(test_a_sole_voter_always_runs);
	TEST(test_company_gives_the_sole_voter_time_for_the_first_grant);
	TEST(test_a_majority_counting_itself_keeps_it_running);
	TEST(test_one_that_does_not_vote_needs_a_majority_of_the_others);
	TEST(test_each_set_that_a_granter_believes_in_needs_its_majority);
	TEST(test_what_an_earlier_run_was_granted_is_kept);
	TEST(test_impossible_events_are_refused);
	return 0;
}
