/* Links that mean each other well: two and three nodes in one process. */
#include "test-world.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- messages ---- */

static uint64_t sum_next(uint64_t sum, const uint8_t *p, size_t size)
{
	return sum * 1000003 + size + (size ? p[0] + p[size / 2] * 3u + p[size - 1] * 7u : 0u);
}

static void fill(uint8_t *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 31 + seed);
}

static void test_messages_arrive_once_and_in_order(void)
{
	struct world w;
	struct node a, b;
	static uint8_t buf[70000];
	world_begin(&w);
	node_begin(&w, &a, 1, NULL);
	node_begin(&w, &b, 2, NULL);
	CHECK(!links_is_up(a.l, 2) && links_is_up(a.l, 1) && links_send(a.l, 2, 200, "x", 1) == -ENOTCONN);
	node_pair(&w, &a, &b);
	uint64_t ab = 0, ba = 0;
	for (unsigned i = 0; i < 1000; i++) {
		size_t n = i % 17 == 0 ? i * 67 : i % 100;
		fill(buf, n, i);
		CHECK(links_send(a.l, 2, 200, buf, n) == 0);
		ab = sum_next(ab, buf, n);
		CHECK(links_send(b.l, 1, 200, buf, n / 2) == 0);
		ba = sum_next(ba, buf, n / 2);
		if (i % 50 == 0)
			world_turn(&w);
	}
	until(&w, a.n_msgs == 1000 && b.n_msgs == 1000);
	CHECK(b.sum == ab && a.sum == ba);
	CHECK(a.ups == 1 && b.ups == 1 && !a.downs && !b.downs && !a.refused && !b.refused && a.heard && b.heard);
	node_end(&w, &a);
	node_end(&w, &b);
	world_end(&w);
}

static void test_the_largest_messages_go_both_ways(void)
{
	struct world w;
	struct node a, b;
	uint8_t *buf = malloc(LINK_MSG_MAX + 1);
	CHECK(buf);
	fill(buf, LINK_MSG_MAX + 1, 5);
	world_begin(&w);
	node_begin(&w, &a, 1, NULL);
	node_begin(&w, &b, 2, NULL);
	node_pair(&w, &a, &b);
	uint64_t sum = 0;
	for (unsigned i = 0; i < 3; i++) {
		CHECK(links_send(a.l, 2, 200, buf, LINK_MSG_MAX - i) == 0 && links_send(b.l, 1, 200, buf, LINK_MSG_MAX - i) == 0);
		sum = sum_next(sum, buf, LINK_MSG_MAX - i);
	}
	CHECK(links_send(a.l, 2, 200, buf, LINK_MSG_MAX + 1) == -EMSGSIZE);
	CHECK(links_send(a.l, 1, 200, buf, LINK_MSG_MAX + 1) == -EMSGSIZE);
	until(&w, a.n_msgs == 3 && b.n_msgs == 3);
	CHECK(a.sum == sum && b.sum == sum && links_queued(a.l, 2) == 0);
	node_end(&w, &a);
	node_end(&w, &b);
	world_end(&w);
	free(buf);
}

static void test_three_nodes_have_a_link_between_each_two(void)
{
	struct world w;
	struct node n[3];
	world_begin(&w);
	for (uint16_t i = 0; i < 3; i++)
		node_begin(&w, &n[i], (uint16_t)(i + 1), NULL);
	for (unsigned i = 0; i < 3; i++)
		for (unsigned k = 0; k < 3; k++)
			if (i != k)
				node_knows(&n[i], &n[k]);
	until(&w, n[0].up[2] && n[0].up[3] && n[1].up[1] && n[1].up[3] && n[2].up[1] && n[2].up[2]);
	for (uint16_t i = 0; i < 3; i++)
		for (uint16_t k = 1; k <= 3; k++)
			CHECK(links_send(n[i].l, k, 200, "hello", 5) == 0); /* itself too */
	until(&w, n[0].n_msgs == 3 && n[1].n_msgs == 3 && n[2].n_msgs == 3);
	for (unsigned i = 0; i < 3; i++)
		CHECK(n[i].ups == 2 && !n[i].downs && !n[i].refused);
	for (unsigned i = 0; i < 3; i++)
		node_end(&w, &n[i]);
	world_end(&w);
}

/* ---- calls ---- */

struct asked {
	struct links_call_req *req[4];
	unsigned n;
};

static void echo(void *ctx, uint16_t from, const uint8_t *p, size_t n, struct links_call_req *req)
{
	(void)ctx, (void)from;
	links_answer(req, (int32_t)n, p, n);
}

static void refuse(void *ctx, uint16_t from, const uint8_t *p, size_t n, struct links_call_req *req)
{
	(void)ctx, (void)from, (void)p, (void)n;
	links_answer(req, -EACCES, "no", 2);
}

static void keep(void *ctx, uint16_t from, const uint8_t *p, size_t n, struct links_call_req *req)
{
	struct asked *k = ctx;
	(void)from, (void)p, (void)n;
	CHECK(k->n < 4);
	k->req[k->n++] = req;
}

static void too_much(void *ctx, uint16_t from, const uint8_t *p, size_t n, struct links_call_req *req)
{
	static uint8_t much[LINK_MSG_MAX + 1];
	(void)ctx, (void)from, (void)p, (void)n;
	links_answer(req, 0, much, sizeof much);
}

struct result {
	unsigned runs;
	int status;
	size_t n;
	uint8_t first;
};

static void done(void *ctx, int status, const uint8_t *p, size_t n)
{
	struct result *r = ctx;
	r->runs++;
	r->status = status;
	r->n = n;
	r->first = n ? p[0] : 0;
}

static struct result call(struct world *w, struct links *l, uint16_t node, uint16_t type, const char *text)
{
	struct result r = { 0 };
	CHECK(links_call(l, node, type, text, strlen(text), 20000, done, &r) == 0 && !r.runs);
	until(w, r.runs);
	CHECK(r.runs == 1);
	return r;
}

static void test_calls_are_answered_here_and_there(void)
{
	struct world w;
	struct node a, b;
	world_begin(&w);
	node_begin(&w, &a, 1, NULL);
	node_begin(&w, &b, 2, NULL);
	struct node *both[2] = { &a, &b };
	for (unsigned i = 0; i < 2; i++) {
		links_handle_call(both[i]->l, 300, echo, NULL);
		links_handle_call(both[i]->l, 301, refuse, NULL);
		links_handle_call(both[i]->l, 303, too_much, NULL);
	}
	node_pair(&w, &a, &b);
	for (uint16_t to = 1; to <= 2; to++) {
		struct result r = call(&w, a.l, to, 300, "word");
		CHECK(r.status == 4 && r.n == 4 && r.first == 'w');
		r = call(&w, a.l, to, 300, "");
		CHECK(r.status == 0 && r.n == 0);
		r = call(&w, a.l, to, 301, "please");
		CHECK(r.status == -EACCES && r.n == 2 && r.first == 'n');
		r = call(&w, a.l, to, 302, "?");
		CHECK(r.status == -ENOSYS);
		r = call(&w, a.l, to, 200, "a type of messages only");
		CHECK(r.status == -ENOSYS);
		r = call(&w, a.l, to, 303, "?");
		CHECK(r.status == -EMSGSIZE && r.n == 0);
	}
	CHECK(links_send(a.l, 2, 300, "a message of a type of calls", 28) == 0 && links_send(a.l, 2, 999, "unknown", 7) == 0);
	struct result r = call(&w, a.l, 2, 300, "still there");
	CHECK(r.status == 11 && b.n_msgs == 0);
	node_end(&w, &a);
	node_end(&w, &b);
	world_end(&w);
}

static void test_an_answer_that_comes_too_late_is_dropped(void)
{
	struct world w;
	struct node a, b;
	struct asked k = { 0 };
	struct result r = { 0 };
	world_begin(&w);
	node_begin(&w, &a, 1, NULL);
	node_begin(&w, &b, 2, NULL);
	links_handle_call(b.l, 300, keep, &k);
	links_handle_call(b.l, 301, echo, &k);
	node_pair(&w, &a, &b);
	CHECK(links_call(a.l, 2, 300, NULL, 0, 50, done, &r) == 0);
	until(&w, r.runs && k.n);
	CHECK(r.status == -ETIMEDOUT);
	links_answer(k.req[0], 0, "late", 4);
	struct result next = call(&w, a.l, 2, 301, "x");
	CHECK(next.status == 1 && r.runs == 1);
	node_end(&w, &a);
	node_end(&w, &b);
	world_end(&w);
}

static void test_calls_end_with_their_link_and_with_closing(void)
{
	struct world w;
	struct node a, b;
	struct asked k = { 0 };
	struct result lost = { 0 }, closing = { 0 }, self = { 0 };
	world_begin(&w);
	node_begin(&w, &a, 1, NULL);
	node_begin(&w, &b, 2, NULL);
	links_handle_call(a.l, 300, keep, &k);
	links_handle_call(b.l, 300, keep, &k);
	node_pair(&w, &a, &b);
	CHECK(links_call(a.l, 2, 300, NULL, 0, 60000, done, &lost) == 0);
	until(&w, k.n == 1);
	links_peer_drop(a.l, 2);
	CHECK(!lost.runs && !links_is_up(a.l, 2)); /* told on a later turn */
	until(&w, lost.runs && a.downs);
	CHECK(lost.status == -ECONNRESET);
	until(&w, b.downs);
	links_answer(k.req[0], 0, NULL, 0); /* nobody is there any more */

	node_knows(&a, &b);
	until(&w, a.up[2] && b.up[1]);
	CHECK(links_call(a.l, 2, 300, NULL, 0, 60000, done, &closing) == 0 && links_call(a.l, 1, 300, NULL, 0, 60000, done, &self) == 0);
	until(&w, k.n == 3);
	node_end(&w, &a);
	CHECK(closing.runs == 1 && closing.status == -ECANCELED && self.runs == 1 && self.status == -ECANCELED);
	links_answer(k.req[1], 0, NULL, 0); /* of links that are gone, in either order */
	node_end(&w, &b);
	links_answer(k.req[2], 0, NULL, 0);
	world_end(&w);
}

static void test_calls_under_way_are_limited(void)
{
	struct world w;
	struct node a;
	struct raw r;
	static struct result res[LINK_CALLS_MAX + 1];
	memset(res, 0, sizeof res);
	world_begin(&w);
	node_begin(&w, &a, 1, NULL);
	CHECK(links_peer_set(a.l, 2, "127.0.0.1:1", NULL) == 0);
	struct pki *p = world_member(w.ca, 2);
	raw_link(&w, &r, links_port(a.l), p);
	until(&w, a.up[2]);
	for (unsigned i = 0; i < LINK_CALLS_MAX; i++)
		CHECK(links_call(a.l, 2, 300, NULL, 0, 60000, done, &res[i]) == 0);
	CHECK(links_call(a.l, 2, 300, NULL, 0, 60000, done, &res[LINK_CALLS_MAX]) == -ENOBUFS);
	raw_close(&r);
	until(&w, a.downs);
	until(&w, res[LINK_CALLS_MAX - 1].runs);
	for (unsigned i = 0; i < LINK_CALLS_MAX; i++)
		CHECK(res[i].runs == 1 && res[i].status == -ECONNRESET);
	CHECK(!res[LINK_CALLS_MAX].runs);
	node_end(&w, &a);
	p = pki_free(p);
	world_end(&w);
}

/* ---- backpressure ---- */

static void test_a_slow_reader_holds_its_sender_up_and_not_the_memory(void)
{
	struct world w;
	struct node a;
	struct raw r;
	static uint8_t buf[1 << 20];
	world_begin(&w);
	node_begin(&w, &a, 1, &(struct links_config){ .silence_ms = 600000 });
	CHECK(links_peer_set(a.l, 2, "127.0.0.1:1", NULL) == 0);
	struct pki *p = world_member(w.ca, 2);
	raw_link(&w, &r, links_port(a.l), p);
	until(&w, a.up[2]);
	unsigned sent = 0;
	int rc;
	while ((rc = links_send(a.l, 2, 200, buf, sizeof buf)) == 0) {
		sent++;
		world_turn(&w);
	}
	CHECK(rc == -ENOBUFS && sent >= 60 && links_queued(a.l, 2) <= LINK_QUEUE_MAX);
	for (unsigned i = 0; i < 10; i++) {
		world_turn(&w);
		CHECK(links_send(a.l, 2, 200, buf, sizeof buf) == -ENOBUFS);
	}
	for (unsigned i = 0; i < sent; i++) {
		struct frame fr;
		CHECK(raw_next(&w, &r, &fr, buf, sizeof buf) == 0 && fr.type == 200 && fr.n == sizeof buf);
	}
	until(&w, links_queued(a.l, 2) == 0);
	CHECK(a.up[2] && links_send(a.l, 2, 200, buf, 1) == 0);
	raw_close(&r);
	node_end(&w, &a);
	p = pki_free(p);
	world_end(&w);
}

/* A peer that asks and never reads its answers. */
static void test_a_peer_that_takes_no_answers_loses_the_link(void)
{
	struct world w;
	struct node a;
	struct raw r;
	world_begin(&w);
	node_begin(&w, &a, 1, &(struct links_config){ .silence_ms = 600000 });
	CHECK(links_peer_set(a.l, 2, "127.0.0.1:1", NULL) == 0);
	links_handle_call(a.l, 300, echo, NULL);
	struct pki *p = world_member(w.ca, 2);
	raw_link(&w, &r, links_port(a.l), p);
	static uint8_t buf[LINK_MSG_MAX];
	unsigned sent = 0;
	while (raw_frame(&w, &r, 300, sent + 1, buf, sizeof buf) == 0)
		CHECK(++sent < 40);
	until(&w, a.downs == 1);
	CHECK(strstr(a.down_why, "answers"));
	raw_close(&r);
	node_end(&w, &a);
	p = pki_free(p);
	world_end(&w);
}

/* ---- who connects, and which connection is the link ---- */

static void test_the_lower_one_knocks_when_the_higher_has_a_wrong_address(void)
{
	struct world w;
	struct node a, b;
	world_begin(&w);
	node_begin(&w, &a, 1, NULL);
	node_begin(&w, &b, 2, NULL);
	CHECK(links_peer_set(b.l, 1, "127.0.0.1:1", NULL) == 0);
	node_knows(&a, &b);
	until(&w, a.up[2] && b.up[1]);
	CHECK(links_send(a.l, 2, 200, "x", 1) == 0 && links_send(b.l, 1, 200, "x", 1) == 0);
	until(&w, a.n_msgs && b.n_msgs);
	CHECK(a.ups == 1 && b.ups == 1);
	node_end(&w, &a);
	node_end(&w, &b);
	world_end(&w);
}

/* A raw node with the number 1, to which node 2 connects. */
struct door {
	int listen, fd;
	SSL_CTX *ctx;
	SSL *ssl;
	struct pki *pki;
};

static void door_open(struct world *w, struct door *d, struct node *n)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof in;
	char addr[64];
	struct err e;
	*d = (struct door){ .listen = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), .fd = -1, .pki = world_member(w->ca, 1) };
	CHECK(d->listen >= 0 && bind(d->listen, (struct sockaddr *)&in, sizeof in) == 0 && listen(d->listen, 8) == 0 &&
	      getsockname(d->listen, (struct sockaddr *)&in, &len) == 0);
	CHECK(pki_server_ctx(d->pki, PKI_USE_LINK, &d->ctx, &e) == 0);
	(void)snprintf(addr, sizeof addr, "127.0.0.1:%u", ntohs(in.sin_port));
	CHECK(links_peer_set(n->l, 1, addr, &e) == 0);
	until(w, (d->fd = accept4(d->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0);
}

static void door_tls(struct world *w, struct door *d)
{
	d->ssl = SSL_new(d->ctx);
	CHECK(d->ssl && SSL_set_fd(d->ssl, d->fd) == 1);
	until(w, SSL_accept(d->ssl) == 1);
}

static void door_close(struct door *d)
{
	SSL_free(d->ssl);
	SSL_CTX_free(d->ctx);
	d->pki = pki_free(d->pki);
	if (d->fd >= 0)
		(void)close(d->fd);
	(void)close(d->listen);
}

static void test_both_connect_at_once_and_the_higher_ones_stays(void)
{
	struct world w;
	struct node b;
	struct door d;
	struct raw r;
	struct frame fr;
	uint8_t buf[64];
	world_begin(&w);
	node_begin(&w, &b, 2, NULL);
	door_open(&w, &d, &b);
	door_tls(&w, &d);
	struct raw own = { .fd = d.fd, .ssl = d.ssl };
	CHECK(raw_next(&w, &own, &fr, buf, sizeof buf) == 0 && fr.type == FRAME_HELLO); /* its hello is out */
	raw_member(&w, &r, links_port(b.l), d.pki);
	CHECK(raw_hello(&w, &r, 1, 1, 500) == 0);
	raw_until_closed(&w, &r);
	CHECK(!b.ups && !b.refused); /* nothing to tell: it happens */
	CHECK(raw_hello(&w, &own, 1, 1, 500) == 0);
	until(&w, b.up[1]);
	raw_close(&r);

	raw_member(&w, &r, links_port(b.l), d.pki); /* and with a link it is the same */
	CHECK(raw_hello(&w, &r, 1, 1, 500) == 0);
	raw_until_closed(&w, &r);
	CHECK(b.ups == 1 && !b.downs && !b.refused);
	raw_close(&r);
	door_close(&d);
	node_end(&w, &b);
	world_end(&w);
}

static void test_an_attempt_without_hello_gives_way_to_a_knock(void)
{
	struct world w;
	struct node b;
	struct door d;
	struct raw r;
	world_begin(&w);
	node_begin(&w, &b, 2, NULL);
	door_open(&w, &d, &b); /* TCP only: it says nothing */
	raw_link(&w, &r, links_port(b.l), d.pki);
	until(&w, b.up[1]);
	char c;
	until(&w, recv(d.fd, &c, 1, 0) == 0 || errno != EAGAIN); /* the attempt is given up: whatever was sent, then the end */
	CHECK(b.ups == 1 && !b.refused);
	raw_close(&r);
	door_close(&d);
	node_end(&w, &b);
	world_end(&w);
}

static void test_a_new_connection_of_the_higher_one_replaces_the_link(void)
{
	struct world w;
	struct node a;
	struct raw r[3];
	world_begin(&w);
	node_begin(&w, &a, 1, NULL);
	CHECK(links_peer_set(a.l, 2, "127.0.0.1:1", NULL) == 0);
	struct pki *p = world_member(w.ca, 2);
	for (unsigned i = 0; i < 3; i++) {
		raw_link(&w, &r[i], links_port(a.l), p);
		until(&w, a.ups == i + 1 && a.downs == i);
		if (i)
			raw_until_closed(&w, &r[i - 1]);
	}
	CHECK(raw_frame(&w, &r[2], 200, 0, "x", 1) == 0);
	until(&w, a.n_msgs == 1);
	for (unsigned i = 0; i < 3; i++)
		raw_close(&r[i]);
	until(&w, a.downs == 3);
	node_end(&w, &a);
	p = pki_free(p);
	world_end(&w);
}

/* ---- coming and going ---- */

static void test_a_peer_that_comes_back_gets_its_link_again(void)
{
	struct world w;
	struct node a, b;
	struct err e;
	char addr[64];
	world_begin(&w);
	node_begin(&w, &a, 1, NULL);
	node_begin(&w, &b, 2, NULL);
	node_pair(&w, &a, &b);
	(void)snprintf(addr, sizeof addr, "localhost:%u", links_port(a.l)); /* a name this time */
	node_end(&w, &b);
	until(&w, a.downs == 1);
	CHECK(strstr(a.down_why, "closing") && links_send(a.l, 2, 200, "x", 1) == -ENOTCONN);
	node_begin(&w, &b, 2, NULL);
	CHECK(links_peer_set(b.l, 1, addr, &e) == 0);
	node_knows(&a, &b);
	until(&w, a.ups == 2 && b.ups == 1);
	node_end(&w, &a);
	node_end(&w, &b);
	world_end(&w);
}

static void test_silence_ends_a_link(void)
{
	struct world w;
	struct node a;
	struct raw r;
	world_begin(&w);
	node_begin(&w, &a, 1, &(struct links_config){ .heartbeat_ms = 20, .silence_ms = 200 });
	CHECK(links_peer_set(a.l, 2, "127.0.0.1:1", NULL) == 0);
	struct pki *p = world_member(w.ca, 2);
	raw_link(&w, &r, links_port(a.l), p);
	until(&w, a.up[2]);
	uint64_t begun = world_clock();
	until(&w, a.downs == 1);
	CHECK(strstr(a.down_why, "silent") && world_clock() - begun >= 100);
	raw_until_closed(&w, &r); /* it got heartbeats until then, and the reason is none of its business */
	raw_close(&r);
	node_end(&w, &a);
	p = pki_free(p);
	world_end(&w);
}

static void test_heartbeats_keep_an_idle_link_up(void)
{
	struct world w;
	struct node a, b;
	world_begin(&w);
	node_begin(&w, &a, 1, &(struct links_config){ .heartbeat_ms = 20, .silence_ms = 10000 });
	node_begin(&w, &b, 2, &(struct links_config){ .heartbeat_ms = 20, .silence_ms = 10000 });
	node_pair(&w, &a, &b);
	unsigned ha = a.heard, hb = b.heard;
	until(&w, a.heard > ha + 10 && b.heard > hb + 10);
	CHECK(!a.downs && !b.downs && a.n_msgs == 0);
	node_end(&w, &a);
	node_end(&w, &b);
	world_end(&w);
}

static void test_a_dropped_member_is_refused(void)
{
	struct world w;
	struct node a, b;
	world_begin(&w);
	node_begin(&w, &a, 1, NULL);
	node_begin(&w, &b, 2, NULL);
	node_pair(&w, &a, &b);
	links_peer_drop(a.l, 2);
	links_peer_drop(a.l, 2);
	CHECK(!links_is_up(a.l, 2) && a.up[2]);
	until(&w, a.downs == 1 && b.downs == 1 && a.refused && b.refused);
	CHECK(strstr(a.refused_why, "not a member") && strstr(a.refused_from, "node 2") && strstr(b.refused_why, "not a member"));
	CHECK(a.ups == 1 && b.ups == 1);
	node_end(&w, &a);
	node_end(&w, &b);
	world_end(&w);
}

static void test_peers_that_cannot_be_are_refused(void)
{
	struct world w;
	struct node a;
	struct err e;
	world_begin(&w);
	node_begin(&w, &a, 1, NULL);
	CHECK(links_peer_set(a.l, 0, "127.0.0.1:1", &e) == -EINVAL && links_peer_set(a.l, 1, "127.0.0.1:1", &e) == -EINVAL &&
	      links_peer_set(a.l, NODE_MAX + 1, "127.0.0.1:1", &e) == -EINVAL && links_peer_set(a.l, 2, "nonsense", &e) == -EINVAL);
	CHECK(links_send(a.l, 0, 200, "x", 1) == -ENOTCONN && links_send(a.l, 65535, 200, "x", 1) == -ENOTCONN);
	CHECK(links_peer_set(a.l, 2, "no.such.host.invalid:1", &e) == 0); /* goes on trying */
	for (unsigned i = 0; i < 50; i++)
		world_turn(&w);
	CHECK(!a.ups);
	struct links *other;
	CHECK(links_new(&(struct links_config){ .loop = &w.loop, .pki = a.pki, .self = 2 }, &other, &e) == -EINVAL && strstr(e.text, "certificate"));
	CHECK(links_new(&(struct links_config){ .loop = &w.loop, .pki = a.pki, .self = 1, .heartbeat_ms = 1 }, &other, &e) == -EINVAL);
	node_end(&w, &a);
	world_end(&w);
}

/* ---- closing from within callbacks ---- */

static void closed_cb(void *ctx)
{
	((struct node *)ctx)->closed++;
}

static void close_now(struct node *n)
{
	links_close(n->l, closed_cb, n);
	n->l = NULL;
}

static void close_on_message(void *ctx, uint16_t from, const uint8_t *p, size_t size)
{
	struct node *n = ctx;
	(void)from, (void)p, (void)size;
	if (n->l)
		close_now(n);
}

static void close_on_done(void *ctx, int status, const uint8_t *p, size_t size)
{
	(void)status, (void)p, (void)size;
	close_on_message(ctx, 0, NULL, 0);
}

static void close_on_down(struct node *n, uint16_t node)
{
	(void)node;
	if (n->l)
		close_now(n);
}

static void test_links_can_be_closed_within_each_callback(void)
{
	enum { SELF, PEER, DOWN, DONE, TIMEOUT, SELF_DONE, CASES };
	for (unsigned i = 0; i < CASES; i++) {
		struct world w;
		struct node a, b;
		struct asked k = { 0 };
		world_begin(&w);
		node_begin(&w, &a, 1, NULL);
		node_begin(&w, &b, 2, NULL);
		links_handle(a.l, 201, close_on_message, &a);
		links_handle_call(a.l, 300, keep, &k);
		links_handle_call(b.l, 300, keep, &k);
		links_handle_call(b.l, 301, echo, NULL);
		node_pair(&w, &a, &b);
		struct result r = { 0 };
		CHECK(links_call(a.l, 2, 300, NULL, 0, 60000, done, &r) == 0); /* something that is under way */
		if (i == SELF)
			CHECK(links_send(a.l, 1, 201, NULL, 0) == 0 && links_send(a.l, 1, 201, NULL, 0) == 0);
		else if (i == PEER)
			CHECK(links_send(b.l, 1, 201, NULL, 0) == 0 && links_send(b.l, 1, 201, NULL, 0) == 0);
		else if (i == DONE)
			CHECK(links_call(a.l, 2, 301, NULL, 0, 60000, close_on_done, &a) == 0);
		else if (i == TIMEOUT)
			CHECK(links_call(a.l, 2, 300, NULL, 0, 10, close_on_done, &a) == 0);
		else if (i == SELF_DONE)
			CHECK(links_call(a.l, 1, 999, NULL, 0, 60000, close_on_done, &a) == 0);
		a.on_down = close_on_down;
		if (i == DOWN)
			links_peer_drop(b.l, 1);
		until(&w, a.closed);
		CHECK(r.runs == 1 && r.status == -ECANCELED && a.closed == 1);
		node_end(&w, &a);
		node_end(&w, &b);
		for (unsigned j = 0; j < k.n; j++)
			links_answer(k.req[j], 0, NULL, 0);
		world_end(&w);
	}
}

int main(void)
{
	TEST(test_messages_arrive_once_and_in_order);
	TEST(test_the_largest_messages_go_both_ways);
	TEST(test_three_nodes_have_a_link_between_each_two);
	TEST(test_calls_are_answered_here_and_there);
	TEST(test_an_answer_that_comes_too_late_is_dropped);
	TEST(test_calls_end_with_their_link_and_with_closing);
	TEST(test_calls_under_way_are_limited);
	TEST(test_a_slow_reader_holds_its_sender_up_and_not_the_memory);
	TEST(test_a_peer_that_takes_no_answers_loses_the_link);
	TEST(test_the_lower_one_knocks_when_the_higher_has_a_wrong_address);
	TEST(test_both_connect_at_once_and_the_higher_ones_stays);
	TEST(test_an_attempt_without_hello_gives_way_to_a_knock);
	TEST(test_a_new_connection_of_the_higher_one_replaces_the_link);
	TEST(test_a_peer_that_comes_back_gets_its_link_again);
	TEST(test_silence_ends_a_link);
	TEST(test_heartbeats_keep_an_idle_link_up);
	TEST(test_a_dropped_member_is_refused);
	TEST(test_peers_that_cannot_be_are_refused);
	TEST(test_links_can_be_closed_within_each_callback);
	return 0;
}
