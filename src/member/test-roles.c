#include "member/roles.h"

#include "check.h"

static struct cluster g_c;
static struct roles_group g_g;
static struct nodeset g_up;

static void fresh(unsigned n_members, unsigned n_voters)
{
	memset(&g_c, 0, sizeof g_c);
	memset(&g_g, 0, sizeof g_g);
	memset(&g_up, 0, sizeof g_up);
	for (uint16_t i = 1; i <= n_members; i++) {
		g_c.members[i] = (struct cluster_member){ .id = i, .state = MEMBER_ACTIVE, .incarnation = 1 };
		nodeset_add(&g_g.servers, i);
		nodeset_add(i <= n_voters ? &g_g.voters : &g_g.standbys, i);
		nodeset_add(&g_up, i);
	}
}

static int next_is(enum roles_step step, uint16_t node)
{
	uint16_t got;
	return roles_next(&g_c, &g_g, &g_up, &got) == step && got == node;
}

static void test_a_new_member_is_added_and_becomes_a_voter_when_it_is_up(void)
{
	fresh(2, 2);
	CHECK(next_is(ROLES_NONE, 0));
	g_c.members[3] = (struct cluster_member){ .id = 3, .state = MEMBER_JOINED };
	CHECK(next_is(ROLES_ADD, 3));
	nodeset_add(&g_g.servers, 3); /* a spare now */
	CHECK(next_is(ROLES_STANDBY, 3));
	nodeset_add(&g_g.standbys, 3);
	CHECK(next_is(ROLES_NONE, 0));
	g_c.members[3].state = MEMBER_ACTIVE;
	CHECK(next_is(ROLES_NONE, 0));
	nodeset_add(&g_up, 3);
	CHECK(next_is(ROLES_VOTER, 3));
}

static void test_seven_vote_and_a_dead_one_is_replaced(void)
{
	fresh(9, 7);
	CHECK(next_is(ROLES_NONE, 0));
	g_c.members[2].state = MEMBER_DEAD;
	CHECK(next_is(ROLES_STANDBY, 2));
	nodeset_del(&g_g.voters, 2);
	nodeset_add(&g_g.standbys, 2);
	g_c.members[8].suspect = 1;
	CHECK(next_is(ROLES_VOTER, 9));
	g_c.members[8].suspect = 0;
	CHECK(next_is(ROLES_VOTER, 8));
}

static void test_the_last_voter_stays(void)
{
	fresh(1, 1);
	g_c.members[1].state = MEMBER_JOINED;
	CHECK(next_is(ROLES_NONE, 0));
	fresh(2, 1);
	g_c.members[1].state = MEMBER_DEAD;
	CHECK(next_is(ROLES_VOTER, 2));
	g_c.members[1].state = MEMBER_REMOVED;
	nodeset_del(&g_up, 2);
	CHECK(next_is(ROLES_NONE, 0));
}

static void test_a_removed_member_leaves_the_group(void)
{
	fresh(3, 3);
	g_c.members[2].state = MEMBER_REMOVED;
	CHECK(next_is(ROLES_STANDBY, 2));
	nodeset_del(&g_g.voters, 2);
	nodeset_add(&g_g.standbys, 2);
	CHECK(next_is(ROLES_DROP, 2));
	g_c.members[3].state = MEMBER_DEAD; /* this weighs more */
	CHECK(next_is(ROLES_STANDBY, 3));
}

int main(void)
{
	TEST(test_a_new_member_is_added_and_becomes_a_voter_when_it_is_up);
	TEST(test_seven_vote_and_a_dead_one_is_replaced);
	TEST(test_the_last_voter_stays);
	TEST(test_a_removed_member_leaves_the_group);
	return 0;
}
