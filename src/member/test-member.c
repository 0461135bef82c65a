/* Several members in one process, over real links on loopback: found a cluster, join it, kill, cut, restart, leave.
 *
 * A "machine" is a state directory, links and a member; killing it closes both without a word to the others. A cut is made by
 * links_peer_drop on both sides. */
#include "member/join.h"
#include "member/member.h"

#include <arpa/inet.h>
#include <ftw.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "check.h"
#include "member/lease_file.h"
#include "transport/frame.h"

enum { N = 4 };

struct machine {
	uint16_t id; /* as expected */
	uint16_t port;
	char addr[64], dir[128], lease[160];
	struct pki *pki;
	struct links *links;
	struct member *m;
	bool running;           /* of its space, as the callbacks say */
	uint64_t froze_ms;      /* when on_freeze came last */
	unsigned n_froze, n_ended, n_removed, n_errors;
	enum member_end why;
	uint16_t dead[64];      /* on_dead, in order */
	uint32_t dead_incarnation[64];
	unsigned n_dead;
	bool cut[N + 1];
};

static uv_loop_t g_loop;
static uv_timer_t g_timer; /* keeps the loop turning */
static struct machine g_m[N + 1];
static char g_root[64];

/* ---- time ---- */

static void timer_turn(uv_timer_t *t)
{
}

static void turn(void)
{
	(void)uv_run(&g_loop, UV_RUN_ONCE);
}

static void pass(uint64_t ms)
{
	uint64_t end = lease_now_ms() + ms;
	while (lease_now_ms() < end)
		turn();
}

/* Turns the loop until cond holds, at most ms. */
#define UNTIL(ms, cond)                                           \
	do {                                                      \
		uint64_t end_ = lease_now_ms() + (ms);            \
		while (!(cond) && lease_now_ms() < end_)          \
			turn();                                   \
		CHECK(cond);                                      \
	} while (0)

/* ---- machines ---- */

static void on_up(void *ctx, uint16_t node)
{
	struct machine *x = ctx;
	if (x->m)
		member_link_up(x->m, node);
}

static void on_down(void *ctx, uint16_t node, const char *why)
{
	struct machine *x = ctx;
	if (x->m)
		member_link_down(x->m, node);
}

static void on_heard(void *ctx, uint16_t node)
{
	struct machine *x = ctx;
	if (x->m)
		member_heard(x->m, node);
}

static void on_refused(void *ctx, const char *from, const char *why)
{
	log_debug("refused: %s %s", from, why);
}

static void on_dead(void *ctx, uint16_t node, uint32_t incarnation)
{
	struct machine *x = ctx;
	CHECK(x->n_dead < 64);
	x->dead[x->n_dead] = node;
	x->dead_incarnation[x->n_dead++] = incarnation;
}

static void on_freeze(void *ctx)
{
	struct machine *x = ctx;
	CHECK(x->running);
	x->running = false;
	x->froze_ms = lease_now_ms();
	x->n_froze++;
}

static void on_thaw(void *ctx)
{
	struct machine *x = ctx;
	CHECK(!x->running);
	x->running = true;
}

static void on_ended(void *ctx, enum member_end why)
{
	struct machine *x = ctx;
	x->running = false;
	x->n_ended++;
	x->why = why;
	member_reborn(x->m); /* there is no space that would take time to kill */
}

static void on_removed(void *ctx)
{
	((struct machine *)ctx)->n_removed++;
}

static void on_error(void *ctx, int code, const char *words)
{
	struct machine *x = ctx;
	(void)fprintf(stderr, "node %u: error %d: %s\n", x->id, code, words);
	x->n_errors++;
}

/* A port below those that the kernel gives to connections: it is still free when the machine is started again. */
static uint16_t port_free(void)
{
	static unsigned next;
	if (!next)
		next = (unsigned)getpid() * 16;
	for (unsigned tries = 0; tries < 1000; tries++) {
		uint16_t port = (uint16_t)(15000 + next++ % 15000);
		struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port) };
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		CHECK(fd >= 0);
		int rc = bind(fd, (struct sockaddr *)&sa, sizeof sa);
		CHECK(close(fd) == 0);
		if (rc == 0)
			return port;
	}
	CHECK(false);
	return 0;
}

static void machine_make(uint16_t id)
{
	struct machine *x = &g_m[id];
	*x = (struct machine){ .id = id, .port = port_free() };
	(void)snprintf(x->addr, sizeof x->addr, "127.0.0.1:%u", x->port);
	(void)snprintf(x->dir, sizeof x->dir, "%s/n%u", g_root, id);
	(void)snprintf(x->lease, sizeof x->lease, "%s/n%u.lease", g_root, id);
}

static struct member_identity identity(const struct machine *x)
{
	static char names[N + 1][8];
	(void)snprintf(names[x->id], sizeof names[0], "n%u", x->id);
	return (struct member_identity){ .name = names[x->id], .addr = x->addr, .stream_addr = "127.0.0.1:1", .cpus = 4, .memory = 1 << 30 };
}

static void machine_start(uint16_t id, bool fresh)
{
	struct machine *x = &g_m[id];
	struct err e = { 0 };
	CHECK(pki_load(x->dir, &x->pki, &e) == 0);
	CHECK(pki_node(x->pki) == id);
	struct links_config lc = { .loop = &g_loop, .pki = x->pki, .self = id, .heartbeat_ms = 200, .ctx = x, .on_up = on_up, .on_down = on_down,
				   .on_heard = on_heard, .on_refused = on_refused };
	CHECK(links_new(&lc, &x->links, &e) == 0);
	struct member_config mc = { .node = id, .loop = &g_loop, .links = x->links, .pki = x->pki, .state_dir = x->dir, .lease_path = x->lease,
				    .self = identity(x), .fresh_space = fresh, .ctx = x, .on_dead = on_dead, .on_ended = on_ended,
				    .on_freeze = on_freeze, .on_thaw = on_thaw, .on_removed = on_removed, .on_error = on_error };
	if (member_start(&mc, &x->m, &e) < 0) {
		(void)fprintf(stderr, "start: %s\n", e.text);
		CHECK(false);
	}
	x->running = member_may_run(x->m);
	if (links_listen(x->links, x->addr, &e) < 0) {
		(void)fprintf(stderr, "listen: %s\n", e.text);
		CHECK(false);
	}
}

static void set_true(void *ctx)
{
	*(bool *)ctx = true;
}

/* As kill -9 of the daemon: nobody is told. */
static void machine_kill(uint16_t id)
{
	struct machine *x = &g_m[id];
	bool closed = false;
	struct member *m = x->m;
	x->m = NULL;
	member_close(m, set_true, &closed);
	UNTIL(3000, closed);
	closed = false;
	links_close(x->links, set_true, &closed);
	UNTIL(3000, closed);
	x->links = NULL;
	x->pki = pki_free(x->pki);
}

/* ---- what they know ---- */

static const struct cluster_member *sees(uint16_t who, uint16_t whom)
{
	static const struct cluster_member none;
	const struct cluster_member *o = cluster_member(member_cluster(g_m[who].m), whom);
	return o ? o : &none;
}

/* What everybody thinks, for a reader of a failure. */
static void show(void)
{
	for (uint16_t i = 1; i <= N; i++) {
		const struct machine *x = &g_m[i];
		struct nodeset v;
		if (!x->m)
			continue;
		v = member_voters(x->m);
		(void)fprintf(stderr, "node %u: %s, incarnation %u, leader %u, voters %llx, frozen %u, ended %u, saw %u deaths\n", i,
			      x->running ? "runs" : "stands", member_incarnation(x->m), member_leader(x->m), (unsigned long long)v.w[0],
			      x->n_froze, x->n_ended, x->n_dead);
	}
}

static bool all_run(uint16_t n)
{
	for (uint16_t i = 1; i <= n; i++)
		if (!g_m[i].running || !member_leader(g_m[i].m))
			return false;
	return true;
}

static bool all_vote(unsigned n)
{
	for (uint16_t i = 1; i <= N; i++) {
		struct nodeset v;
		if (!g_m[i].m)
			continue;
		v = member_voters(g_m[i].m);
		if (nodeset_count(&v) != n)
			return false;
	}
	return true;
}

struct outcome {
	bool done;
	int status;
	uint32_t value;
	char text[TOKEN_TEXT_SIZE];
};

static void outcome_set(void *ctx, int status, uint32_t value)
{
	struct outcome *o = ctx;
	CHECK(!o->done);
	*o = (struct outcome){ .done = true, .status = status, .value = value };
}

static void outcome_text(void *ctx, int status, const char *text)
{
	outcome_set(ctx, status, 0);
	if (text)
		strcpy(((struct outcome *)ctx)->text, text);
}

static struct outcome propose(uint16_t at, struct cluster_cmd cmd)
{
	struct outcome o = { 0 };
	CHECK(member_propose(g_m[at].m, &cmd, outcome_set, &o) == 0);
	CHECK(!o.done);
	UNTIL(12000, o.done);
	return o;
}

static void cut(uint16_t a, uint16_t b, bool on)
{
	struct err e;
	g_m[a].cut[b] = g_m[b].cut[a] = on;
	for (unsigned k = 0; k < 2; k++, b ^= a, a ^= b, b ^= a) {
		if (!g_m[a].links)
			continue;
		if (on)
			links_peer_drop(g_m[a].links, b);
		else
			CHECK(links_peer_set(g_m[a].links, b, g_m[b].addr, &e) == 0);
	}
}

/* ---- joining runs in a thread, as another program ---- */

struct joining {
	char token[TOKEN_TEXT_SIZE];
	const struct machine *x;
	struct member_identity self;
	uint16_t node;
	int rc;
	struct err err;
	_Atomic bool done;
};

static void *joining_run(void *arg)
{
	struct joining *j = arg;
	j->rc = join_cluster(j->token, j->x->dir, &j->self, &j->node, &j->err);
	j->done = true;
	return NULL;
}

static void join_wait(struct joining *j, const struct machine *x, const char *token)
{
	pthread_t t;
	*j = (struct joining){ .x = x, .self = identity(x) };
	strcpy(j->token, token);
	CHECK(pthread_create(&t, NULL, joining_run, j) == 0);
	UNTIL(20000, j->done);
	CHECK(pthread_join(t, NULL) == 0);
}

static void token_make(uint16_t at, struct outcome *o)
{
	*o = (struct outcome){ 0 };
	CHECK(member_token(g_m[at].m, 60000, outcome_text, o) == 0);
	UNTIL(12000, o->done);
	CHECK(o->status == 0 && strncmp(o->text, "pando1.", 7) == 0);
}

/* ---- tests; each goes on where the one before ended ---- */

static void test_a_cluster_begins_with_one_node(void)
{
	struct err e = { 0 };
	machine_make(1);
	struct member_identity id = identity(&g_m[1]);
	id.addr = "nonsense";
	CHECK(member_init_cluster(g_m[1].dir, &id, &e) == -EINVAL && access(g_m[1].dir, F_OK) < 0);
	id.addr = g_m[1].addr;
	if (member_init_cluster(g_m[1].dir, &id, &e) < 0) {
		(void)fprintf(stderr, "init: %s\n", e.text);
		CHECK(false);
	}
	CHECK(member_init_cluster(g_m[1].dir, &id, &e) == -EEXIST);
	machine_start(1, true);
	CHECK(strcmp(sees(1, 1)->name, "n1") == 0); /* known from the directory at once */
	UNTIL(5000, all_run(1));
	UNTIL(1000, sees(1, 1)->state == MEMBER_ACTIVE);
	CHECK(member_incarnation(g_m[1].m) == 1 && member_leader(g_m[1].m) == 1 && member_has_quorum(g_m[1].m));
	CHECK(member_until_ms(g_m[1].m) == UINT64_MAX);
}

/* ---- a machine that asks for what it should not get ---- */

struct stranger {
	struct token token;
	const char *csr;
	struct join_answer answer;
	uint8_t bytes[4096];
	_Atomic bool done;
};

/* One request as it is, blocking, in a thread. */
static void *stranger_run(void *arg)
{
	struct stranger *s = arg;
	struct join_request q = { .name = "stranger", .addr = ":4840", .csr = (const uint8_t *)s->csr, .csr_n = strlen(s->csr) };
	struct wr body = { 0 }, out = { 0 };
	uint8_t head[FRAME_HEAD];
	SSL_CTX *ctx;
	struct err e;
	memcpy(q.secret, s->token.secret, sizeof q.secret);
	join_request_encode(&q, &body);
	frame_head(head, FRAME_JOIN, 0, (uint32_t)body.n);
	wr_raw(&out, head, sizeof head);
	wr_raw(&out, body.p, body.n);
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(g_m[1].port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&in, sizeof in) == 0);
	CHECK(pki_join_ctx(s->token.fingerprint, &ctx, &e) == 0);
	SSL *ssl = SSL_new(ctx);
	CHECK(ssl && SSL_set_fd(ssl, fd) == 1 && SSL_connect(ssl) == 1 && SSL_write(ssl, out.p, (int)out.n) == (int)out.n);
	size_t n = 0;
	for (int k; n < sizeof s->bytes && (k = SSL_read(ssl, s->bytes + n, (int)(sizeof s->bytes - n))) > 0;)
		n += (size_t)k;
	CHECK(n > FRAME_HEAD && join_answer_decode(s->bytes + FRAME_HEAD, n - FRAME_HEAD, &s->answer) == 0);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	(void)close(fd);
	wr_fini(&body);
	wr_fini(&out);
	s->done = true;
	return NULL;
}

static int stranger_asks(struct stranger *s)
{
	pthread_t t;
	s->done = false;
	CHECK(pthread_create(&t, NULL, stranger_run, s) == 0);
	UNTIL(20000, s->done);
	CHECK(pthread_join(t, NULL) == 0);
	return s->answer.status;
}

static void test_who_has_no_token_gets_nothing_into_the_log(void)
{
	static struct stranger s;
	struct outcome token;
	struct err e;
	token_make(1, &token);
	CHECK(token_decode(token.text, &s.token, &e) == 0);
	s.csr = "no request for a certificate";
	CHECK(stranger_asks(&s) == -EBADMSG); /* a good token is not used up by it */
	CHECK(!cluster_member(member_cluster(g_m[1].m), 2));
	uint64_t version = member_cluster(g_m[1].m)->version;
	s.token.secret[0] ^= 1;
	for (unsigned i = 0; i < 3; i++)
		CHECK(stranger_asks(&s) == -EKEYREJECTED);
	CHECK(member_cluster(g_m[1].m)->version == version && !cluster_member(member_cluster(g_m[1].m), 2));
}

static void test_two_more_join_by_tokens(void)
{
	struct joining j;
	struct outcome token, second;
	machine_make(2);
	machine_make(3);
	token_make(1, &token);
	join_wait(&j, &g_m[2], token.text);
	if (j.rc != 0)
		(void)fprintf(stderr, "join: %s\n", j.err.text);
	CHECK(j.rc == 0 && j.node == 2);
	join_wait(&j, &g_m[3], token.text);
	CHECK(j.rc == -EKEYREVOKED && access(g_m[3].dir, F_OK) < 0);
	join_wait(&j, &g_m[3], "pando1.AAAA");
	CHECK(j.rc == -EINVAL);
	machine_start(2, true);
	UNTIL(8000, all_run(2) && all_vote(2));
	CHECK(g_m[1].n_froze == 0);

	token_make(2, &second); /* by one that does not lead */
	join_wait(&j, &g_m[3], second.text);
	CHECK(j.rc == 0 && j.node == 3);
	machine_start(3, true);
	UNTIL(8000, all_run(3) && all_vote(3));
	for (uint16_t i = 1; i <= 3; i++) {
		UNTIL(1000, sees(i, 3)->state == MEMBER_ACTIVE && sees(i, 2)->incarnation == 1);
		CHECK(g_m[i].n_dead == 0 && g_m[i].n_ended == 0);
	}
	CHECK(memcmp(member_cluster(g_m[3].m)->id, member_cluster(g_m[1].m)->id, 16) == 0);
}

static void test_a_proposal_comes_to_all_from_anywhere(void)
{
	struct cluster_cmd cmd = { .type = CLUSTER_SETTING };
	strcpy(cmd.key, "policy");
	strcpy(cmd.value, "random");
	CHECK(propose(3, cmd).status == 0);
	strcpy(cmd.value, "No Such Word");
	CHECK(propose(2, cmd).status == -EINVAL);
	for (uint16_t i = 1; i <= 3; i++)
		UNTIL(1000, strcmp(cluster_setting(member_cluster(g_m[i].m), "policy"), "random") == 0);
	CHECK(propose(3, (struct cluster_cmd){ .type = CLUSTER_DRAIN, .node = 2, .on = true }).status == 0);
	CHECK(propose(1, (struct cluster_cmd){ .type = CLUSTER_DRAIN, .node = 2, .on = false }).status == 0);
}

static void test_a_restarted_daemon_loses_nothing(void)
{
	uint32_t incarnation;
	uint64_t until;
	unsigned froze = g_m[1].n_froze + g_m[2].n_froze + g_m[3].n_froze;
	machine_kill(2);
	CHECK(lease_file_read(g_m[2].lease, &incarnation, &until) == 0 && incarnation == 1 && until > lease_now_ms());
	pass(300);
	machine_start(2, false);
	CHECK(g_m[2].running);
	UNTIL(5000, all_run(3));
	pass(2000);
	UNTIL(3000, all_run(3));
	CHECK(member_incarnation(g_m[2].m) == 1);
	CHECK(g_m[1].n_froze + g_m[2].n_froze + g_m[3].n_froze == froze);
	CHECK(g_m[1].n_dead == 0 && g_m[3].n_dead == 0);
}

static void test_the_leader_killed_the_others_go_on(void)
{
	uint16_t victim = member_leader(g_m[1].m), a = victim == 1 ? 2 : 1, b = victim == 3 ? 2 : 3;
	unsigned froze = g_m[a].n_froze + g_m[b].n_froze;
	machine_kill(victim);
	UNTIL(3200, g_m[a].n_dead && g_m[b].n_dead);
	CHECK(g_m[a].dead[0] == victim && g_m[b].dead[0] == victim && g_m[a].dead_incarnation[0] == 1);
	CHECK(g_m[a].n_froze + g_m[b].n_froze == froze);
	struct cluster_cmd cmd = { .type = CLUSTER_LABEL, .node = a, .key = "disk", .value = "ssd" };
	CHECK(propose(b, cmd).status == 0);
	UNTIL(3000, all_vote(2));

	machine_start(victim, true); /* the machine came up again */
	UNTIL(6000, all_run(3) && all_vote(3));
	CHECK(member_incarnation(g_m[victim].m) == 2);
	UNTIL(1000, sees(a, victim)->state == MEMBER_ACTIVE && sees(victim, a)->n_labels == 1);
}

static void test_a_cut_off_node_freezes_is_declared_dead_and_comes_back(void)
{
	uint16_t victim = 3, a = 1, b = 2;
	unsigned dead = g_m[a].n_dead, froze = g_m[victim].n_froze;
	uint64_t at = lease_now_ms();
	cut(victim, a, true);
	cut(victim, b, true);
	UNTIL(2600, g_m[victim].n_froze == froze + 1);
	CHECK(g_m[victim].froze_ms - at >= 1950 && g_m[a].n_dead == dead);
	CHECK(!member_has_quorum(g_m[victim].m));
	UNTIL(3200 - (lease_now_ms() - at), g_m[a].n_dead == dead + 1 && g_m[a].dead[dead] == victim);
	CHECK(g_m[victim].n_ended == 0 && all_run(2));
	uint32_t incarnation = member_incarnation(g_m[victim].m);

	cut(victim, a, false);
	cut(victim, b, false);
	UNTIL(4000, g_m[victim].n_ended == 1);
	CHECK(g_m[victim].why == MEMBER_END_DEAD);
	UNTIL(5000, all_run(3) && all_vote(3));
	CHECK(member_incarnation(g_m[victim].m) == incarnation + 1 && g_m[a].n_dead == dead + 1);
}

static void test_a_short_cut_is_nothing(void)
{
	/* Faster from here on. */
	struct cluster_cmd cmd = { .type = CLUSTER_SETTING, .key = "heartbeat-ms", .value = "150" };
	CHECK(propose(2, cmd).status == 0);
	strcpy(cmd.key, "dead-after-ms");
	strcpy(cmd.value, "1500");
	CHECK(propose(2, cmd).status == 0);
	unsigned froze = g_m[2].n_froze, dead = g_m[1].n_dead;
	cut(2, 1, true);
	cut(2, 3, true);
	pass(600);
	cut(2, 1, false);
	cut(2, 3, false);
	pass(1200);
	UNTIL(3000, all_run(3)); /* if it was the leader that was cut off, there is another one first */
	CHECK(g_m[2].n_froze == froze && g_m[1].n_dead == dead && g_m[2].n_ended == 0);
}

static void test_a_node_that_leaves_is_dead_at_once_and_may_be_removed(void)
{
	bool left = false;
	unsigned dead = g_m[1].n_dead;
	uint32_t incarnation = member_incarnation(g_m[3].m);
	g_m[3].running = false;
	member_leave(g_m[3].m, set_true, &left);
	UNTIL(3500, left);
	UNTIL(500, g_m[1].n_dead == dead + 1);
	CHECK(g_m[1].dead[dead] == 3 && g_m[1].dead_incarnation[dead] == incarnation);
	machine_kill(3);
	UNTIL(2000, all_vote(2));
	CHECK(all_run(2) && sees(1, 3)->state == MEMBER_DEAD);
	CHECK(propose(1, (struct cluster_cmd){ .type = CLUSTER_REMOVE, .node = 3 }).status == 0);
	UNTIL(1000, sees(2, 3)->state == MEMBER_REMOVED);
}

static void test_a_split_in_halves_freezes_both_and_kills_none(void)
{
	unsigned f1 = g_m[1].n_froze, f2 = g_m[2].n_froze, d1 = g_m[1].n_dead, d2 = g_m[2].n_dead;
	cut(1, 2, true);
	UNTIL(1600, g_m[1].n_froze == f1 + 1 && g_m[2].n_froze == f2 + 1);
	pass(600);
	CHECK(!member_may_run(g_m[1].m) && !member_may_run(g_m[2].m));
	cut(1, 2, false);
	UNTIL(4000, all_run(2));
	CHECK(g_m[1].n_dead == d1 && g_m[2].n_dead == d2 && g_m[1].n_ended == 0 && g_m[2].n_ended == 0);
}

static void test_a_running_node_is_removed_by_its_own_word(void)
{
	CHECK(propose(1, (struct cluster_cmd){ .type = CLUSTER_REMOVE, .node = 2 }).status == 0);
	UNTIL(5000, g_m[2].n_ended == 1 && g_m[2].why == MEMBER_END_REMOVED);
	UNTIL(5000, g_m[2].n_removed == 1);
	unsigned froze = g_m[1].n_froze;
	machine_kill(2);
	UNTIL(5000, sees(1, 2)->state == MEMBER_REMOVED && all_vote(1));
	UNTIL(2000, member_until_ms(g_m[1].m) == UINT64_MAX);
	CHECK(all_run(1) && g_m[1].n_froze == froze);
	machine_kill(1);
}

static int unlink_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void root_remove(void)
{
	if (g_root[0])
		(void)nftw(g_root, unlink_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(int argc, char **argv)
{
	log_setup("test-member", getenv("PANDO_TEST_DEBUG") ? LOG_DEBUG : LOG_WARN, 0);
	CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	(void)snprintf(g_root, sizeof g_root, "/tmp/pando-member-XXXXXX");
	CHECK(mkdtemp(g_root));
	CHECK(atexit(root_remove) == 0 && atexit(show) == 0);
	CHECK(uv_loop_init(&g_loop) == 0 && uv_timer_init(&g_loop, &g_timer) == 0 && uv_timer_start(&g_timer, timer_turn, 5, 5) == 0);
	TEST(test_a_cluster_begins_with_one_node);
	TEST(test_who_has_no_token_gets_nothing_into_the_log);
	TEST(test_two_more_join_by_tokens);
	TEST(test_a_proposal_comes_to_all_from_anywhere);
	TEST(test_a_restarted_daemon_loses_nothing);
	TEST(test_the_leader_killed_the_others_go_on);
	TEST(test_a_cut_off_node_freezes_is_declared_dead_and_comes_back);
	TEST(test_a_short_cut_is_nothing);
	TEST(test_a_node_that_leaves_is_dead_at_once_and_may_be_removed);
	TEST(test_a_split_in_halves_freezes_both_and_kills_none);
	TEST(test_a_running_node_is_removed_by_its_own_word);
	uv_close((uv_handle_t *)&g_timer, NULL);
	(void)uv_run(&g_loop, UV_RUN_DEFAULT);
	CHECK(uv_loop_close(&g_loop) == 0);
	return 0;
}
