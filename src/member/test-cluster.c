#include "member/cluster.h"

#include "check.h"

static struct cluster g_c; /* large; each test starts with fresh() */
static uint64_t g_nonce = 1000;

static struct cluster_effect run(const struct cluster_cmd *cmd)
{
	struct wr w = { 0 };
	CHECK(cluster_cmd_encode(cmd, &w) == 0);
	CHECK(w.n <= CLUSTER_CMD_MAX);
	struct cluster_effect f = cluster_apply(&g_c, w.p, w.n);
	wr_fini(&w);
	return f;
}

static struct cluster_cmd with_identity(struct cluster_cmd cmd, const char *name, const char *addr)
{
	strcpy(cmd.name, name);
	strcpy(cmd.addr, addr);
	strcpy(cmd.stream_addr, "10.0.0.1:4841");
	cmd.cpus = 8;
	cmd.memory = 16ull << 30;
	return cmd;
}

static void fresh(void)
{
	memset(&g_c, 0, sizeof g_c);
	struct cluster_cmd init = with_identity((struct cluster_cmd){ .type = CLUSTER_INIT, .now_ms = 5000 }, "one", "10.0.0.1:4840");
	memcpy(init.cluster_id, "0123456789abcdef", 16);
	CHECK(run(&init).status == 0);
}

static struct cluster_effect token(uint8_t tag, uint64_t now, uint64_t expires)
{
	struct cluster_cmd c = { .type = CLUSTER_TOKEN_ADD, .now_ms = now, .expires_ms = expires };
	memset(c.hash, tag, sizeof c.hash);
	return run(&c);
}

static struct cluster_effect add(uint8_t tag, uint64_t now, uint64_t nonce, const char *name, const char *addr)
{
	struct cluster_cmd c = with_identity((struct cluster_cmd){ .type = CLUSTER_ADD, .now_ms = now, .nonce = nonce }, name, addr);
	memset(c.hash, tag, sizeof c.hash);
	return run(&c);
}

static struct cluster_effect up(uint16_t node, uint32_t incarnation)
{
	const struct cluster_member *m = cluster_member(&g_c, node);
	struct cluster_cmd c = with_identity((struct cluster_cmd){ .type = CLUSTER_UP, .node = node, .incarnation = incarnation,
								   .nonce = ++g_nonce }, "", m ? m->addr : "h:1");
	return run(&c);
}

static struct cluster_effect about(enum cluster_cmd_type type, uint16_t node, uint32_t incarnation, uint32_t epoch)
{
	return run(&(struct cluster_cmd){ .type = type, .node = node, .incarnation = incarnation, .epoch = epoch, .on = true });
}

static void add_up(uint16_t expect)
{
	char name[32], addr[32];
	(void)snprintf(name, sizeof name, "node%u", expect);
	(void)snprintf(addr, sizeof addr, "10.0.0.%u:4840", expect);
	CHECK(token((uint8_t)expect, 6000, 9000).status == 0);
	struct cluster_effect f = add((uint8_t)expect, 7000, 70 + expect, name, addr);
	CHECK(f.status == 0 && f.value == expect);
	f = up(expect, cluster_member(&g_c, expect)->incarnation);
	CHECK(f.status == 0 && !f.died);
}

static void test_init_makes_the_first_member_once(void)
{
	fresh();
	const struct cluster_member *m = cluster_member(&g_c, 1);
	CHECK(m && m->state == MEMBER_JOINED && m->incarnation == 0 && strcmp(m->name, "one") == 0);
	CHECK(g_c.created_ms == 5000 && g_c.slot_owner[1] == 1 && g_c.version == 1);
	struct cluster_cmd again = with_identity((struct cluster_cmd){ .type = CLUSTER_INIT, .now_ms = 1 }, "two", "h:1");
	CHECK(run(&again).status == -EEXIST && g_c.created_ms == 5000 && g_c.version == 2);
	CHECK(up(1, 0).value == 1 && m->state == MEMBER_ACTIVE);
}

static void test_nothing_works_before_init(void)
{
	memset(&g_c, 0, sizeof g_c);
	CHECK(token(1, 1, 2).status == -ENOENT && g_c.n_tokens == 0);
}

static void test_a_token_admits_one_member(void)
{
	fresh();
	CHECK(add(9, 6000, 1, "two", "h2:1").status == -EKEYREJECTED);
	CHECK(token(9, 6000, 8000).status == 0);
	CHECK(add(9, 6001, 1, "bad name", "h2:1").status == -EINVAL);
	CHECK(add(9, 6001, 1, "two", "h2").status == -EINVAL);
	CHECK(add(9, 6001, 1, "one", "h2:1").status == -EEXIST);
	CHECK(add(9, 6001, 1, "two", "10.0.0.1:4840").status == -EEXIST);
	struct cluster_effect f = add(9, 6001, 1, "two", "h2:1");
	CHECK(f.status == 0 && f.value == 2);
	f = add(9, 6002, 1, "two", "h2:1"); /* the same request again */
	CHECK(f.status == 0 && f.value == 2);
	CHECK(add(9, 6003, 2, "three", "h3:1").status == -EKEYREVOKED);
	CHECK(token(8, 6000, 8000).status == 0);
	CHECK(add(8, 8000, 3, "three", "h3:1").status == -EKEYEXPIRED);
	CHECK(token(7, 6000, 6000).status == -EINVAL);
	CHECK(!cluster_member(&g_c, 3));
}

static void test_tokens_are_limited_and_expire(void)
{
	fresh();
	for (unsigned i = 0; i < CLUSTER_TOKENS; i++)
		CHECK(token((uint8_t)i, 6000, 7000).status == 0);
	struct cluster_cmd c = { .type = CLUSTER_TOKEN_ADD, .now_ms = 6000, .expires_ms = 7000 };
	memcpy(c.hash, "another", 7);
	CHECK(run(&c).status == -ENOSPC);
	c.now_ms = 7000 + 11 * 60 * 1000;
	c.expires_ms = c.now_ms + 1;
	CHECK(run(&c).status == 0 && g_c.n_tokens == 1);
	c.type = CLUSTER_TOKEN_DEL;
	CHECK(run(&c).status == 0 && g_c.n_tokens == 0 && run(&c).status == -ENOENT);
}

static void test_death_takes_two_steps_and_absolution_voids_it(void)
{
	fresh();
	CHECK(up(1, 0).status == 0);
	add_up(2);
	CHECK(about(CLUSTER_CONDEMN, 2, 7, 0).status == -ESTALE);
	struct cluster_effect f = about(CLUSTER_CONDEMN, 2, 1, 0);
	uint32_t epoch = f.value;
	CHECK(f.status == 0 && epoch && !f.died);
	CHECK(about(CLUSTER_CONDEMN, 2, 1, 0).value == epoch);
	CHECK(about(CLUSTER_ABSOLVE, 2, 0, epoch).status == 0);
	CHECK(about(CLUSTER_DEAD, 2, 1, epoch).status == -ESTALE);
	CHECK(cluster_member(&g_c, 2)->state == MEMBER_ACTIVE);

	uint32_t second = about(CLUSTER_CONDEMN, 2, 1, 0).value;
	CHECK(second != epoch);
	CHECK(about(CLUSTER_DEAD, 2, 1, epoch).status == -ESTALE);
	f = about(CLUSTER_DEAD, 2, 1, second);
	CHECK(f.status == 0 && f.died == 2 && f.died_incarnation == 1 && cluster_member(&g_c, 2)->state == MEMBER_DEAD);
	CHECK(about(CLUSTER_ABSOLVE, 2, 0, second).status == -ESTALE);
	CHECK(about(CLUSTER_CONDEMN, 2, 1, 0).status == -ESTALE);

	f = up(2, 1);
	CHECK(f.status == 0 && f.value == 2 && !f.died && cluster_member(&g_c, 2)->state == MEMBER_ACTIVE);
	CHECK(g_c.slot_owner[2] == 2);
}

static void test_a_fresh_space_ends_the_old_one(void)
{
	fresh();
	CHECK(up(1, 0).status == 0);
	struct cluster_cmd c = with_identity((struct cluster_cmd){ .type = CLUSTER_UP, .node = 1, .incarnation = 1, .nonce = 4 }, "",
					     "10.0.0.9:1");
	struct cluster_effect f = run(&c);
	CHECK(f.status == 0 && f.value == 2 && f.died == 1 && f.died_incarnation == 1);
	CHECK(strcmp(cluster_member(&g_c, 1)->addr, "10.0.0.9:1") == 0);
	f = run(&c); /* the same command again */
	CHECK(f.status == 0 && f.value == 2 && !f.died);
	c.nonce = 5;
	CHECK(run(&c).status == -ESTALE);
}

static void test_drain_and_remove(void)
{
	fresh();
	CHECK(up(1, 0).status == 0);
	add_up(2);
	add_up(3);
	CHECK(about(CLUSTER_DRAIN, 2, 0, 0).status == 0 && cluster_member(&g_c, 2)->state == MEMBER_DRAINING);
	CHECK(about(CLUSTER_REMOVE, 2, 0, 0).status == 0 && cluster_member(&g_c, 2)->leaving);
	struct cluster_effect f = about(CLUSTER_GONE, 2, 1, 0);
	CHECK(f.died == 2 && cluster_member(&g_c, 2)->state == MEMBER_REMOVED && g_c.slot_owner[2] == 0 && g_c.slot_freed[2]);
	CHECK(up(2, 1).status == -EKEYREVOKED);
	CHECK(about(CLUSTER_DRAIN, 2, 0, 0).status == -ENOENT);

	/* Removed while it cannot be reached: its death is its removal. */
	CHECK(about(CLUSTER_REMOVE, 3, 0, 0).status == 0);
	uint32_t epoch = about(CLUSTER_CONDEMN, 3, 1, 0).value;
	f = about(CLUSTER_DEAD, 3, 1, epoch);
	CHECK(f.died == 3 && cluster_member(&g_c, 3)->state == MEMBER_REMOVED);

	/* Gone without removal: dead, and it may come again. */
	add_up(4);
	f = about(CLUSTER_GONE, 4, 1, 0);
	CHECK(f.died == 4 && cluster_member(&g_c, 4)->state == MEMBER_DEAD);
	CHECK(about(CLUSTER_GONE, 4, 1, 0).died == 0);
	CHECK(up(4, 1).value == 2);
	CHECK(about(CLUSTER_GONE, 4, 2, 0).died == 4 && about(CLUSTER_REMOVE, 4, 0, 0).status == 0);
	CHECK(cluster_member(&g_c, 4)->state == MEMBER_REMOVED);
}

static void test_ids_and_slots_are_used_up_before_they_come_again(void)
{
	fresh();
	for (uint16_t i = 2; i <= 126; i++)
		add_up(i);
	uint16_t slots[CLUSTER_SLOTS];
	CHECK(cluster_slots(&g_c, 77, slots) == 1 && slots[0] == 77);
	CHECK(cluster_registrar(&g_c, 77 * CLUSTER_SLOT_SIZE + 5) == 77 && cluster_registrar(&g_c, 5) == 0);
	for (uint16_t i = 10; i >= 9; i--) {
		CHECK(about(CLUSTER_GONE, i, 1, 0).died == i);
		CHECK(about(CLUSTER_REMOVE, i, 0, 0).status == 0);
	}
	add_up(127); /* slot 127 is still new */
	CHECK(g_c.slot_owner[127] == 127);
	add_up(128); /* there is no slot 128: the one freed first */
	CHECK(g_c.slot_owner[10] == 128);
	CHECK(token(200, 6000, 9000).status == 0);
	struct cluster_effect f = add(200, 7000, 1, "again", "again:1");
	CHECK(f.status == 0 && f.value == 10 && g_c.slot_owner[9] == 10); /* the id given up first, and what slot is left */
	CHECK(up(10, 1).value == 2);                                     /* no incarnation twice */
	CHECK(token(201, 6000, 9000).status == 0);
	CHECK(add(201, 7000, 1, "more", "more:1").status == -ENOSPC);
	CHECK(run(&(struct cluster_cmd){ .type = CLUSTER_SLOT, .slot = 9, .node = 1 }).status == 0);
	CHECK(cluster_slots(&g_c, 1, slots) == 2 && slots[1] == 9);
	CHECK(run(&(struct cluster_cmd){ .type = CLUSTER_SLOT, .slot = 0, .node = 1 }).status == -EINVAL);
	CHECK(run(&(struct cluster_cmd){ .type = CLUSTER_SLOT, .slot = 128, .node = 1 }).status == -EINVAL);
	CHECK(run(&(struct cluster_cmd){ .type = CLUSTER_SLOT, .slot = 9, .node = 9 }).status == -ENOENT);
}

static struct cluster_effect text(enum cluster_cmd_type type, uint16_t node, const char *key, const char *value)
{
	struct cluster_cmd c = { .type = type, .node = node };
	strcpy(c.key, key);
	strcpy(c.value, value);
	return run(&c);
}

static void test_settings_are_validated(void)
{
	fresh();
	CHECK(cluster_setting_number(&g_c, "dead-after-ms") == 2600 && !cluster_setting(&g_c, "nonsense"));
	CHECK(text(CLUSTER_SETTING, 0, "nonsense", "1").status == -ENOENT);
	CHECK(text(CLUSTER_SETTING, 0, "dead-after-ms", "12").status == -EINVAL);
	CHECK(text(CLUSTER_SETTING, 0, "dead-after-ms", "5000x").status == -EINVAL);
	CHECK(text(CLUSTER_SETTING, 0, "heartbeat-ms", "2000").status == -EINVAL); /* too long for 2600 */
	CHECK(text(CLUSTER_SETTING, 0, "dead-after-ms", "16000").status == 0);
	CHECK(text(CLUSTER_SETTING, 0, "heartbeat-ms", "2000").status == 0);
	CHECK(text(CLUSTER_SETTING_DEL, 0, "dead-after-ms", "").status == -EINVAL);
	CHECK(text(CLUSTER_SETTING_DEL, 0, "heartbeat-ms", "").status == 0);
	CHECK(text(CLUSTER_SETTING, 0, "dead-after-ms", "2600").status == 0 && g_c.n_settings == 0);
	CHECK(text(CLUSTER_SETTING, 0, "shared-tmp", "relative").status == -EINVAL);
	CHECK(text(CLUSTER_SETTING, 0, "shared-tmp", "/a/../b").status == -EINVAL);
	CHECK(text(CLUSTER_SETTING, 0, "shared-tmp", "/nfs/tmp").status == 0);
	CHECK(text(CLUSTER_SETTING, 0, "policy", "Round Robin").status == -EINVAL);
	CHECK(text(CLUSTER_SETTING, 0, "policy", "random").status == 0);
	CHECK(strcmp(cluster_setting(&g_c, "policy"), "random") == 0 && strcmp(cluster_setting(&g_c, "shared-tmp"), "/nfs/tmp") == 0);
	for (unsigned i = 0; setting_at(i); i++)
		CHECK(setting_check(setting_at(i)->key, setting_at(i)->initial, NULL) == 0);
}

static void test_labels_are_kept_in_order(void)
{
	fresh();
	const struct cluster_member *m = cluster_member(&g_c, 1);
	CHECK(text(CLUSTER_LABEL, 1, "gpu", "yes").status == 0 && text(CLUSTER_LABEL, 1, "disk", "ssd").status == 0);
	CHECK(m->n_labels == 2 && strcmp(m->labels[0].key, "disk") == 0 && strcmp(cluster_label_get(m, "gpu"), "yes") == 0);
	CHECK(text(CLUSTER_LABEL, 1, "gpu", "no").status == 0 && m->n_labels == 2 && strcmp(cluster_label_get(m, "gpu"), "no") == 0);
	CHECK(text(CLUSTER_LABEL, 1, "disk", "").status == 0 && m->n_labels == 1 && !cluster_label_get(m, "disk"));
	CHECK(text(CLUSTER_LABEL, 1, "disk", "").status == -ENOENT && text(CLUSTER_LABEL, 2, "a", "b").status == -ENOENT);
	CHECK(text(CLUSTER_LABEL, 1, "a=b", "c").status == -EINVAL && text(CLUSTER_LABEL, 1, "", "c").status == -EINVAL);
	for (unsigned i = 1; i < CLUSTER_LABELS; i++) {
		char key[8];
		(void)snprintf(key, sizeof key, "k%u", i);
		CHECK(text(CLUSTER_LABEL, 1, key, "v").status == 0);
	}
	CHECK(text(CLUSTER_LABEL, 1, "one-more", "v").status == -ENOSPC);
}

static void test_addresses_and_names(void)
{
	CHECK(cluster_addr_check("host:1", NULL) == 0 && cluster_addr_check("[fe80::1]:65535", NULL) == 0);
	const char *const bad[] = { "", "host", ":1", "host:", "host:0", "host:65536", "host:1x", "fe80::1:4", "ho st:1", "[]:1", "host:-1" };
	for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
		CHECK(cluster_addr_check(bad[i], NULL) == -EINVAL);
	CHECK(cluster_name_check("a.b-c", NULL) == 0 && cluster_name_check("-a", NULL) == -EINVAL);
	char name[80];
	memset(name, 'x', sizeof name);
	name[64] = 0;
	CHECK(cluster_name_check(name, NULL) == -EINVAL);
	name[63] = 0;
	CHECK(cluster_name_check(name, NULL) == 0);
}

static void test_every_prefix_of_every_command_is_refused(void)
{
	for (unsigned type = CLUSTER_INIT; type <= CLUSTER_SLOT; type++) {
		struct cluster_cmd c = with_identity((struct cluster_cmd){ .type = (enum cluster_cmd_type)type, .node = 1, .slot = 3 }, "n", "h:1");
		strcpy(c.key, "gpu");
		strcpy(c.value, "yes");
		struct wr w = { 0 };
		CHECK(cluster_cmd_encode(&c, &w) == 0);
		struct cluster_cmd back;
		for (size_t cut = 0; cut < w.n; cut++)
			CHECK(cluster_cmd_decode(w.p, cut, &back) == -EBADMSG);
		CHECK(cluster_cmd_decode(w.p, w.n, &back) == 0 && back.type == c.type);
		wr_u8(&w, 0);
		CHECK(cluster_cmd_decode(w.p, w.n, &back) == -EBADMSG);
		w.p[1] = 99;
		CHECK(cluster_cmd_decode(w.p, w.n, &back) == -EOPNOTSUPP);
		wr_fini(&w);
	}
	struct wr none = { 0 };
	CHECK(cluster_cmd_encode(&(struct cluster_cmd){ .type = (enum cluster_cmd_type)99 }, &none) == -EINVAL);
	wr_fini(&none);
}

static void test_an_unknown_command_is_only_counted(void)
{
	fresh();
	static struct cluster before;
	before = g_c;
	CHECK(cluster_apply(&g_c, "\1\377\0", 3).status == -EOPNOTSUPP);
	CHECK(cluster_apply(&g_c, "\2\1\0", 3).status == -EOPNOTSUPP);
	CHECK(cluster_apply(&g_c, "\1", 1).status == -EBADMSG);
	CHECK(g_c.version == before.version + 3);
	g_c.version = before.version;
	CHECK(memcmp(&g_c, &before, sizeof g_c) == 0);
}

static void test_a_snapshot_is_the_whole_state(void)
{
	fresh();
	CHECK(up(1, 0).status == 0);
	add_up(2);
	add_up(3);
	CHECK(text(CLUSTER_LABEL, 1, "gpu", "yes").status == 0 && text(CLUSTER_SETTING, 0, "policy", "random").status == 0);
	CHECK(about(CLUSTER_CONDEMN, 3, 1, 0).status == 0 && about(CLUSTER_REMOVE, 2, 0, 0).status == 0);
	struct wr w = { 0 };
	cluster_encode(&g_c, &w);
	CHECK(wr_done(&w) == 0 && w.n < CLUSTER_SNAPSHOT_MAX);

	static struct cluster back;
	for (size_t cut = 0; cut < w.n; cut++)
		CHECK(cluster_decode(&back, w.p, cut) == -EBADMSG);
	CHECK(back.version == 0);
	CHECK(cluster_decode(&back, w.p, w.n) == 0);
	struct wr again = { 0 };
	cluster_encode(&back, &again);
	CHECK(again.n == w.n && memcmp(again.p, w.p, w.n) == 0);
	CHECK(back.members[3].suspect && back.members[2].leaving && back.n_tokens == 2 && back.version == g_c.version);

	/* Both go on alike. */
	static struct cluster first;
	CHECK(about(CLUSTER_GONE, 2, 1, 0).died == 2);
	first = g_c;
	g_c = back;
	CHECK(about(CLUSTER_GONE, 2, 1, 0).died == 2);
	again.n = w.n = 0;
	cluster_encode(&g_c, &again);
	cluster_encode(&first, &w);
	CHECK(again.n == w.n && memcmp(again.p, w.p, w.n) == 0);
	wr_fini(&again);
	wr_fini(&w);
}

static void test_the_largest_state_fits(void)
{
	fresh();
	for (uint16_t i = 2; i <= 127; i++)
		add_up(i);
	for (uint16_t i = 1; i <= 127; i++) {
		for (unsigned k = 0; k < CLUSTER_LABELS; k++) {
			char key[CLUSTER_LABEL_KEY_SIZE], value[CLUSTER_LABEL_VALUE_SIZE];
			(void)snprintf(key, sizeof key, "%031u", k);
			(void)snprintf(value, sizeof value, "%063u", k);
			CHECK(text(CLUSTER_LABEL, i, key, value).status == 0);
		}
	}
	struct wr w = { 0 };
	cluster_encode(&g_c, &w);
	CHECK(w.n < CLUSTER_SNAPSHOT_MAX);
	static struct cluster back;
	CHECK(cluster_decode(&back, w.p, w.n) == 0);
	wr_fini(&w);
}

int main(void)
{
	TEST(test_init_makes_the_first_member_once);
	TEST(test_nothing_works_before_init);
	TEST(test_a_token_admits_one_member);
	TEST(test_tokens_are_limited_and_expire);
	TEST(test_death_takes_two_steps_and_absolution_voids_it);
	TEST(test_a_fresh_space_ends_the_old_one);
	TEST(test_drain_and_remove);
	TEST(test_ids_and_slots_are_used_up_before_they_come_again);
	TEST(test_settings_are_validated);
	TEST(test_labels_are_kept_in_order);
	TEST(test_addresses_and_names);
	TEST(test_every_prefix_of_every_command_is_refused);
	TEST(test_an_unknown_command_is_only_counted);
	TEST(test_a_snapshot_is_the_whole_state);
	TEST(test_the_largest_state_fits);
	return 0;
}
