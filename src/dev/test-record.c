#include "dev/trial.h"
#include "dev/ops.h"
#include "dev/switch.h"

#include "base/cleanup.h"
#include "check.h"

static void test_a_record_comes_back_as_it_was(void)
{
	_cleanup_(trial_free_p) struct trial *a = trial_alloc("x1"), *b = trial_alloc("x1");
	CHECK(a && b);
	CHECK(trial_set_n(a, 3) == 0);
	a->lan = DEV_LAN_USER;
	a->net_x = 77;
	a->net_y = 200;
	a->starting = 1;
	CHECK((a->service = strdup("exec \"sleep\" 1; # \xc3\xa4")));
	a->node[2] = (struct dev_node){
		.init = { 4711, 123456789012345 }, .cpu = 0.5, .mem = 1ull << 40, .rate_mbit = 1.5, .frozen = 1
	};
	CHECK((a->node[3].root = strdup("/srv/trixie")));
	*trial_pair(a, 1, 3) = (struct dev_pair){ .delay_ms = 10, .jitter_ms = 0.25, .loss_pct = 1.5 };
	trial_pair(a, 3, 2)->cut = 1;

	_cleanup_(free_p) char *text = trial_encode(a);
	CHECK(text);
	CHECK(trial_decode(text, strlen(text), b, NULL) == 0);
	CHECK(b->n == 3 && b->lan == DEV_LAN_USER && b->net_x == 77 && b->net_y == 200 && b->starting);
	CHECK(strcmp(a->service, b->service) == 0 && !b->exe);
	CHECK(b->node[2].init.pid == 4711 && b->node[2].init.start == 123456789012345);
	CHECK(b->node[2].cpu > 0.49 && b->node[2].mem == 1ull << 40 && b->node[2].frozen);
	CHECK(strcmp(b->node[3].root, "/srv/trixie") == 0);
	CHECK(memcmp(a->pair, b->pair, 9 * sizeof *a->pair) == 0);
}

static void test_a_damaged_record_is_refused(void)
{
	_cleanup_(trial_free_p) struct trial *a = trial_alloc("x1");
	CHECK(a && trial_set_n(a, 2) == 0);
	trial_pair(a, 1, 2)->cut = 1;
	_cleanup_(free_p) char *text = trial_encode(a);
	CHECK(text);
	struct err e;
	for (size_t n = 0; n < strlen(text); n++) {
		_cleanup_(trial_free_p) struct trial *b = trial_alloc("x1");
		CHECK(b && trial_decode(text, n, b, &e) == -EBADMSG);
	}
	/* That of another cluster, too. */
	_cleanup_(trial_free_p) struct trial *other = trial_alloc("x2");
	CHECK(other && trial_decode(text, strlen(text), other, &e) == -EBADMSG);
	/* A pair of nodes that are not there. */
	char *from = strstr(text, "\"from\": 1");
	CHECK(from);
	from[8] = '9';
	_cleanup_(trial_free_p) struct trial *b = trial_alloc("x1");
	CHECK(b && trial_decode(text, strlen(text), b, &e) == -EBADMSG);
}

static void test_names_that_would_leave_the_directory_are_refused(void)
{
	static const char *const bad[] = {
		"", ".", "..", "a/b", "-x", "a b", "a\n", "123456789012345678901234567890123"
	};
	for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
		CHECK(trial_name_check(bad[k], NULL) == -EINVAL);
	CHECK(trial_name_check("Test.1_a-b", NULL) == 0);
}

static void cut_both(struct trial *c, unsigned a, unsigned b)
{
	trial_pair(c, a, b)->cut = trial_pair(c, b, a)->cut = 1;
}

static void test_partitions_become_bridges_and_other_cuts_do_not(void)
{
	unsigned class[DEV_NODES_MAX + 1];
	_cleanup_(trial_free_p) struct trial *c = trial_alloc("x");
	CHECK(c && trial_set_n(c, 4) == 0);
	CHECK(switch_classes(c, class) == 1);
	cut_both(c, 1, 2);
	CHECK(switch_classes(c, class) == -EOPNOTSUPP); /* 3 sees both */
	cut_both(c, 1, 4);
	cut_both(c, 3, 2);
	cut_both(c, 3, 4);
	CHECK(switch_classes(c, class) == 2);
	CHECK(class[1] == 0 && class[3] == 0 && class[2] == 1 && class[4] == 1);
	trial_pair(c, 1, 2)->cut = 0; /* one way */
	CHECK(switch_classes(c, class) == -EOPNOTSUPP);
}

static void test_the_nft_text_names_each_cut(void)
{
	_cleanup_(trial_free_p) struct trial *c = trial_alloc("x");
	CHECK(c && trial_set_n(c, 3) == 0);
	_cleanup_(free_p) char *none = switch_nft_text(c);
	CHECK(none && !strstr(none, "elements"));
	trial_pair(c, 1, 2)->cut = 1;
	trial_pair(c, 3, 1)->cut = 1;
	_cleanup_(free_p) char *two = switch_nft_text(c);
	CHECK(two && strstr(two, "elements = { \"p1\" . \"p2\", \"p3\" . \"p1\" }"));
}

static void test_status_is_up_only_with_all_nodes(void)
{
	CHECK(dev_boot_is_up("{\"state\":\"up\",\"up\":3,\"members\":3}", 3));
	CHECK(!dev_boot_is_up("{\"state\":\"up\",\"up\":2,\"members\":3}", 3));
	CHECK(!dev_boot_is_up("{\"state\":\"up\",\"up\":3,\"members\":4}", 3));
	CHECK(!dev_boot_is_up("{\"state\":\"up\",\"up\":3}", 3));
	CHECK(!dev_boot_is_up("{\"state\":\"starting\",\"up\":3,\"members\":3}", 3));
	CHECK(!dev_boot_is_up("", 1));
	CHECK(!dev_boot_is_up("[3]", 1));
}

int main(void)
{
	TEST(test_a_record_comes_back_as_it_was);
	TEST(test_a_damaged_record_is_refused);
	TEST(test_names_that_would_leave_the_directory_are_refused);
	TEST(test_partitions_become_bridges_and_other_cuts_do_not);
	TEST(test_the_nft_text_names_each_cut);
	TEST(test_status_is_up_only_with_all_nodes);
	return 0;
}
