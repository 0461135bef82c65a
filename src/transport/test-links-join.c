/* The way of machines that have no certificate yet: one request, one answer, over the port of the links. */
#include "test-world.h"

#include <sys/socket.h>

#include "transport/gate.h"
#include "transport/links_int.h"

struct desk {
	struct world w;
	struct node a;
	uint8_t fp[PKI_FINGERPRINT_SIZE];
	SSL_CTX *ctx;
	unsigned n;             /* requests */
	size_t size;            /* of the last one */
	char first, from[300];
	int answers_at_once;
	size_t answer_size;
	links_join_req *kept[16];
	unsigned n_kept;
};

static uint8_t g_answer[LINK_JOIN_ANS_MAX + 1];

static void on_join(void *ctx, const char *from, const uint8_t *p, size_t n, links_join_req *req)
{
	struct desk *d = ctx;
	d->n++;
	d->size = n;
	d->first = n ? (char)p[0] : 0;
	(void)snprintf(d->from, sizeof d->from, "%s", from);
	if (d->answers_at_once)
		links_join_answer(req, g_answer, d->answer_size);
	else
		d->kept[d->n_kept++] = req;
}

static void desk_begin(struct desk *d)
{
	struct err e;
	memset(d, 0, sizeof *d);
	world_begin(&d->w);
	node_begin(&d->w, &d->a, 1, NULL);
	links_on_join(d->a.l, on_join, d);
	pki_ca_fingerprint(d->w.ca, d->fp);
	CHECK(pki_join_ctx(d->fp, &d->ctx, &e) == 0);
	d->answers_at_once = 1;
	d->answer_size = 10;
}

static void desk_end(struct desk *d)
{
	until(&d->w, !d->a.l || (gate_inside(d->a.l->gate) == 0 && d->a.l->n_joins == 0));
	node_end(&d->w, &d->a);
	SSL_CTX_free(d->ctx);
	world_end(&d->w);
}

static void come(struct desk *d, struct raw *r)
{
	raw_connect(r, links_port(d->a.l));
	CHECK(raw_tls(&d->w, r, d->ctx) == 0 && pki_use_of(r->ssl) == PKI_USE_JOIN);
}

static void refused_with(struct desk *d, struct raw *r, const char *words)
{
	raw_until_closed(&d->w, r);
	raw_close(r);
	until(&d->w, d->a.refused && d->a.l->n_joins == 0 && gate_inside(d->a.l->gate) == 0);
	CHECK(d->a.refused == 1 && strstr(d->a.refused_why, words));
	d->a.refused = 0;
	d->a.l->gate = gate_free(d->a.l->gate); /* it forgets that it has told */
	CHECK(gate_new(LINK_PER_SOURCE, LINK_HALF_OPEN, &d->a.l->gate) == 0);
}

static void test_one_request_gets_one_answer(void)
{
	struct desk d;
	desk_begin(&d);
	static const size_t sizes[] = { 0, 10, LINK_JOIN_ANS_MAX };
	static uint8_t buf[LINK_JOIN_ANS_MAX];
	for (unsigned later = 0; later < 2; later++) {
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			struct raw r;
			struct frame fr;
			unsigned before = d.n;
			d.answers_at_once = !later;
			d.answer_size = sizes[i];
			d.n_kept = 0;
			come(&d, &r);
			CHECK(raw_frame(&d.w, &r, FRAME_JOIN, 0, "please", 6) == 0);
			if (later) {
				until(&d.w, d.n_kept == 1);
				links_join_answer(d.kept[0], g_answer, sizes[i]);
			}
			CHECK(raw_next(&d.w, &r, &fr, buf, sizeof buf) == 0 && fr.type == FRAME_JOIN && fr.call == 0 && fr.n == sizes[i]);
			CHECK(d.n == before + 1 && d.size == 6 && d.first == 'p' && strncmp(d.from, "127.0.0.1:", 10) == 0);
			raw_until_closed(&d.w, &r); /* the node has finished writing */
			raw_close(&r);
		}
	}
	until(&d.w, d.a.l->n_joins == 0);
	CHECK(!d.a.refused && !d.a.ups);
	desk_end(&d);
}

static void test_a_client_knows_the_cluster_by_its_fingerprint(void)
{
	struct desk d;
	struct raw r;
	struct err e;
	SSL_CTX *ctx;
	desk_begin(&d);
	uint8_t other[PKI_FINGERPRINT_SIZE];
	memcpy(other, d.fp, sizeof other);
	other[31] ^= 1;
	CHECK(pki_join_ctx(other, &ctx, &e) == 0);
	raw_connect(&r, links_port(d.a.l));
	CHECK(raw_tls(&d.w, &r, ctx) == -1 && strstr(r.why, "certificate verify failed"));
	raw_close(&r);
	SSL_CTX_free(ctx);
	until(&d.w, d.a.refused == 1);
	CHECK(d.n == 0);
	desk_end(&d);
}

static void test_what_is_no_request_is_refused(void)
{
	struct desk d;
	struct raw r;
	static uint8_t big[LINK_JOIN_REQ_MAX + 1];
	desk_begin(&d);
	static const struct {
		uint16_t type;
		uint64_t call;
		size_t n;
		const char *words;
	} bad[] = {
		{ FRAME_HELLO, 0, FRAME_HELLO_SIZE, "something else" }, { FRAME_BYE, 0, 3, "something else" },
		{ FRAME_JOIN, 1, 3, "something else" },			{ 200, 0, 3, "something else" },
		{ FRAME_ANSWER, 1, 4, "something else" },		{ FRAME_JOIN, 0, LINK_JOIN_REQ_MAX + 1, "more than 65536 bytes" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		come(&d, &r);
		(void)raw_frame(&d.w, &r, bad[i].type, bad[i].call, big, bad[i].n);
		refused_with(&d, &r, bad[i].words);
	}
	CHECK(d.n == 0);
	come(&d, &r); /* the largest that is taken */
	CHECK(raw_frame(&d.w, &r, FRAME_JOIN, 0, big, LINK_JOIN_REQ_MAX) == 0);
	until(&d.w, d.n == 1);
	CHECK(d.size == LINK_JOIN_REQ_MAX);
	raw_until_closed(&d.w, &r);
	raw_close(&r);
	d.answers_at_once = 0;
	come(&d, &r); /* two requests */
	CHECK(raw_frame(&d.w, &r, FRAME_JOIN, 0, "a", 1) == 0 && raw_frame(&d.w, &r, FRAME_JOIN, 0, "b", 1) == 0);
	refused_with(&d, &r, "something else");
	CHECK(d.n == 2 && d.n_kept == 1);
	links_join_answer(d.kept[0], "x", 1); /* nobody is there any more */
	d.n_kept = 0;
	links_on_join(d.a.l, NULL, NULL);
	raw_connect(&r, links_port(d.a.l));
	(void)raw_tls(&d.w, &r, d.ctx);
	refused_with(&d, &r, "takes no joins");
	desk_end(&d);
}

static void test_a_request_that_breaks_off_anywhere_does_no_harm(void)
{
	struct desk d;
	struct raw r;
	uint8_t buf[FRAME_HEAD + 7];
	desk_begin(&d);
	frame_head(buf, FRAME_JOIN, 0, 7);
	memcpy(buf + FRAME_HEAD, "request", 7);
	for (size_t k = 0; k < sizeof buf; k++) {
		come(&d, &r);
		CHECK(raw_send(&d.w, &r, buf, k) == 0);
		until(&d.w, d.a.l->n_joins == 1);
		(void)shutdown(r.fd, SHUT_WR);
		raw_until_closed(&d.w, &r);
		raw_close(&r);
		until(&d.w, d.a.l->n_joins == 0 && gate_inside(d.a.l->gate) == 0);
	}
	CHECK(d.n == 0);
	desk_end(&d);
}

static void test_so_many_may_ask_at_once(void)
{
	struct desk d;
	struct raw r[LINK_JOINS + 1];
	desk_begin(&d);
	d.answers_at_once = 0;
	for (unsigned i = 0; i < LINK_JOINS; i++) {
		come(&d, &r[i]);
		CHECK(raw_frame(&d.w, &r[i], FRAME_JOIN, 0, "x", 1) == 0);
		until(&d.w, d.n_kept == i + 1);
	}
	raw_connect(&r[LINK_JOINS], links_port(d.a.l));
	(void)raw_tls(&d.w, &r[LINK_JOINS], d.ctx);
	raw_until_closed(&d.w, &r[LINK_JOINS]);
	CHECK(d.a.refused == 1 && strstr(d.a.refused_why, "others do so just now"));
	for (unsigned i = 0; i < LINK_JOINS; i++) {
		if (i % 2)
			raw_close(&r[i]); /* half of them go before they are answered */
	}
	until(&d.w, d.a.l->n_joins == LINK_JOINS / 2);
	for (unsigned i = 0; i < LINK_JOINS; i++)
		links_join_answer(d.kept[i], "yes", 3);
	for (unsigned i = 0; i <= LINK_JOINS; i++) {
		if (i % 2)
			continue;
		raw_until_closed(&d.w, &r[i]);
		raw_close(&r[i]);
	}
	desk_end(&d);
}

static void closed_cb(void *ctx)
{
	((struct node *)ctx)->closed++;
}

static void test_an_answer_after_the_end_of_the_links_is_dropped(void)
{
	struct desk d;
	struct raw r;
	desk_begin(&d);
	d.answers_at_once = 0;
	come(&d, &r);
	CHECK(raw_frame(&d.w, &r, FRAME_JOIN, 0, "x", 1) == 0);
	until(&d.w, d.n_kept == 1);
	links_close(d.a.l, closed_cb, &d.a);
	d.a.l = NULL;
	until(&d.w, d.a.closed);
	links_join_answer(d.kept[0], "x", 1);
	raw_until_closed(&d.w, &r);
	raw_close(&r);
	desk_end(&d);
}

/* A join client does not become a link, whatever it offers besides. */
static void test_who_joins_gets_no_link(void)
{
	struct desk d;
	struct raw r;
	struct err e;
	SSL_CTX *ctx;
	desk_begin(&d);
	CHECK(links_peer_set(d.a.l, 3, "127.0.0.1:1", NULL) == 0);
	CHECK(pki_join_ctx(d.fp, &ctx, &e) == 0); /* both names without a certificate: it is taken for a link, which wants one */
	CHECK(SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\14pando-join/1\14pando-link/1", 26) == 0);
	raw_connect(&r, links_port(d.a.l));
	(void)raw_tls(&d.w, &r, ctx);
	refused_with(&d, &r, "no handshake");
	SSL_CTX_free(ctx);

	struct pki *p = world_member(d.w.ca, 3); /* a member that joins is a joiner */
	CHECK(pki_client_ctx(p, PKI_USE_LINK, &ctx, &e) == 0 && SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\14pando-join/1", 13) == 0);
	raw_connect(&r, links_port(d.a.l));
	CHECK(raw_tls(&d.w, &r, ctx) == 0 && raw_hello(&d.w, &r, 1, 3, 500) == 0);
	refused_with(&d, &r, "something else");
	SSL_CTX_free(ctx);
	p = pki_free(p);
	CHECK(!d.a.ups && !d.n);
	desk_end(&d);
}

int main(void)
{
	TEST(test_one_request_gets_one_answer);
	TEST(test_a_client_knows_the_cluster_by_its_fingerprint);
	TEST(test_what_is_no_request_is_refused);
	TEST(test_a_request_that_breaks_off_anywhere_does_no_harm);
	TEST(test_so_many_may_ask_at_once);
	TEST(test_an_answer_after_the_end_of_the_links_is_dropped);
	TEST(test_who_joins_gets_no_link);
	return 0;
}
