#include "procfs/table.h"

#include <string.h>

#include "check.h"
#include "procfs/ino.h"
#include "procfs/remote.h"

static void test_pids_are_replaced_and_gone(void)
{
	struct table t;
	table_init(&t);
	for (uint32_t pid = 1; pid <= 5000; pid++)
		CHECK(table_pid_set(&t, &(struct procfs_pid){ .pid = pid, .kind = PROCFS_REMOTE, .node = 2, .tgid = pid }) == 0);
	CHECK(table_pid_set(&t, &(struct procfs_pid){ .pid = 17, .kind = PROCFS_HIDDEN }) == 0);
	CHECK(table_pid_get(&t, 17)->kind == PROCFS_HIDDEN && table_pid_get(&t, 5000)->node == 2 && !table_pid_get(&t, 5001));
	CHECK(HASH_COUNT(t.pids) == 5000);
	table_pid_del(&t, 17);
	table_pid_del(&t, 17);
	CHECK(!table_pid_get(&t, 17) && HASH_COUNT(t.pids) == 4999);
	CHECK(table_pid_set(&t, &(struct procfs_pid){ .pid = 16, .kind = 7 }) == -EINVAL && table_pid_get(&t, 16)->node == 2);
	table_fini(&t);
	CHECK(!t.pids);
}

static void test_slots_belong_to_their_node_at_first(void)
{
	struct table t;
	table_init(&t);
	CHECK(table_owner(&t, 300) == 0 && table_owner(&t, 32768) == 1 && table_owner(&t, 127u << 15) == 127);
	CHECK(table_owner(&t, 1u << 22) == 0 && table_owner(&t, UINT32_MAX) == 0);
	CHECK(table_slot_set(&t, 1, 0) == 0 && table_owner(&t, 40000) == 0);
	CHECK(table_slot_set(&t, TABLE_SLOTS, 1) == -EINVAL && table_slot_set(&t, 1, TABLE_NODES) == -EINVAL);
	table_fini(&t);
}

static void test_names_of_nodes_are_names_of_files(void)
{
	struct table t;
	char longest[TABLE_NAME_MAX + 1];
	memset(longest, 'x', sizeof(longest));
	longest[TABLE_NAME_MAX] = 0;
	table_init(&t);
	CHECK(table_node_set(&t, 1, longest, 1) == -EINVAL);
	longest[TABLE_NAME_MAX - 1] = 0;
	CHECK(table_node_set(&t, 1, longest, 1) == 0 && table_node_find(&t, longest) == 1);
	CHECK(table_node_set(&t, 128, "b", 0) == 0 && table_node_find(&t, "b") == 128);
	CHECK(table_node_set(&t, 128, "b/c", 0) == -EINVAL && table_node_find(&t, "b") == 128);
	CHECK(table_node_set(&t, 128, NULL, 0) == 0 && table_node_find(&t, "b") == 0);
	table_fini(&t);
}

static void test_features_fall_back_to_the_default(void)
{
	struct table t;
	table_init(&t);
	CHECK(table_features_get(&t, 5) == PROCFS_F_CLUSTER_CPUS);
	CHECK(table_features_set(&t, 5, 0) == 0 && table_features_get(&t, 5) == 0);
	table_features_del(&t, 5);
	CHECK(table_features_get(&t, 5) == PROCFS_F_CLUSTER_CPUS);
	table_fini(&t);
}

static void test_numbers_of_files_say_what_they_are(void)
{
	const struct ino all[] = {
		{ .kind = INO_ROOT },
		{ .kind = INO_CONST, .id = ino_hash("net") },
		{ .kind = INO_GLOBAL, .id = REMOTE_S_CPUINFO },
		{ .kind = INO_PID, .pid = 1 },
		{ .kind = INO_LINK, .pid = REMOTE_PID_MAX, .id = ino_hash("fd") },
		{ .kind = INO_TEXT, .pid = 77, .id = UINT32_MAX },
		{ .kind = INO_NODES },
		{ .kind = INO_NODE, .node = 128 },
		{ .kind = INO_NPID, .node = 1, .pid = 5 },
		{ .kind = INO_RPID, .node = 128, .pid = REMOTE_PID_MAX },
		{ .kind = INO_RFILE, .node = 128, .pid = REMOTE_PID_MAX, .id = ino_hash("status") },
		{ .kind = INO_RFILE, .node = 1, .pid = 1, .id = (1u << 26) - 1 },
		{ .kind = INO_NDIR },
		{ .kind = INO_SYS },
		{ .kind = INO_PATH, .id = (1ull << 56) - 1 },
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct ino got;
		uint64_t v = ino_pack(&all[i]);
		CHECK((v == 1) == (all[i].kind == INO_ROOT) && v != 0 && (int64_t)v > 0);
		CHECK(ino_unpack(v, &got) == 0);
		CHECK(got.kind == all[i].kind && got.node == all[i].node && got.pid == all[i].pid && got.id == all[i].id);
		for (size_t k = 0; k < i; k++)
			CHECK(ino_pack(&all[k]) != v);
	}
}

static void test_numbers_that_are_none_are_stale(void)
{
	struct ino got;
	CHECK(ino_unpack(0, &got) == -ESTALE && ino_unpack(2, &got) == -ESTALE && ino_unpack(UINT64_MAX, &got) == -ESTALE);
	CHECK(ino_unpack((uint64_t)(INO_PID + 1) << 57, &got) == -ESTALE);
	CHECK(ino_unpack((uint64_t)(INO_PID + 1) << 57 | (uint64_t)(REMOTE_PID_MAX + 1) << 32, &got) == -ESTALE);
	CHECK(ino_unpack((uint64_t)(INO_RPID + 1) << 57 | 5, &got) == -ESTALE);
	CHECK(ino_unpack((uint64_t)(INO_RPID + 1) << 57 | (uint64_t)TABLE_NODES << 32 | 5, &got) == -ESTALE);
	CHECK(ino_unpack((uint64_t)(INO_RFILE + 1) << 57 | (uint64_t)1 << 49 | 5, &got) == -ESTALE);
	CHECK(ino_unpack((uint64_t)(INO_RFILE + 1) << 57 | (uint64_t)5 << 26 | 5, &got) == -ESTALE);
	CHECK(ino_unpack((uint64_t)(INO_RFILE + 1) << 57 | (uint64_t)TABLE_NODES << 49 | (uint64_t)5 << 26 | 5, &got) == -ESTALE);
	CHECK(ino_unpack((uint64_t)(INO_KINDS + 1) << 57, &got) == -ESTALE);
}

int main(void)
{
	TEST(test_pids_are_replaced_and_gone);
	TEST(test_slots_belong_to_their_node_at_first);
	TEST(test_names_of_nodes_are_names_of_files);
	TEST(test_features_fall_back_to_the_default);
	TEST(test_numbers_of_files_say_what_they_are);
	TEST(test_numbers_that_are_none_are_stale);
	return 0;
}
