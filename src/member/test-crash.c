/* kill -9 of the daemon, again and again: what was acknowledged is still there after the next start, and so is the lease.
 *
 * The program starts itself as "test-crash node DIR ADDR": a member that proposes one setting of the cluster after the other and prints
 * each that was acknowledged. By hand (two versions of libraft in one cluster, say):
 *   test-crash init DIR NAME ADDR; test-crash node DIR ADDR token; test-crash join DIR NAME ADDR TOKEN; test-crash node DIR ADDR */
#include "member/join.h"
#include "member/lease_file.h"
#include "member/member.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "check.h"

/* ---- the node ---- */

static struct {
	uv_loop_t loop;
	struct member *m;
	struct links *links;
	unsigned count;
	bool quiet; /* proposes nothing */
	bool token;
} g_n;

static void say(const char *what, unsigned v)
{
	char line[64];
	int n = snprintf(line, sizeof line, "%s %u\n", what, v);
	CHECK(write(STDOUT_FILENO, line, (size_t)n) == n);
}

static void next_propose(void);

static void proposed(void *ctx, int status, uint32_t value)
{
	CHECK(status == 0);
	say("done", g_n.count);
	next_propose();
}

static void next_propose(void)
{
	struct cluster_cmd cmd = { .type = CLUSTER_LABEL, .node = 1, .key = "count" };
	(void)snprintf(cmd.value, sizeof cmd.value, "%u", ++g_n.count);
	CHECK(member_propose(g_n.m, &cmd, proposed, NULL) == 0);
}

static void token_told(void *ctx, int status, const char *text)
{
	CHECK(status == 0);
	(void)dprintf(STDOUT_FILENO, "%s\n", text);
}

/* The state is complete: go on from where the one before us was killed. */
static void count_begin(void)
{
	const struct cluster_member *me = cluster_member(member_cluster(g_n.m), member_self(g_n.m));
	const char *count = cluster_label_get(me, "count");
	g_n.count = count ? (unsigned)strtoul(count, NULL, 10) : 0;
	say("has", g_n.count);
	next_propose();
}

static void started(void *ctx, int status, uint32_t value)
{
	CHECK(status == 0);
	count_begin();
}

static void on_thaw(void *ctx)
{
	say("thaw", member_incarnation(g_n.m));
	if (g_n.token)
		CHECK(member_token(g_n.m, 600000, token_told, NULL) == 0);
	if (!g_n.quiet)
		count_begin();
}

static void on_freeze(void *ctx)
{
	say("freeze", 0);
}

static void on_change(void *ctx, const struct cluster *c)
{
	if (g_n.quiet)
		log_info("version %llu, leader %u", (unsigned long long)c->version, member_leader(g_n.m));
}

static void on_dead(void *ctx, uint16_t node, uint32_t incarnation)
{
	say("dead", node);
}

static void on_ended(void *ctx, enum member_end why)
{
	say("ended", why);
	member_reborn(g_n.m);
}

static void on_up(void *ctx, uint16_t node)
{
	member_link_up(g_n.m, node);
}

static void on_down(void *ctx, uint16_t node, const char *why)
{
	member_link_down(g_n.m, node);
}

static void on_heard(void *ctx, uint16_t node)
{
	member_heard(g_n.m, node);
}

static int node_run(const char *dir, const char *addr, bool quiet, bool token)
{
	struct pki *pki = NULL;
	struct err e = { 0 };
	char lease[256];
	uint32_t incarnation;
	uint64_t until;
	g_n.quiet = quiet;
	g_n.token = token;
	(void)snprintf(lease, sizeof lease, "%s/lease", dir);
	bool fresh = lease_file_read(lease, &incarnation, &until) < 0;
	CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR && uv_loop_init(&g_n.loop) == 0 && pki_load(dir, &pki, &e) == 0);
	CHECK(links_new(&(struct links_config){ .loop = &g_n.loop, .pki = pki, .self = pki_node(pki), .heartbeat_ms = 200, .on_up = on_up,
						.on_down = on_down, .on_heard = on_heard }, &g_n.links, &e) == 0);
	struct member_config mc = { .node = pki_node(pki), .loop = &g_n.loop, .links = g_n.links, .pki = pki, .state_dir = dir,
				    .lease_path = lease, .self = { .addr = addr }, .fresh_space = fresh, .on_thaw = on_thaw,
				    .on_freeze = on_freeze, .on_change = on_change, .on_dead = on_dead, .on_ended = on_ended };
	if (member_start(&mc, &g_n.m, &e) < 0 || links_listen(g_n.links, addr, &e) < 0) {
		(void)fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	if (member_may_run(g_n.m) && !quiet) {
		/* The lease goes on; the state is complete when a proposal has come through. */
		say("kept", member_incarnation(g_n.m));
		struct cluster_cmd cmd = { .type = CLUSTER_LABEL, .node = 1, .key = "start", .value = "again" };
		CHECK(member_propose(g_n.m, &cmd, started, NULL) == 0);
	}
	(void)uv_run(&g_n.loop, UV_RUN_DEFAULT);
	return 0;
}

/* ---- the test ---- */

static char g_root[64];
static pid_t g_child;

static pid_t node_start(const char *self, const char *dir, const char *addr, int *ret_out)
{
	int p[2];
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		(void)dup2(p[1], STDOUT_FILENO);
		execl(self, self, "node", dir, addr, (char *)NULL);
		_exit(127);
	}
	CHECK(close(p[1]) == 0);
	*ret_out = p[0];
	return pid;
}

/* One line of the node, at most 8 s. */
static void line_read(int fd, char *line, size_t size)
{
	size_t n = 0;
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		CHECK(poll(&p, 1, 8000) == 1 && n + 1 < size);
		CHECK(read(fd, line + n, 1) == 1);
		if (line[n] == '\n')
			break;
		n++;
	}
	line[n] = 0;
}

static void test_what_was_acknowledged_survives_kill_9(const char *self)
{
	char dir[96], addr[64], line[64];
	struct err e = { 0 };
	unsigned acknowledged = 0, v;
	(void)snprintf(dir, sizeof dir, "%s/n1", g_root);
	(void)snprintf(addr, sizeof addr, "127.0.0.1:%d", 15000 + getpid() % 15000);
	CHECK(member_init_cluster(dir, &(struct member_identity){ .name = "n1", .addr = addr }, &e) == 0);

	for (unsigned round = 0; round < 6; round++) {
		int out;
		g_child = node_start(self, dir, addr, &out);
		line_read(out, line, sizeof line);
		if (round == 0)
			CHECK(strcmp(line, "thaw 1") == 0);
		else
			CHECK(strcmp(line, "kept 1") == 0); /* restarted within a second: the same space, and it did not freeze */
		while (sscanf(line, "has %u", &v) != 1) {
			CHECK(strncmp(line, "freeze", 6) != 0);
			line_read(out, line, sizeof line);
		}
		CHECK(v >= acknowledged && v <= acknowledged + 1);
		/* More than one snapshot's worth in all. */
		for (unsigned i = 0; i < 120 + round * 7; i++) {
			line_read(out, line, sizeof line);
			CHECK(sscanf(line, "done %u", &acknowledged) == 1);
		}
		CHECK(kill(g_child, SIGKILL) == 0 && waitpid(g_child, NULL, 0) == g_child);
		g_child = 0;
		while (read(out, line, 1) == 1) { /* what it had said before */
			unsigned n = 1;
			while (n + 1 < sizeof line && line[n - 1] != '\n' && read(out, line + n, 1) == 1)
				n++;
			line[n] = 0;
			(void)sscanf(line, "done %u", &acknowledged);
		}
		CHECK(close(out) == 0);
	}
}

static int unlink_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void clean(void)
{
	if (g_child > 0) {
		(void)kill(g_child, SIGKILL);
		(void)waitpid(g_child, NULL, 0);
	}
	if (g_root[0])
		(void)nftw(g_root, unlink_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(int argc, char **argv)
{
	struct err e = { 0 };
	uint16_t node;
	log_setup("test-crash", getenv("PANDO_TEST_DEBUG") ? LOG_DEBUG : LOG_INFO, 0);
	if (argc >= 4 && strcmp(argv[1], "node") == 0)
		return node_run(argv[2], argv[3], argc > 4, argc > 4 && strcmp(argv[4], "token") == 0);
	if (argc == 5 && strcmp(argv[1], "init") == 0) {
		int rc = member_init_cluster(argv[2], &(struct member_identity){ .name = argv[3], .addr = argv[4] }, &e);
		return rc < 0 ? (void)fprintf(stderr, "%s\n", e.text), 1 : 0;
	}
	if (argc == 6 && strcmp(argv[1], "join") == 0) {
		int rc = join_cluster(argv[5], argv[2], &(struct member_identity){ .name = argv[3], .addr = argv[4] }, &node, &e);
		return rc < 0 ? (void)fprintf(stderr, "%s\n", e.text), 1 : 0;
	}
	(void)snprintf(g_root, sizeof g_root, "/tmp/pando-crash-XXXXXX");
	CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR && mkdtemp(g_root) && atexit(clean) == 0);
	test_what_was_acknowledged_survives_kill_9("/proc/self/exe");
	(void)printf("ok test_what_was_acknowledged_survives_kill_9\n");
	return 0;
}
