#include "transport/gate.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "check.h"

static struct sockaddr_storage v4(uint32_t host)
{
	struct sockaddr_storage sa = { 0 };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(host) };
	memcpy(&sa, &in, sizeof in);
	return sa;
}

static struct sockaddr_storage v6(const char *text)
{
	struct sockaddr_storage sa = { 0 };
	struct sockaddr_in6 in = { .sin6_family = AF_INET6 };
	CHECK(inet_pton(AF_INET6, text, &in.sin6_addr) == 1);
	memcpy(&sa, &in, sizeof in);
	return sa;
}

static int enter(struct gate *g, struct sockaddr_storage sa, uint64_t now, struct gate_source **ret)
{
	return gate_enter(g, (struct sockaddr *)&sa, now, ret);
}

static int may_log(struct gate *g, struct sockaddr_storage sa, uint64_t now, unsigned *ret)
{
	return gate_may_log(g, (struct sockaddr *)&sa, now, ret);
}

static void test_one_source_has_so_many_and_no_more(void)
{
	struct gate *g;
	struct gate_source *s[3], *other;
	CHECK(gate_new(2, 100, &g) == 0);
	CHECK(enter(g, v4(1), 0, &s[0]) == 0 && enter(g, v4(1), 0, &s[1]) == 0 && enter(g, v4(1), 0, &s[2]) == -EDQUOT);
	CHECK(enter(g, v4(2), 0, &other) == 0 && gate_inside(g) == 3);
	s[0] = gate_leave(g, s[0]);
	CHECK(!s[0] && enter(g, v4(1), 0, &s[2]) == 0 && gate_inside(g) == 3);
	CHECK(!gate_leave(g, s[1]) && !gate_leave(g, s[2]) && !gate_leave(g, other) && !gate_leave(g, NULL) && gate_inside(g) == 0);
	g = gate_free(g);
	CHECK(!g);
}

static void test_all_together_have_so_many(void)
{
	struct gate *g;
	struct gate_source *s;
	CHECK(gate_new(16, 512, &g) == 0);
	for (uint32_t i = 0; i < 512; i++)
		CHECK(enter(g, v4(i / 16 + 1), 0, &s) == 0);
	CHECK(enter(g, v4(9999), 0, &s) == -EBUSY);
	(void)gate_free(g);
}

static void test_addresses_of_one_network_are_one_source(void)
{
	struct gate *g;
	struct gate_source *s;
	CHECK(gate_new(1, 100, &g) == 0);
	CHECK(enter(g, v6("fd00:0:0:1::1"), 0, &s) == 0 && enter(g, v6("fd00:0:0:1:ffff::2"), 0, &s) == -EDQUOT);
	CHECK(enter(g, v6("fd00:0:0:2::1"), 0, &s) == 0);
	CHECK(enter(g, v4(0x0a000001), 0, &s) == 0 && enter(g, v6("::ffff:10.0.0.1"), 0, &s) == -EDQUOT);
	(void)gate_free(g);
}

static void test_lines_are_few_and_say_how_many_were_not(void)
{
	struct gate *g;
	unsigned skipped;
	CHECK(gate_new(1, 100, &g) == 0);
	CHECK(may_log(g, v4(1), 0, &skipped) && skipped == 0);
	for (unsigned i = 0; i < 5; i++)
		CHECK(!may_log(g, v4(1), 1 + i, &skipped));
	CHECK(may_log(g, v4(2), 5, &skipped) && skipped == 0);
	CHECK(!may_log(g, v4(1), GATE_LOG_EVERY_MS, &skipped)); /* the line of time 0 counts as of time 1 */
	CHECK(may_log(g, v4(1), GATE_LOG_EVERY_MS + 1, &skipped) && skipped == 6);
	CHECK(!may_log(g, v4(1), GATE_LOG_EVERY_MS + 2, &skipped));
	(void)gate_free(g);
}

/* More sources than the table has: they share limits and lines, and nobody who is inside loses its count. */
static void test_a_flood_of_sources_is_bounded(void)
{
	struct gate *g;
	struct gate_source *kept, *s;
	unsigned lines = 0, skipped, in = 0;
	CHECK(gate_new(2, 10000, &g) == 0);
	CHECK(enter(g, v4(1), 0, &kept) == 0);
	for (uint32_t i = 0; i < 20000; i++) {
		lines += (unsigned)may_log(g, v4(100 + i), 1000, &skipped);
		in += enter(g, v4(100 + i), 1000, &s) == 0;
	}
	CHECK(lines <= GATE_SOURCES + 1 && in <= GATE_SOURCES - 1 + 2);
	CHECK(enter(g, v4(1), 1000, &s) == 0 && enter(g, v4(1), 1000, &s) == -EDQUOT);
	(void)gate_free(g);
}

static void test_old_sources_make_room(void)
{
	struct gate *g;
	struct gate_source *s;
	unsigned skipped;
	CHECK(gate_new(1, 10000, &g) == 0);
	for (uint32_t i = 0; i < GATE_SOURCES; i++)
		CHECK(may_log(g, v4(i + 1), 0, &skipped));
	CHECK(may_log(g, v4(5000), GATE_LOG_EVERY_MS + 2, &skipped) && !may_log(g, v4(5000), GATE_LOG_EVERY_MS + 3, &skipped));
	CHECK(enter(g, v4(5001), GATE_LOG_EVERY_MS + 2, &s) == 0 && enter(g, v4(5001), GATE_LOG_EVERY_MS + 2, &s) == -EDQUOT);
	(void)gate_free(g);
}

int main(void)
{
	TEST(test_one_source_has_so_many_and_no_more);
	TEST(test_all_together_have_so_many);
	TEST(test_addresses_of_one_network_are_one_source);
	TEST(test_lines_are_few_and_say_how_many_were_not);
	TEST(test_a_flood_of_sources_is_bounded);
	TEST(test_old_sources_make_room);
	return 0;
}
