#include "member/detector.h"

#include "check.h"

enum { DEAD = 2600, BEAT = 250 };
static struct detector g_d;
static struct detector_update g_u;

static void step(struct detector_event ev)
{
	CHECK(detector_step(&g_d, &ev, &g_u) == 0);
}

static void member(uint64_t now, uint16_t node, bool live, uint32_t incarnation, uint32_t suspect)
{
	step((struct detector_event){ .type = DETECTOR_MEMBER, .now_ms = now, .node = node, .live = live, .incarnation = incarnation, .suspect = suspect });
}

static void heard(uint64_t now, uint16_t node)
{
	step((struct detector_event){ .type = DETECTOR_HEARD, .now_ms = now, .node = node });
}

static void tick(uint64_t now)
{
	step((struct detector_event){ .type = DETECTOR_TICK, .now_ms = now });
}

static void ticks(uint64_t from, uint64_t to)
{
	for (uint64_t t = from; t < to; t += 50)
		tick(t);
	tick(to);
}

static void report(uint64_t now, uint16_t from, uint16_t silent, uint16_t confirmed, uint32_t epoch)
{
	struct detector_report r = { 0 };
	nodeset_add(&r.silent, silent);
	r.confirmed[confirmed] = epoch;
	step((struct detector_event){ .type = DETECTOR_REPORT, .now_ms = now, .node = from, .report = &r });
}

/* Node 1 of voters 1, 2, 3, all live, at time 0; leader if asked for. */
static void fresh(bool leader)
{
	detector_init(&g_d, 1, 0, DEAD, BEAT);
	struct nodeset v = { 0 };
	for (uint16_t i = 1; i <= 3; i++) {
		nodeset_add(&v, i);
		member(0, i, true, 1, 0);
	}
	step((struct detector_event){ .type = DETECTOR_VOTERS, .now_ms = 0, .voters = v });
	step((struct detector_event){ .type = DETECTOR_LEADER, .now_ms = 0, .on = leader });
	step((struct detector_event){ .type = DETECTOR_SYNCED, .now_ms = 0 });
}

static void test_a_silent_node_leaves_and_joins_when_heard_again(void)
{
	fresh(false);
	heard(100, 2);
	CHECK(nodeset_has(&g_u.joined, 2) && nodeset_has(&g_d.up, 2));
	heard(200, 2);
	CHECK(nodeset_empty(&g_u.joined));
	ticks(250, 1200);
	CHECK(nodeset_has(&g_d.up, 2));
	tick(1240);
	CHECK(nodeset_has(&g_u.left, 2) && !nodeset_has(&g_d.up, 2));
	heard(1300, 2);
	CHECK(nodeset_has(&g_u.joined, 2));
}

static void test_the_leader_condemns_only_with_a_majority(void)
{
	fresh(true);
	heard(1000, 2);
	heard(1000, 3);
	for (uint64_t t = 1050; t <= 3000; t += 50) {
		heard(t, 2);
		report(t, 2, 0, 0, 0); /* node 2 hears everybody */
		tick(t);
		CHECK(g_u.n_proposals == 0);
	}
	CHECK(nodeset_has(&detector_report(&g_d)->silent, 3));
	report(3010, 2, 3, 0, 0);
	tick(3020);
	CHECK(g_u.n_proposals == 1 && g_u.proposals[0].verdict == DETECTOR_CONDEMN && g_u.proposals[0].node == 3 &&
	      g_u.proposals[0].incarnation == 1);
	tick(3070);
	CHECK(g_u.n_proposals == 0); /* under way */
	heard(3100, 2);
	report(3100, 2, 3, 0, 0);
	ticks(3120, 3570);
	tick(3620);
	CHECK(g_d.nodes[3].proposed_ms > 3020); /* asked again */
}

static void test_death_needs_a_majority_that_confirms_this_epoch(void)
{
	fresh(true);
	ticks(0, 2000);
	report(2000, 2, 3, 0, 0);
	tick(2010);
	CHECK(g_u.n_proposals == 1 && g_u.proposals[0].verdict == DETECTOR_CONDEMN);
	heard(2020, 2);
	member(2020, 3, true, 1, 5);
	CHECK(detector_ask(&g_d, 2020, 3, 1) == DETECTOR_CONDEMNED);
	ticks(2020, 2590);
	CHECK(detector_report(&g_d)->confirmed[3] == 0);
	tick(2600);
	CHECK(g_u.report && detector_report(&g_d)->confirmed[3] == 5 && g_u.n_proposals == 0);
	report(2610, 2, 3, 3, 4); /* another epoch */
	tick(2620);
	CHECK(g_u.n_proposals == 0);
	report(2630, 2, 3, 3, 5);
	tick(2640);
	CHECK(g_u.n_proposals == 1 && g_u.proposals[0].verdict == DETECTOR_DEAD && g_u.proposals[0].epoch == 5);
}

static void test_a_new_set_of_voters_postpones_death(void)
{
	fresh(true);
	ticks(0, 2000);
	heard(2000, 2);
	struct nodeset v = g_d.voters;
	nodeset_add(&v, 4);
	step((struct detector_event){ .type = DETECTOR_VOTERS, .now_ms = 2000, .voters = v });
	nodeset_del(&v, 4);
	step((struct detector_event){ .type = DETECTOR_VOTERS, .now_ms = 2001, .voters = v });
	member(2010, 3, true, 1, 5);
	for (uint64_t t = 2050; t < 4600; t += 50) {
		report(t, 2, 3, 3, 5);
		heard(t, 2);
		tick(t);
		CHECK(g_u.n_proposals == 0);
	}
	report(4601, 2, 3, 3, 5);
	tick(4601);
	CHECK(g_u.n_proposals == 1 && g_u.proposals[0].verdict == DETECTOR_DEAD);
}

static void test_a_node_heard_again_is_absolved(void)
{
	fresh(true);
	ticks(0, 2000);
	member(2000, 3, true, 1, 5);
	heard(2050, 2);
	report(2050, 2, 3, 0, 0);
	tick(2060);
	CHECK(g_u.n_proposals == 0);
	heard(2100, 3); /* the leader and itself: no majority can be silent */
	tick(2110);
	CHECK(g_u.n_proposals == 1 && g_u.proposals[0].verdict == DETECTOR_ABSOLVE && g_u.proposals[0].epoch == 5);
	member(2120, 3, true, 1, 0);
	CHECK(detector_ask(&g_d, 2130, 3, 1) == DETECTOR_GRANTED);
}

static void test_a_grant_is_a_promise_also_when_the_limit_gets_smaller(void)
{
	fresh(false);
	step((struct detector_event){ .type = DETECTOR_LIMITS, .now_ms = 0, .dead_ms = 10000, .beat_ms = BEAT });
	heard(100, 3);
	CHECK(detector_ask(&g_d, 100, 3, 1) == DETECTOR_GRANTED);
	step((struct detector_event){ .type = DETECTOR_LIMITS, .now_ms = 110, .dead_ms = DEAD, .beat_ms = BEAT });
	member(120, 3, true, 1, 5);
	ticks(150, 10050);
	CHECK(detector_report(&g_d)->confirmed[3] == 0 && nodeset_has(&detector_report(&g_d)->silent, 3));
	tick(10100);
	CHECK(detector_report(&g_d)->confirmed[3] == 5);
}

static void test_answers_to_beats(void)
{
	fresh(false);
	CHECK(detector_ask(&g_d, 10, 3, 1) == DETECTOR_GRANTED);
	CHECK(detector_ask(&g_d, 10, 3, 2) == DETECTOR_NOT_YET);
	CHECK(detector_ask(&g_d, 10, 4, 1) == DETECTOR_NOT_YET);
	CHECK(detector_ask(&g_d, 10, 0, 1) == DETECTOR_NOT_YET && detector_ask(&g_d, 10, 200, 1) == DETECTOR_NOT_YET);
	member(20, 3, false, 1, 0);
	CHECK(detector_ask(&g_d, 20, 3, 1) == DETECTOR_OVER);
	member(30, 3, true, 2, 0);
	CHECK(detector_ask(&g_d, 30, 3, 1) == DETECTOR_OVER && detector_ask(&g_d, 30, 3, 2) == DETECTOR_GRANTED);

	detector_init(&g_d, 1, 0, DEAD, BEAT); /* started afresh */
	member(0, 1, true, 1, 0);
	member(0, 3, true, 1, 0);
	struct nodeset v = { 0 };
	nodeset_add(&v, 1);
	nodeset_add(&v, 3);
	step((struct detector_event){ .type = DETECTOR_VOTERS, .now_ms = 0, .voters = v });
	CHECK(detector_ask(&g_d, 10, 3, 1) == DETECTOR_NOT_YET);
	step((struct detector_event){ .type = DETECTOR_SYNCED, .now_ms = 20 });
	CHECK(detector_ask(&g_d, 20, 3, 1) == DETECTOR_GRANTED);
}

static void test_time_not_looked_at_is_not_silence(void)
{
	fresh(false);
	ticks(0, 1000);
	tick(60000); /* stopped for a minute */
	CHECK(nodeset_empty(&detector_report(&g_d)->silent));
	ticks(60050, 60950);
	CHECK(nodeset_has(&detector_report(&g_d)->silent, 3));
}

static void test_impossible_events_are_refused(void)
{
	fresh(false);
	tick(100);
	CHECK(detector_step(&g_d, &(struct detector_event){ .type = DETECTOR_TICK, .now_ms = 99 }, &g_u) == -EINVAL);
	CHECK(detector_step(&g_d, &(struct detector_event){ .type = DETECTOR_HEARD, .now_ms = 200, .node = 0 }, &g_u) == -EINVAL);
	CHECK(detector_step(&g_d, &(struct detector_event){ .type = DETECTOR_HEARD, .now_ms = 200, .node = 129 }, &g_u) == -EINVAL);
	CHECK(g_d.now_ms == 100);
}

static void test_a_space_freezes_well_before_its_death(void)
{
	CHECK(detector_freeze_ms(2600) == 2253);
	for (uint32_t dead = 1500; dead <= 60000; dead += 100)
		CHECK(detector_freeze_ms(dead) * 101u / 100 + dead / 10 <= dead * 99u / 100);
}

int main(void)
{
	TEST(test_a_silent_node_leaves_and_joins_when_heard_again);
	TEST(test_the_leader_condemns_only_with_a_majority);
	TEST(test_death_needs_a_majority_that_confirms_this_epoch);
	TEST(test_a_new_set_of_voters_postpones_death);
	TEST(test_a_node_heard_again_is_absolved);
	TEST(test_a_grant_is_a_promise_also_when_the_limit_gets_smaller);
	TEST(test_answers_to_beats);
	TEST(test_time_not_looked_at_is_not_silence);
	TEST(test_impossible_events_are_refused);
	TEST(test_a_space_freezes_well_before_its_death);
	return 0;
}
