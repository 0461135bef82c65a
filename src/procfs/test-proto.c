#include "procfs/proto.h"

#include <string.h>

#include "check.h"
#include "procfs/remote.h"
#include "procfs/snap.h"

static struct table t;

static void frame_apply(const struct wr *w, int want)
{
	struct rd r;
	rd_init(&r, w->p, w->n);
	uint8_t type = rd_u8(&r);
	CHECK(proto_table_get(type, &r, &t) == want);
}

/* Every prefix of a frame that is shorter than all of it is refused. */
static void prefixes_refused(const struct wr *w)
{
	for (size_t n = 1; n < w->n; n++) {
		struct rd r;
		struct proto_call c;
		uint16_t v;
		rd_init(&r, w->p, n);
		uint8_t type = rd_u8(&r);
		int rc;
		if (type == PROTO_HELLO)
			rc = proto_hello_get(&r, &v);
		else if (type == PROTO_SPACE)
			rc = proto_space_get(&r, &v);
		else if (type >= PROTO_REQ)
			rc = proto_call_get(&r, &c);
		else
			rc = proto_table_get(type, &r, &t);
		CHECK(rc == -EBADMSG);
	}
}

static void test_table_frames_change_the_table_and_prefixes_are_refused(void)
{
	table_init(&t);
	struct wr w = { 0 };
	proto_node_put(&w, 3, "three", 1);
	prefixes_refused(&w);
	CHECK(!t.nodes[3].present);
	frame_apply(&w, 0);
	CHECK(t.nodes[3].present && t.nodes[3].up && table_node_find(&t, "three") == 3);
	wr_fini(&w);

	proto_slot_put(&w, 5, 3);
	prefixes_refused(&w);
	frame_apply(&w, 0);
	CHECK(table_owner(&t, 5 << 15) == 3);
	wr_fini(&w);

	const struct procfs_pid p[2] = { { .pid = 7, .kind = PROCFS_HIDDEN }, { .pid = 8, .kind = PROCFS_REMOTE, .node = 3, .tgid = 8, .uid = 1, .gid = 2 } };
	proto_pids_put(&w, p, 2);
	prefixes_refused(&w);
	frame_apply(&w, 0);
	const struct procfs_pid *q = table_pid_get(&t, 8);
	CHECK(q && q->kind == PROCFS_REMOTE && q->node == 3 && q->tgid == 8 && q->uid == 1 && q->gid == 2);
	CHECK(table_pid_get(&t, 7)->kind == PROCFS_HIDDEN);
	wr_fini(&w);

	const uint32_t gone[1] = { 7 };
	proto_pids_gone_put(&w, gone, 1);
	prefixes_refused(&w);
	frame_apply(&w, 0);
	CHECK(!table_pid_get(&t, 7) && table_pid_get(&t, 8));
	wr_fini(&w);

	proto_features_put(&w, 8, PROCFS_F_LOCAL_PROC);
	prefixes_refused(&w);
	frame_apply(&w, 0);
	CHECK(table_features_get(&t, 8) == PROCFS_F_LOCAL_PROC && table_features_get(&t, 9) == PROCFS_F_CLUSTER_CPUS);
	wr_fini(&w);
	proto_features_put(&w, 0, 0);
	frame_apply(&w, 0);
	CHECK(table_features_get(&t, 9) == 0);
	wr_fini(&w);
	proto_features_gone_put(&w, 8);
	prefixes_refused(&w);
	frame_apply(&w, 0);
	CHECK(table_features_get(&t, 8) == 0);
	wr_fini(&w);

	proto_node_put(&w, 3, NULL, 0);
	prefixes_refused(&w);
	frame_apply(&w, 0);
	CHECK(!t.nodes[3].present);
	wr_fini(&w);
	table_fini(&t);
}

static void test_frames_out_of_range_are_refused(void)
{
	table_init(&t);
	static const char *const names[] = { "", ".", "..", "a/b", "a\nb" };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct wr w = { 0 };
		proto_node_put(&w, 1, names[i], 1);
		frame_apply(&w, -EBADMSG);
		wr_fini(&w);
	}
	struct wr w = { 0 };
	proto_node_put(&w, 0, "x", 1);
	frame_apply(&w, -EBADMSG);
	wr_fini(&w);
	proto_node_put(&w, TABLE_NODES, "x", 1);
	frame_apply(&w, -EBADMSG);
	wr_fini(&w);
	proto_slot_put(&w, TABLE_SLOTS, 1);
	frame_apply(&w, -EBADMSG);
	wr_fini(&w);
	const struct procfs_pid bad[] = { { .pid = 0, .kind = PROCFS_HIDDEN }, { .pid = REMOTE_PID_MAX + 1, .kind = PROCFS_HIDDEN }, { .pid = 1, .kind = 9 },
					  { .pid = 1, .kind = PROCFS_REMOTE, .node = 0 }, { .pid = 1, .kind = PROCFS_REMOTE, .node = TABLE_NODES } };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		proto_pids_put(&w, &bad[i], 1);
		frame_apply(&w, -EBADMSG);
		wr_fini(&w);
	}
	CHECK(!t.pids);
	proto_plain_put(&w, PROTO_SYNCED);
	frame_apply(&w, -EOPNOTSUPP);
	wr_fini(&w);
	table_fini(&t);
}

static void test_calls_and_greetings_come_back(void)
{
	struct wr w = { 0 };
	struct rd r;
	uint16_t v;
	proto_hello_put(&w);
	prefixes_refused(&w);
	rd_init(&r, w.p, w.n);
	CHECK(rd_u8(&r) == PROTO_HELLO && proto_hello_get(&r, &v) == 0 && v == PROTO_VERSION);
	wr_fini(&w);

	proto_space_put(&w, 12);
	prefixes_refused(&w);
	rd_init(&r, w.p, w.n);
	CHECK(rd_u8(&r) == PROTO_SPACE && proto_space_get(&r, &v) == 0 && v == 12);
	wr_fini(&w);
	proto_space_put(&w, 0);
	rd_init(&r, w.p, w.n);
	(void)rd_u8(&r);
	CHECK(proto_space_get(&r, &v) == -EBADMSG);
	wr_fini(&w);

	struct proto_call c = { .id = 77, .node = 2, .timeout_ms = 500, .status = -5, .p = (const uint8_t *)"abc", .n = 3 }, got;
	proto_call_put(&w, PROTO_REPLY, &c);
	prefixes_refused(&w);
	rd_init(&r, w.p, w.n);
	CHECK(rd_u8(&r) == PROTO_REPLY && proto_call_get(&r, &got) == 0);
	CHECK(got.id == 77 && got.node == 2 && got.timeout_ms == 500 && got.status == -5 && got.n == 3 && memcmp(got.p, "abc", 3) == 0);
	wr_u8(&w, 0); /* left over */
	rd_init(&r, w.p, w.n);
	(void)rd_u8(&r);
	CHECK(proto_call_get(&r, &got) == -EBADMSG);
	wr_fini(&w);
}

/* ---- between nodes ---- */

static void request_put(struct wr *w, const char *path)
{
	struct remote_req q = { .op = REMOTE_READ, .cred = { .uid = 1, .gid = 2, .caps = 3, .n_groups = 2, .groups = { 5, 6 } }, .pid = 9, .off = 10,
				.size = 11, .flags = 12, .data = (const uint8_t *)"data", .data_n = 4 };
	(void)strcpy(q.path, path);
	remote_req_put(w, &q);
}

static void test_requests_come_back_and_prefixes_are_refused(void)
{
	struct wr w = { 0 };
	struct remote_req q;
	request_put(&w, "12/task/13/stat");
	for (size_t n = 0; n < w.n; n++)
		CHECK(remote_req_get(w.p, n, &q) == -EBADMSG);
	CHECK(remote_req_get(w.p, w.n, &q) == 0);
	CHECK(q.op == REMOTE_READ && q.cred.uid == 1 && q.cred.gid == 2 && q.cred.caps == 3 && q.cred.n_groups == 2 && q.cred.groups[1] == 6);
	CHECK(q.pid == 9 && q.off == 10 && q.size == 11 && q.flags == 12 && q.data_n == 4 && strcmp(q.path, "12/task/13/stat") == 0);
	w.p[0] = REMOTE_VERSION + 1;
	CHECK(remote_req_get(w.p, w.n, &q) == -EPROTONOSUPPORT);
	w.p[0] = REMOTE_VERSION;
	w.p[1] = REMOTE_OP_END;
	CHECK(remote_req_get(w.p, w.n, &q) == -EOPNOTSUPP);
	wr_fini(&w);
}

static void test_paths_that_lead_elsewhere_are_refused(void)
{
	static const char *const bad[] = { "/etc/passwd", "..", "1/../../etc", "1/./stat", "1//stat", "1/stat/", "." };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct wr w = { 0 };
		struct remote_req q;
		request_put(&w, bad[i]);
		CHECK(remote_req_get(w.p, w.n, &q) == -EBADMSG);
		wr_fini(&w);
	}
	CHECK(remote_path_ok("") && remote_path_ok("1/fd/..x") && remote_path_ok("...") && !remote_path_ok("a/.."));
	const char *rest;
	CHECK(remote_path_pid("12/stat", &rest) == 12 && strcmp(rest, "stat") == 0);
	CHECK(remote_path_pid("12", &rest) == 12 && !*rest);
	CHECK(remote_path_pid("x/12", &rest) == 0 && remote_path_pid("012", NULL) == 0 && remote_path_pid("4194305", NULL) == 0);
	CHECK(remote_pid_parse("4194304") == 4194304 && remote_pid_parse("") == 0 && remote_pid_parse("1 ") == 0);
	CHECK(remote_pid_parse("99999999999999999999") == 0);
}

static void test_replies_carry_errors_the_kernel_accepts_only(void)
{
	struct wr w = { 0 };
	struct rd r;
	static const int good[] = { 0, -1, -511 }, bad[] = { 1, -512, INT32_MIN };
	for (size_t i = 0; i < 3; i++) {
		remote_reply_put(&w, good[i]);
		CHECK(remote_reply_get(w.p, w.n, &r) == good[i]);
		CHECK(remote_reply_get(w.p, w.n - 1, &r) == -EBADMSG);
		wr_fini(&w);
		remote_reply_put(&w, bad[i]);
		CHECK(remote_reply_get(w.p, w.n, &r) == -EBADMSG);
		wr_fini(&w);
	}
	remote_reply_put(&w, 0);
	w.p[0]++;
	CHECK(remote_reply_get(w.p, w.n, &r) == -EPROTONOSUPPORT);
	wr_fini(&w);
}

static void test_entries_with_bad_names_are_refused(void)
{
	static const char *const bad[] = { "", ".", "..", "a/b" };
	for (size_t i = 0; i < 4; i++) {
		struct wr w = { 0 };
		struct remote_entry e = { 0 }, got;
		struct rd r;
		(void)strcpy(e.name, bad[i]);
		remote_entry_put(&w, &e);
		rd_init(&r, w.p, w.n);
		remote_entry_get(&r, &got);
		CHECK(rd_done(&r) == -EBADMSG);
		wr_fini(&w);
	}
	struct wr w = { 0 };
	struct remote_entry e = { .name = "exe", .attr = { .mode = 0120777, .uid = 4, .mtime = -1 }, .link = "/bin/x" }, got;
	remote_entry_put(&w, &e);
	for (size_t n = 0; n <= w.n; n++) {
		struct rd r;
		rd_init(&r, w.p, n);
		remote_entry_get(&r, &got);
		CHECK(rd_done(&r) == (n == w.n ? 0 : -EBADMSG));
	}
	CHECK(strcmp(got.name, "exe") == 0 && strcmp(got.link, "/bin/x") == 0 && got.attr.uid == 4 && got.attr.mtime == -1);
	wr_fini(&w);
}

/* ---- snapshots ---- */

static const char stat_text[] = "70 (a) b (c)) S 1 70 70 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 100 200 300 18446744073709551615 400 500 600 700 800 "
				"0 0 0 0 900 0 0 17 0 0 0 0 0 0 1000 1100 1200 1300 1400 1500 1600 0\n";
static const char status_text[] = "Name:\ta\nUid:\t10\t10\t10\t10\nGid:\t20\t20\t20\t20\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n";

static void proc_put(struct wr *w, uint32_t pid)
{
	struct remote_proc p = { .pid = pid, .owner = { 10, 20, REMOTE_PID_DUMPABLE }, .text = { stat_text, status_text, "1 2 3\n", "a\0b" },
				 .text_n = { sizeof(stat_text) - 1, sizeof(status_text) - 1, 6, 4 } };
	remote_proc_put(w, &p);
}

static void part_put(struct wr *w, uint32_t next, uint32_t a, uint32_t b)
{
	remote_reply_put(w, 0);
	wr_u32(w, next);
	wr_u32(w, 2);
	proc_put(w, a);
	proc_put(w, b);
}

static void test_a_snapshot_is_put_together_from_parts(void)
{
	struct snap *s = snap_new(2);
	struct wr w = { 0 };
	uint32_t next;
	part_put(&w, 50, 7, 40);
	for (size_t n = 0; n < w.n; n++)
		CHECK(snap_add(s, w.p, n, &next) == -EBADMSG);
	CHECK(s->n_procs == 0);
	CHECK(snap_add(s, w.p, w.n, &next) == 0 && next == 50);
	wr_fini(&w);
	part_put(&w, 0, 40, 60); /* does not rise */
	CHECK(snap_add(s, w.p, w.n, &next) == -EBADMSG && s->n_procs == 2);
	wr_fini(&w);
	part_put(&w, 60, 50, 60); /* would be asked for again and again */
	CHECK(snap_add(s, w.p, w.n, &next) == -EBADMSG && s->n_procs == 2);
	wr_fini(&w);
	part_put(&w, 0, 50, 60);
	CHECK(snap_add(s, w.p, w.n, &next) == 0 && next == 0);
	wr_fini(&w);
	CHECK(snap_find(s, 7) && snap_find(s, 60) && !snap_find(s, 8) && !snap_find(s, 61));
	CHECK(snap_find(s, 40)->text_n[REMOTE_T_CMDLINE] == 4 && snap_find(s, 40)->owner.uid == 10);
	remote_reply_put(&w, -EAGAIN);
	CHECK(snap_add(s, w.p, w.n, &next) == -EAGAIN);
	wr_fini(&w);
	snap_unref(snap_ref(s));
	snap_unref(s);
	snap_unref(NULL);
}

static void test_who_may_not_trace_sees_no_addresses(void)
{
	struct wr w = { 0 };
	snap_stat_masked(stat_text, sizeof(stat_text) - 1, &w);
	wr_u8(&w, 0);
	CHECK(strcmp((char *)w.p, "70 (a) b (c)) S 1 70 70 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 100 200 300 18446744073709551615 1 1 0 0 0 "
				  "0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n") == 0);
	wr_fini(&w);
	snap_comm(stat_text, sizeof(stat_text) - 1, &w);
	CHECK(w.n == 9 && memcmp(w.p, "a) b (c)\n", 9) == 0);
	wr_fini(&w);
	static const char *const odd[] = { "", "70", "70 (x", "70 (x)", "70 x) S" };
	for (size_t i = 0; i < 5; i++) {
		snap_stat_masked(odd[i], strlen(odd[i]), &w);
		CHECK(w.n == strlen(odd[i]) && (w.n == 0 || memcmp(w.p, odd[i], w.n) == 0));
		wr_fini(&w);
		snap_comm(odd[i], strlen(odd[i]), &w);
		CHECK(w.n > 0 && w.p[w.n - 1] == '\n');
		wr_fini(&w);
	}
}

static void test_tracing_is_for_the_same_user_without_privileges(void)
{
	struct remote_proc p = { .pid = 1, .owner = { 10, 20, REMOTE_PID_DUMPABLE }, .text = { [REMOTE_T_STATUS] = status_text },
				 .text_n = { [REMOTE_T_STATUS] = sizeof(status_text) - 1 } };
	CHECK(snap_may_trace(&p, 10, 20) && !snap_may_trace(&p, 11, 20) && !snap_may_trace(&p, 10, 21));
	p.owner.flags = 0;
	CHECK(!snap_may_trace(&p, 10, 20));
	p.owner.flags = REMOTE_PID_DUMPABLE;
	for (size_t n = 0; n < sizeof(status_text) - 1; n++) {
		p.text_n[REMOTE_T_STATUS] = n;
		CHECK(!snap_may_trace(&p, 10, 20));
	}
	static const char other[] = "Name:\ta\nUid:\t10\t0\t10\t10\nGid:\t20\t20\t20\t20\nCapPrm:\t0000000000000000\n";
	static const char caps[] = "Name:\ta\nUid:\t10\t10\t10\t10\nGid:\t20\t20\t20\t20\nCapPrm:\t0000000000000400\n";
	p.text[REMOTE_T_STATUS] = other;
	p.text_n[REMOTE_T_STATUS] = sizeof(other) - 1;
	CHECK(!snap_may_trace(&p, 10, 20));
	p.text[REMOTE_T_STATUS] = caps;
	p.text_n[REMOTE_T_STATUS] = sizeof(caps) - 1;
	CHECK(!snap_may_trace(&p, 10, 20));
}

int main(void)
{
	TEST(test_table_frames_change_the_table_and_prefixes_are_refused);
	TEST(test_frames_out_of_range_are_refused);
	TEST(test_calls_and_greetings_come_back);
	TEST(test_requests_come_back_and_prefixes_are_refused);
	TEST(test_paths_that_lead_elsewhere_are_refused);
	TEST(test_replies_carry_errors_the_kernel_accepts_only);
	TEST(test_entries_with_bad_names_are_refused);
	TEST(test_a_snapshot_is_put_together_from_parts);
	TEST(test_who_may_not_trace_sees_no_addresses);
	TEST(test_tracing_is_for_the_same_user_without_privileges);
	return 0;
}
