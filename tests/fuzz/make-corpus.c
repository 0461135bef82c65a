/* Writes the corpora of the decoders of our own formats: real encodings, made by the encoders. Not a test; run it by hand when a format
 * changes, and commit what it writes:
 *   build/tests/fuzz/make-corpus tests/fuzz/corpus
 * The corpora of foreign formats (elf, ldcache) are small real files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "ctl/run.h"
#include "image/exec.h"
#include "image/fileid.h"
#include "keeper/proto.h"
#include "keeper/record.h"
#include "member/beat.h"
#include "member/join.h"
#include "member/raftmsg.h"
#include "procfs/proto.h"
#include "procfs/remote.h"
#include "sched/load.h"
#include "stream/proto.h"
#include "stream/sess.h"
#include "transport/frame.h"

static const char *g_dir;

/* Writes prefix (one byte, -1: none) and w to corpus NAME, file CASE; empties w. */
static void put(const char *name, const char *variant, int prefix, struct wr *w)
{
	char path[4096];
	(void)snprintf(path, sizeof path, "%s/%s", g_dir, name);
	if (mkdir(path, 0755) < 0 && errno != EEXIST) {
		perror(path);
		exit(1);
	}
	(void)snprintf(path, sizeof path, "%s/%s/%s", g_dir, name, variant);
	FILE *f = fopen(path, "w");
	if (!f || wr_done(w) < 0 || (prefix >= 0 && fputc(prefix, f) == EOF) || (w->n && fwrite(w->p, w->n, 1, f) != 1) || fclose(f) != 0) {
		perror(path);
		exit(1);
	}
	wr_fini(w);
}

static void put_text(const char *name, const char *variant, int prefix, const char *text)
{
	struct wr w = { 0 };
	wr_raw(&w, text, strlen(text));
	put(name, variant, prefix, &w);
}

/* ---- transport ---- */

static void frame(struct wr *w, uint16_t type, uint64_t call, const void *p, size_t n)
{
	uint8_t head[FRAME_HEAD];
	frame_head(head, type, call, (uint32_t)n);
	wr_raw(w, head, sizeof head);
	wr_raw(w, p, n);
}

static void hello(struct wr *w)
{
	struct wr h = { 0 };
	frame_hello_encode(&h, &(struct frame_hello){ FRAME_HELLO_VERSION, 2, 500 });
	frame(w, FRAME_HELLO, 0, h.p, h.n);
	wr_fini(&h);
}

static void make_transport(void)
{
	struct wr w = { 0 };
	hello(&w);
	put("frame", "hello", 3, &w);
	hello(&w);
	frame(&w, FRAME_HEARTBEAT, 0, NULL, 0);
	frame(&w, 200, 7, "call", 4);
	frame(&w, FRAME_ANSWER, 7, "\0\0\0\0answer", 10);
	frame(&w, 100, 0, "message", 7);
	frame(&w, FRAME_BYE, 0, "closing", 7);
	put("frame", "talk", 13, &w);
	hello(&w);
	char big[600] = "";
	frame(&w, 101, 0, big, sizeof big);
	put("frame", "larger", 39, &w);
	frame(&w, FRAME_JOIN, 0, "request", 7);
	put("frame", "join", 0, &w);

	put_text("addr", "v4", -1, "10.0.0.1:4840");
	put_text("addr", "v6", -1, "[fe80::1%1]:4840");
	put_text("addr", "mapped", -1, "[::ffff:10.0.0.1]:65535");
	put_text("addr", "name", -1, "n1.example:4840");
}

/* ---- member ---- */

static void make_beat(void)
{
	struct detector_report report = { .silent = { .w = { 6, 0 } }, .confirmed = { [3] = 5 } };
	struct beat b = { .sent_ms = 1000, .incarnation = 1, .state = { true, 2, 77 } };
	struct beat_answer a = { .sent_ms = 1000, .incarnation = 1, .answer = DETECTOR_GRANTED, .dead_ms = 2600, .voters = { .w = { 7, 0 } },
				 .state = { false, 2, 76 } };
	struct wr w = { 0 };
	/* u8 from, u8 kind (odd: answer), u8 time: see fuzz-member-beat.c */
	wr_raw(&w, "\2\0\12", 3);
	beat_encode(&b, &report, &w);
	put("member-beat", "beat", -1, &w);
	wr_raw(&w, "\2\1\12", 3);
	beat_answer_encode(&a, &w);
	put("member-beat", "answer", -1, &w);
}

static void command(struct wr *w, const struct cluster_cmd *c)
{
	struct wr one = { 0 };
	if (cluster_cmd_encode(c, &one) < 0 || one.n > 255)
		abort();
	wr_u8(w, (uint8_t)one.n);
	wr_raw(w, one.p, one.n);
	wr_fini(&one);
}

static void make_cluster(void)
{
	struct wr w = { 0 };
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_TOKEN_ADD, .hash = { 1 }, .now_ms = 10, .expires_ms = 1000000 });
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_ADD, .hash = { 1 }, .now_ms = 20, .nonce = 9, .name = "b", .addr = "b:1", .cpus = 2 });
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_UP, .node = 2, .nonce = 5, .addr = "b:1", .stream_addr = "b:2" });
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_LABEL, .node = 2, .key = "rack", .value = "a" });
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_SETTING, .key = "policy", .value = "random" });
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_CONDEMN, .node = 2, .incarnation = 1 });
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_DEAD, .node = 2, .incarnation = 1, .epoch = 1 });
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_SLOT, .slot = 2, .node = 1 });
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_REMOVE, .node = 2 });
	put("member-cluster", "life", 0, &w);
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_DRAIN, .node = 1, .on = true });
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_ABSOLVE, .node = 1, .epoch = 1 });
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_GONE, .node = 1, .incarnation = 1 });
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_SETTING_DEL, .key = "policy" });
	command(&w, &(struct cluster_cmd){ .type = CLUSTER_TOKEN_DEL, .hash = { 1 } });
	put("member-cluster", "rest", 0, &w);

	static struct cluster c;
	struct wr one = { 0 };
	if (cluster_cmd_encode(&(struct cluster_cmd){ .type = CLUSTER_INIT, .now_ms = 1, .name = "a", .addr = "a:1" }, &one) < 0)
		abort();
	(void)cluster_apply(&c, one.p, one.n);
	wr_fini(&one);
	cluster_encode(&c, &w);
	put("member-cluster", "snapshot", 1, &w);
}

static void make_join(void)
{
	struct wr w = { 0 };
	struct join_request q = { .secret = { 1, 2, 3 }, .nonce = 9, .name = "n2", .addr = ":4840", .stream_addr = ":4841", .cpus = 4,
				  .memory = 1 << 30, .csr = (const uint8_t *)"request", .csr_n = 7 };
	join_request_encode(&q, &w);
	put("member-join", "request", 1, &w);
	struct join_answer a = { .node = 2, .cert = (const uint8_t *)"cert", .cert_n = 4, .ca = (const uint8_t *)"ca", .ca_n = 2,
				 .cluster = (const uint8_t *)"state", .cluster_n = 5 };
	join_answer_encode(&a, &w);
	put("member-join", "answer", 2, &w);
	struct join_answer no = { .status = -EKEYEXPIRED, .words = "the token has run out" };
	join_answer_encode(&no, &w);
	put("member-join", "refusal", 2, &w);
	struct token t = { .n_addrs = 2, .addrs = { "10.0.0.1:4840", "[fd00::1]:4840" }, .fingerprint = { 1 }, .secret = { 2 } };
	char text[TOKEN_TEXT_SIZE];
	if (token_encode(&t, text) < 0)
		abort();
	put_text("member-join", "token", 0, text + strlen("pando1."));
}

/* libraft's numbers of the messages are those of its version; ours begin at 1 in the same order. */
static void make_raft(void)
{
	struct wr w = { 0 };
	static const char data[16] = "command";
	wr_u8(&w, 1), wr_u8(&w, 1), wr_u64(&w, 3), wr_u64(&w, 10), wr_u64(&w, 2), wr_u64(&w, 9), wr_u32(&w, 2);
	for (int i = 0; i < 2; i++)
		wr_u64(&w, 3), wr_u8(&w, RAFT_COMMAND), wr_bytes(&w, data, sizeof data);
	put("member-raftmsg", "append", -1, &w);
	wr_u8(&w, 1), wr_u8(&w, 2), wr_u64(&w, 3), wr_u64(&w, 0), wr_u64(&w, 12);
	put("member-raftmsg", "appended", -1, &w);
	wr_u8(&w, 1), wr_u8(&w, 3), wr_u64(&w, 3), wr_u64(&w, 3), wr_u64(&w, 12), wr_u64(&w, 3), wr_u8(&w, 2);
	put("member-raftmsg", "vote", -1, &w);
	wr_u8(&w, 1), wr_u8(&w, 4), wr_u64(&w, 3), wr_u8(&w, 1);
	put("member-raftmsg", "voted", -1, &w);
	wr_u8(&w, 1), wr_u8(&w, 5), wr_u64(&w, 3), wr_u64(&w, 12), wr_u64(&w, 3), wr_u64(&w, 1), wr_u32(&w, 2);
	for (uint64_t i = 1; i <= 2; i++)
		wr_u64(&w, i), wr_str(&w, i == 1 ? "1" : "2"), wr_u8(&w, RAFT_VOTER);
	wr_bytes(&w, data, sizeof data);
	put("member-raftmsg", "snapshot", -1, &w);
	wr_u8(&w, 1), wr_u8(&w, 6), wr_u64(&w, 3), wr_u64(&w, 12), wr_u64(&w, 3);
	put("member-raftmsg", "timeout-now", -1, &w);
}

/* ---- sched, image, ctl, procfs ---- */

static void make_load(void)
{
	struct wr w = { 0 };
	struct load_report l = { .cpus_milli = 4000, .speed_milli = 1000, .running_milli = 2500, .usage_milli = 2400, .mem_total = 8ull << 30,
				 .mem_free = 6ull << 30, .tasks = 300, .psi_cpu = 12, .psi_mem = LOAD_PSI_UNKNOWN, .age_ms = 20 };
	load_encode(&w, &l);
	put("load", "report", -1, &w);
}

static void make_exec(void)
{
	struct wr w = { 0 };
	static char args[] = "make\0-j4\0PATH=/bin\0HOME=/root";
	uint32_t groups[2] = { 4, 24 };
	struct exec_fd fds[3] = {
		{ .number = 0, .kind = EXEC_FD_TTY, .path = (char[]){ "" } },
		{ .number = 1, .kind = EXEC_FD_DELEGATED, .flags = 1, .path = (char[]){ "" }, .node = 2, .id = 77, .key = { 1, 2 } },
		{ .number = 2, .kind = EXEC_FD_REOPEN, .flags = 0x8000, .path = (char[]){ "/etc/passwd" }, .offset = 5, .ino = 9 },
	};
	struct exec_image im = { .pid = 32790, .ppid = 32780, .pgid = 32790, .sid = 32770, .home = 1, .leads_group = 1, .parent_pgid = 32780,
				 .parent_sid = 32770, .path = (char[]){ "/usr/bin/make" }, .cwd = (char[]){ "/src" }, .args = args,
				 .args_n = sizeof args, .argc = 2, .envc = 2, .uid = { 1000, 1000, 1000 }, .gid = { 1000, 1000, 1000 },
				 .n_groups = 2, .groups = groups, .umask = 022, .sig_ignored = 4, .n_fds = 3, .fds = fds,
				 .files = (uint8_t[]){ 1, 0 }, .files_n = 2 };
	exec_image_encode(&im, &w);
	put("exec-image", "make", -1, &w);
	im.n_fds = 0;
	im.n_groups = 0;
	im.argc = im.envc = 0;
	im.args_n = 0;
	im.files_n = 0;
	exec_image_encode(&im, &w);
	put("exec-image", "bare", -1, &w);
}

static void make_fileid(void)
{
	struct wr w = { 0 };
	struct fileid_file files[2] = {
		{ .path = (char[]){ "/bin/true" }, .role = FILEID_PROGRAM, .st = { .ino = 5, .size = 100, .mtime_ns = 7, .mode = 0100755 },
		  .build_id_n = 4, .build_id = { 1, 2, 3, 4 } },
		{ .path = (char[]){ "/lib/libc.so.6" }, .role = FILEID_LIBRARY, .st = { .ino = 6, .size = 100, .mode = 0100644 }, .hashed = true,
		  .hash = { 8, 9 } },
	};
	struct fileid_set s = { .refs = 1, .path = (char[]){ "/bin/true" }, .cwd = (char[]){ "/" }, .ld_library_path = (char[]){ "/opt/lib" },
				.ld_preload = (char[]){ "" }, .n = 2, .files = files };
	fileid_set_encode(&w, &s);
	put("fileid", "program", -1, &w);
	files[0].role = FILEID_OPEN;
	s.n = 1;
	s.writable = true;
	fileid_set_encode(&w, &s);
	put("fileid", "open", -1, &w);
}

static void make_ctl(void)
{
	struct wr w = { 0 };
	struct run_request r = { .argv = (char *[]){ (char[]){ "cc" }, (char[]){ "-c" }, NULL }, .envp = (char *[]){ (char[]){ "A=b" }, NULL },
				 .cwd = (char[]){ "/tmp" }, .umask = 022, .fds = (struct run_fd[]){ { 0, RUN_FD_PTY }, { 5, RUN_FD_SENT } },
				 .n_fds = 2, .tty = 1, .features = "+place" };
	if (run_request_encode(&r, &w) < 0)
		abort();
	put("ctl-run", "cc", -1, &w);
	put_text("ctl-chan", "requests", 200, "{\"cmd\":\"status\"}\n{\"cmd\":\"get\",\"id\":7,\"name\":\"policy\"}\n");
	put_text("ctl-chan", "descriptors", 24, "\xfe\x02{\"cmd\":\"run\",\"fds\":2}\n\n\n{\"cmd\":\"ps\",\"pid\":98412}\n");
	put_text("ctl-chan", "deep", 40, "{\"a\":[[[[{\"b\":{\"c\":[1,2.5e3,true,null,\"\\u00e9\\ud83d\\ude00\"]}}]]]]}\n");
}

static void message(struct wr *w, struct wr *one)
{
	wr_u8(w, (uint8_t)one->n);
	wr_raw(w, one->p, one->n);
	wr_fini(one);
}

static void make_procfs(void)
{
	struct wr w = { 0 }, one = { 0 };
	struct procfs_pid pids[2] = { { .pid = 40000, .kind = PROCFS_HIDDEN }, { .pid = 70000, .kind = PROCFS_REMOTE, .node = 2, .tgid = 70000 } };
	proto_hello_put(&one), message(&w, &one);
	proto_space_put(&one, 3), message(&w, &one);
	proto_node_put(&one, 2, "n2", 1), message(&w, &one);
	proto_slot_put(&one, 2, 2), message(&w, &one);
	proto_pids_put(&one, pids, 2), message(&w, &one);
	proto_features_put(&one, 40000, PROCFS_F_LOCAL_PROC), message(&w, &one);
	proto_features_gone_put(&one, 40000), message(&w, &one);
	proto_pids_gone_put(&one, &pids[0].pid, 1), message(&w, &one);
	proto_call_put(&one, PROTO_REQ, &(struct proto_call){ .id = 1, .node = 2, .timeout_ms = 1000, .p = (const uint8_t *)"?", .n = 1 });
	message(&w, &one);
	proto_node_put(&one, 2, NULL, 0), message(&w, &one);
	put("procfs", "local", 0, &w);

	struct remote_req q = { .op = REMOTE_READ, .cred = { .uid = 1000, .gid = 1000, .n_groups = 2, .groups = { 4, 24 } }, .pid = 40000,
				.path = "40000/maps", .size = 4096, .data = (const uint8_t *)"", .data_n = 0 };
	remote_req_put(&w, &q);
	put("procfs", "read", 1, &w);
	remote_reply_put(&w, 0);
	wr_u32(&w, 1);
	remote_proc_put(&w, &(struct remote_proc){ .pid = 40000, .text = { "1 (x) S", "Name:", "1 1", "x" }, .text_n = { 7, 5, 3, 1 } });
	put("procfs", "bulk", 2, &w);
	remote_reply_put(&w, 0);
	wr_u32(&w, 1);
	remote_entry_put(&w, &(struct remote_entry){ .name = "exe", .attr = { .mode = 0120777, .nlink = 1 }, .link = "/bin/true" });
	put("procfs", "list", 2, &w);
	remote_reply_put(&w, -ENOENT);
	put("procfs", "refusal", 2, &w);
}

static void make_keeper(void)
{
	static struct keeper_request q = { .op = KEEPER_PUT, .seq = 7, .name = "watch-12" };
	static struct keeper_answer a = { .seq = 7, .n = 2, .more = 1, .name = { "watch-1", "watch-2" } };
	struct wr w = { 0 };
	keeper_request_encode(&w, &q);
	put("keeper", "put", 0, &w);
	q = (struct keeper_request){ .op = KEEPER_SPACE, .init = 4711, .freezer_v2 = 1, .cgroup = "/sys/fs/cgroup/pando-space-1-2", .lease = "/run/pando/lease" };
	keeper_request_encode(&w, &q);
	put("keeper", "space", 0, &w);
	keeper_answer_encode(&w, &a);
	put("keeper", "answer", 1, &w);
	record_encode(&w, &(struct record){ .boot = "x", .n_children = 2, .child = { { 10, 11 }, { 12, 13 } }, .init = { 14, 15 }, .cgroup = "/x" });
	put("keeper", "record", 2, &w);
}

/* ---- streams ---- */

static void stream_frame(struct wr *w, struct sess *s, struct pmsg m, const char *data)
{
	m.data = (const uint8_t *)data;
	m.n_data = strlen(data);
	if (!pmsg_is_sequenced(m.type)) {
		if (sess_control(s, w, &m) < 0)
			abort();
		return;
	}
	if (sess_queue(s, &m) < 0)
		abort();
	const struct sess_frame *f = sess_next(s);
	wr_raw(w, f->p, f->n);
}

static void make_stream(void)
{
	struct wr w = { 0 };
	struct sess s;
	sess_init(&s);
	wr_raw(&w, "\x20", 1);
	stream_frame(&w, &s, (struct pmsg){ .type = PMSG_HELLO, .size = PMSG_VERSION, .node = 2, .id = 7, .fh = 9 }, "");
	stream_frame(&w, &s, (struct pmsg){ .type = PMSG_ATTACH, .req = 1, .fh = 1, .id = 5, .key = { 1, 2 } }, "");
	stream_frame(&w, &s, (struct pmsg){ .type = PMSG_WRITE, .req = 2, .fh = 1, .flags = PMSG_SEEK, .off = 4 }, "written");
	stream_frame(&w, &s, (struct pmsg){ .type = PMSG_READ, .req = 3, .fh = 1, .size = 100 }, "");
	stream_frame(&w, &s, (struct pmsg){ .type = PMSG_SETATTR, .req = 4, .fh = 1, .flags = PMSG_SET_SIZE, .attr = { .size = 9 } }, "");
	stream_frame(&w, &s, (struct pmsg){ .type = PMSG_IOCTL, .req = 5, .fh = 1, .size = 0x5413, .len = 8 }, "");
	stream_frame(&w, &s, (struct pmsg){ .type = PMSG_PING }, "");
	put("stream", "importer", 0, &w);
	wr_raw(&w, "\x05", 1);
	stream_frame(&w, &s, (struct pmsg){ .type = PMSG_WELCOME, .id = 7, .flags = PMSG_RESUMED }, "");
	stream_frame(&w, &s, (struct pmsg){ .type = PMSG_ANSWER, .req = 1, .id = 1, .kind = STREAM_PIPE, .oflags = 1, .name = "pipe:[1]", .n_name = 8,
					    .attr = { .ino = 1, .mode = 010600 } }, "");
	stream_frame(&w, &s, (struct pmsg){ .type = PMSG_ANSWER, .req = 3 }, "data");
	stream_frame(&w, &s, (struct pmsg){ .type = PMSG_NOTIFY, .fh = 1, .size = 1 }, "");
	put("stream", "exporter", 0, &w);
	sess_fini(&s);

	static struct sproto_msg m;
	m = (struct sproto_msg){ .type = SPROTO_HELLO, .tag = 1, .version = SPROTO_VERSION, .node = 2, .addr = "10.0.0.1:4841" };
	wr_raw(&w, "\0", 1);
	if (sproto_request_encode(&w, &m) < 0)
		abort();
	put("stream", "hello", 1, &w);
	m = (struct sproto_msg){ .type = SPROTO_BARRIER, .tag = 2, .pid = 4, .n_ids = 2, .ids = { 5, 6 } };
	wr_raw(&w, "\0", 1);
	if (sproto_request_encode(&w, &m) < 0)
		abort();
	put("stream", "barrier", 1, &w);
	m = (struct sproto_msg){ .type = SPROTO_EXPORT, .tag = 3, .home = 1, .id = 8, .key = { 9 }, .kind = STREAM_REG, .name = "/etc/passwd" };
	wr_u8(&w, SPROTO_EXPORT);
	if (sproto_answer_encode(&w, &m) < 0)
		abort();
	put("stream", "exported", 1, &w);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		(void)fprintf(stderr, "usage: make-corpus DIR\n");
		return 2;
	}
	g_dir = argv[1];
	make_transport();
	make_beat();
	make_cluster();
	make_join();
	make_raft();
	make_load();
	make_exec();
	make_fileid();
	make_ctl();
	make_procfs();
	make_stream();
	make_keeper();
	return 0;
}
