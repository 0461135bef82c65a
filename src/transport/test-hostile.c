/* Links under attack: strangers and members that say what they should not. Each is refused with one line, costs nothing that stays, and
 * does not disturb others. */
#include "test-world.h"

#include <malloc.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/gate.h"
#include "transport/links_int.h"
#include "transport/pki_int.h"

/* Node 1 with a proper link to node 2, and a link to raw members 3 that is wanted. */
struct stage {
	struct world w;
	struct node a, b;
	struct pki *third; /* member 3 */
	uint16_t port;
};

static void stage_begin(struct stage *s)
{
	world_begin(&s->w);
	node_begin(&s->w, &s->a, 1, &(struct links_config){ .silence_ms = 600000 });
	node_begin(&s->w, &s->b, 2, &(struct links_config){ .silence_ms = 600000 });
	node_pair(&s->w, &s->a, &s->b);
	s->third = world_member(s->w.ca, 3);
	CHECK(links_peer_set(s->a.l, 3, "127.0.0.1:1", NULL) == 0);
	s->port = links_port(s->a.l);
}

/* The node is as it was: the good link is up and was never down, messages go through, no handshake is unfinished. */
static void stage_is_well(struct stage *s)
{
	unsigned n = s->b.n_msgs;
	CHECK(s->a.up[2] && s->b.up[1] && links_send(s->a.l, 2, 200, "x", 1) == 0);
	until(&s->w, s->b.n_msgs == n + 1 && gate_inside(s->a.l->gate) == 0);
}

static void stage_end(struct stage *s)
{
	stage_is_well(s);
	CHECK(s->a.up[2] && s->b.ups == 1 && !s->b.downs && !s->b.refused);
	node_end(&s->w, &s->a);
	node_end(&s->w, &s->b);
	s->third = pki_free(s->third);
	world_end(&s->w);
}

/* The lines of one address come in 10 s once: the gate of the node forgets, for the next part of a test. */
static void gate_forget(struct stage *s)
{
	until(&s->w, gate_inside(s->a.l->gate) == 0);
	s->a.l->gate = gate_free(s->a.l->gate);
	CHECK(gate_new(LINK_PER_SOURCE, LINK_HALF_OPEN, &s->a.l->gate) == 0);
	s->a.refused = 0;
	s->a.refused_why[0] = s->a.refused_from[0] = 0;
}

/* r is closed by the node, which has told one line with these words. */
static void refused_with(struct stage *s, struct raw *r, const char *words)
{
	raw_until_closed(&s->w, r);
	raw_close(r);
	until(&s->w, s->a.refused);
	if (s->a.refused != 1 || !strstr(s->a.refused_why, words))
		(void)fprintf(stderr, "refused %u times: '%s', want '%s'\n", s->a.refused, s->a.refused_why, words);
	CHECK(s->a.refused == 1 && strstr(s->a.refused_why, words) && strstr(s->a.refused_from, "127.0.0.1:"));
	gate_forget(s);
}

/* ---- strangers ---- */

static void test_bytes_that_are_not_tls_are_refused(void)
{
	struct stage s;
	struct raw r;
	static uint8_t junk[40000];
	stage_begin(&s);
	static const char *const texts[] = { "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "\x16\x03\x01\xff\xff\x01", "\x15\x03\x03\x00\x02\x02\x28" };
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		raw_connect(&r, s.port);
		CHECK(raw_send(&s.w, &r, texts[i], i == 3 ? 7 : strlen(texts[i])) == 0);
		(void)shutdown(r.fd, SHUT_WR);
		refused_with(&s, &r, "no handshake");
	}
	uint64_t x = 1;
	for (unsigned round = 0; round < 40; round++) {
		for (size_t i = 0; i < sizeof junk; i++)
			junk[i] = (uint8_t)((x = x * 6364136223846793005u + 1442695040888963407u) >> 56);
		if (round & 1)
			memcpy(junk, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11); /* looks like the beginning of TLS */
		raw_connect(&r, s.port);
		(void)raw_send(&s.w, &r, junk, sizeof junk >> round % 12);
		(void)shutdown(r.fd, SHUT_WR);
		refused_with(&s, &r, "no handshake");
	}
	/* An empty connection, and one that is reset at once. */
	raw_connect(&r, s.port);
	(void)shutdown(r.fd, SHUT_WR);
	refused_with(&s, &r, "no handshake");
	raw_connect(&r, s.port);
	(void)setsockopt(r.fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger));
	raw_close(&r);
	stage_end(&s);
}

/* What a client sends first. */
static size_t client_hello(const struct pki *p, uint8_t *ret, size_t n)
{
	SSL_CTX *ctx;
	struct err e;
	CHECK(pki_client_ctx(p, PKI_USE_LINK, &ctx, &e) == 0);
	SSL *ssl = SSL_new(ctx);
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	CHECK(ssl && in && out);
	SSL_set_bio(ssl, in, out);
	CHECK(SSL_connect(ssl) < 0);
	int k = BIO_read(out, ret, (int)n);
	CHECK(k > 0 && (size_t)k < n);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return (size_t)k;
}

static void test_a_handshake_that_breaks_off_anywhere_is_refused(void)
{
	struct stage s;
	struct raw r;
	uint8_t hello[4096];
	stage_begin(&s);
	size_t n = client_hello(s.third, hello, sizeof hello);
	for (size_t k = 0; k <= n; k++) {
		raw_connect(&r, s.port);
		CHECK(raw_send(&s.w, &r, hello, k) == 0);
		(void)shutdown(r.fd, SHUT_WR);
		refused_with(&s, &r, "no handshake");
	}
	/* And with a bit changed anywhere. */
	for (size_t k = 0; k < n; k++) {
		hello[k] ^= 0x10;
		raw_connect(&r, s.port);
		(void)raw_send(&s.w, &r, hello, n);
		(void)shutdown(r.fd, SHUT_WR);
		refused_with(&s, &r, "no handshake");
		hello[k] ^= 0x10;
	}
	stage_end(&s);
}

static void test_a_session_that_was_listened_to_cannot_be_played_again(void)
{
	struct stage s;
	struct raw r;
	stage_begin(&s);
	/* A whole good session, of which every byte of the client is kept. */
	SSL_CTX *ctx;
	struct err e;
	CHECK(pki_client_ctx(s.third, PKI_USE_LINK, &ctx, &e) == 0);
	SSL *ssl = SSL_new(ctx);
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	CHECK(ssl && in && out);
	SSL_set_bio(ssl, in, out);
	static uint8_t kept[16384];
	uint8_t buf[4096];
	size_t n_kept = 0;
	unsigned sent = 0;
	raw_connect(&r, s.port);
	for (int is_open = 0; s.a.n_msgs < 1; ) {
		if (!is_open && (is_open = SSL_connect(ssl) == 1)) {
			struct wr w = { 0 };
			uint8_t head[FRAME_HEAD];
			frame_head(head, FRAME_HELLO, 0, FRAME_HELLO_SIZE);
			wr_raw(&w, head, sizeof head);
			frame_hello_encode(&w, &(struct frame_hello){ 1, 3, 500 });
			frame_head(head, 200, 0, 4);
			wr_raw(&w, head, sizeof head);
			wr_raw(&w, "once", 4);
			CHECK(SSL_write(ssl, w.p, (int)w.n) == (int)w.n);
			wr_fini(&w);
			sent++;
		}
		int k;
		while ((k = BIO_read(out, kept + n_kept, (int)(sizeof kept - n_kept))) > 0) {
			CHECK(raw_send(&s.w, &r, kept + n_kept, (size_t)k) == 0);
			n_kept += (size_t)k;
		}
		size_t got = raw_read(&r, buf, sizeof buf);
		if (got)
			CHECK(BIO_write(in, buf, (int)got) == (int)got);
		else
			world_turn(&s.w);
	}
	CHECK(sent == 1 && s.a.up[3]);
	raw_close(&r);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	until(&s.w, !s.a.up[3]);
	s.a.refused = 0;
	for (unsigned i = 0; i < 3; i++) {
		raw_connect(&r, s.port);
		(void)raw_send(&s.w, &r, kept, n_kept);
		refused_with(&s, &r, "no handshake");
	}
	CHECK(s.a.n_msgs == 1 && s.a.ups == 2);
	stage_end(&s);
}

/* A TLS client with these contexts is let in by TLS or not, and refused by the node in any case. */
static void try_ctx(struct stage *s, SSL_CTX *ctx, const char *words)
{
	struct raw r;
	raw_connect(&r, s->port);
	(void)raw_tls(&s->w, &r, ctx); /* with TLS 1.3 the client learns of the refusal later */
	refused_with(s, &r, words);
	SSL_CTX_free(ctx);
}

static SSL_CTX *ctx_of(const struct pki *p)
{
	SSL_CTX *ctx;
	struct err e;
	CHECK(pki_client_ctx(p, PKI_USE_LINK, &ctx, &e) == 0);
	return ctx;
}

static void test_only_certificates_of_members_are_let_in(void)
{
	struct stage s;
	struct raw r;
	struct err e;
	stage_begin(&s);

	struct pki *other;
	CHECK(pki_create_in_memory(3, &other, &e) == 0); /* another cluster's node 3 */
	SSL_CTX *ctx = ctx_of(other);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL); /* it does not mind who we are */
	try_ctx(&s, ctx, "certificate refused");
	ctx = ctx_of(s.third);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	CHECK(SSL_CTX_use_certificate(ctx, other->ca) == 1 && SSL_CTX_use_PrivateKey(ctx, other->ca_key) == 1); /* signed by itself */
	try_ctx(&s, ctx, "certificate refused");
	other = pki_free(other);

	ctx = SSL_CTX_new(TLS_client_method()); /* no certificate at all */
	CHECK(ctx && SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\14pando-link/1", 13) == 0);
	try_ctx(&s, ctx, "no handshake");

	struct pki *p = world_member(s.w.ca, 9); /* of the cluster, but no member */
	raw_member(&s.w, &r, s.port, p);
	refused_with(&s, &r, "not a member");
	p = pki_free(p);
	p = world_member(s.w.ca, 1); /* our own number */
	raw_member(&s.w, &r, s.port, p);
	refused_with(&s, &r, "certificate of this node");
	p = pki_free(p);

	ctx = ctx_of(s.third); /* the CA itself is no node */
	CHECK(SSL_CTX_use_certificate(ctx, s.w.ca->ca) == 1 && SSL_CTX_use_PrivateKey(ctx, s.w.ca->ca_key) == 1);
	raw_connect(&r, s.port);
	(void)raw_tls(&s.w, &r, ctx);
	SSL_CTX_free(ctx);
	refused_with(&s, &r, "");

	/* A certificate made by a node, which is no CA: the chain is of the cluster, the issuer may not. */
	struct pki *forged = world_member(s.w.ca, 3);
	X509 *leaf;
	CHECK(cert_new(forged->key, s.w.ca->cluster, 3, s.third->cert, s.third->key, &leaf, &e) == 0);
	ctx = ctx_of(s.third);
	CHECK(SSL_CTX_use_certificate(ctx, leaf) == 1 && SSL_CTX_use_PrivateKey(ctx, forged->key) == 1 &&
	      SSL_CTX_add1_chain_cert(ctx, s.third->cert) == 1);
	try_ctx(&s, ctx, "certificate refused");
	X509_free(leaf);
	forged = pki_free(forged);
	CHECK(s.a.ups == 1);
	stage_end(&s);
}

/* Dates are not asked for (transport/pki.h): a node with a wrong clock must still get to its peers. */
static void test_a_certificate_that_ran_out_is_as_good_as_any(void)
{
	struct stage s;
	struct raw r;
	stage_begin(&s);
	struct pki *p = world_member_expired(s.w.ca, 3);
	raw_link(&s.w, &r, s.port, p);
	until(&s.w, s.a.up[3]);
	raw_close(&r);
	until(&s.w, !s.a.up[3]);
	p = pki_free(p);
	stage_end(&s);
}

static void test_other_tls_than_ours_is_refused(void)
{
	struct stage s;
	stage_begin(&s);
	SSL_CTX *ctx = ctx_of(s.third);
	CHECK(SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 && SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION) == 1);
	try_ctx(&s, ctx, "unsupported protocol");
	ctx = ctx_of(s.third);
	CHECK(SSL_CTX_set1_groups_list(ctx, "P-521") == 1);
	try_ctx(&s, ctx, "no handshake");
	static const char *const alpn[] = { "\2h2", "\16pando-stream/1", "\14pando-link/2" };
	for (size_t i = 0; i < sizeof alpn / sizeof *alpn; i++) {
		ctx = ctx_of(s.third);
		CHECK(SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)alpn[i], (unsigned)strlen(alpn[i])) == 0);
		try_ctx(&s, ctx, "no handshake");
	}
	ctx = ctx_of(s.third);
	CHECK(SSL_CTX_set_alpn_protos(ctx, NULL, 0) == 0);
	try_ctx(&s, ctx, "ALPN");
	stage_end(&s);
}

/* Connections that say nothing, many of them: of one source 16 are kept waiting, the rest is closed at once, with one line in all; after
 * 5 s nothing is left of them. */
static void test_a_flood_of_connections_is_bounded(void)
{
	enum { FLOOD = 600 };
	struct stage s;
	static struct raw r[FLOOD];
	stage_begin(&s);
	int before = world_fds();
	unsigned most = 0;
	for (unsigned i = 0; i < FLOOD; i++) {
		raw_connect(&r[i], s.port);
		world_turn(&s.w);
		unsigned inside = gate_inside(s.a.l->gate);
		most = inside > most ? inside : most;
	}
	CHECK(links_send(s.a.l, 2, 200, "x", 1) == 0);
	until(&s.w, s.b.n_msgs == 1);
	unsigned open = 0;
	for (unsigned i = 0; i < FLOOD; i++) {
		uint8_t c;
		(void)raw_read(&r[i], &c, 1);
		open += !r[i].is_over;
	}
	CHECK(most == LINK_PER_SOURCE && open <= LINK_PER_SOURCE + 1 && s.a.refused == 1 && strstr(s.a.refused_why, "too many"));
	for (unsigned i = 0; i < FLOOD; i++)
		raw_until_closed(&s.w, &r[i]); /* the last of them by the end of their time */
	for (unsigned i = 0; i < FLOOD; i++)
		raw_close(&r[i]);
	CHECK(s.a.refused == 1);
	until(&s.w, gate_inside(s.a.l->gate) == 0 && world_fds() == before);
	stage_end(&s);
}

/* ---- members that misbehave ---- */

static void test_frames_that_do_not_belong_here_end_the_connection(void)
{
	struct stage s;
	struct raw r;
	uint8_t big[600] = { 0 }, head[FRAME_HEAD];
	stage_begin(&s);

	static const struct {
		uint16_t type, version, node;
		uint32_t beat;
		size_t n;
		const char *words;
	} bad[] = {
		{ FRAME_HELLO, 2, 3, 500, 0, "speaks version 2" },  { FRAME_HELLO, 1, 2, 500, 0, "says that it is node 2" },
		{ FRAME_HELLO, 1, 0, 500, 0, "says that it is node 0" }, { FRAME_HELLO, 1, 3, 5, 0, "damaged hello" },
		{ FRAME_HELLO, 1, 3, 60001, 0, "damaged hello" },	 { FRAME_HEARTBEAT, 0, 0, 0, 0, "before its hello" },
		{ FRAME_ANSWER, 0, 0, 0, 8, "before its hello" },	 { FRAME_JOIN, 0, 0, 0, 8, "before its hello" },
		{ 200, 0, 0, 0, 8, "before its hello" },		 { 200, 0, 0, 0, 257, "more than 256 bytes" },
		{ FRAME_HELLO, 0, 0, 0, 256, "speaks version 0" },	 { FRAME_HELLO, 0, 0, 0, 1, "damaged hello" },
		{ FRAME_BYE, 0, 0, 0, 3, "the other side says: ???" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		raw_member(&s.w, &r, s.port, s.third);
		int rc = bad[i].n || bad[i].type != FRAME_HELLO ? raw_frame(&s.w, &r, bad[i].type, 0, big, bad[i].n) :
								  raw_hello(&s.w, &r, bad[i].version, bad[i].node, bad[i].beat);
		CHECK(rc == 0);
		refused_with(&s, &r, bad[i].words);
	}
	CHECK(s.a.ups == 1);

	static const struct {
		uint16_t type;
		uint64_t call;
		size_t n;
		const char *words;
	} later[] = {
		{ FRAME_HELLO, 0, FRAME_HELLO_SIZE, "type 1 out of place" }, { FRAME_HEARTBEAT, 0, 1, "type 2 out of place" },
		{ FRAME_HEARTBEAT, 1, 0, "type 2 out of place" },	     { FRAME_JOIN, 0, 1, "type 5 out of place" },
		{ 0, 0, 0, "type 0 out of place" },			     { 99, 0, 0, "type 99 out of place" },
		{ FRAME_ANSWER, 1, 3, "answer without a status" },
	};
	for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
		raw_link(&s.w, &r, s.port, s.third);
		until(&s.w, s.a.up[3]);
		CHECK(raw_frame(&s.w, &r, later[i].type, later[i].call, big, later[i].n) == 0);
		refused_with(&s, &r, later[i].words);
		until(&s.w, !s.a.up[3]);
	}
	static const uint32_t sizes[] = { LINK_MSG_MAX + 5, 0x7fffffff, 0x80000000, 0xffffffff };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		raw_link(&s.w, &r, s.port, s.third);
		until(&s.w, s.a.up[3]);
		frame_head(head, 200, 0, sizes[i]);
		CHECK(raw_send(&s.w, &r, head, sizeof head) == 0);
		refused_with(&s, &r, "sent a frame of more than");
		until(&s.w, !s.a.up[3]);
	}
	stage_end(&s);
}

static void test_answers_to_what_was_not_asked_are_dropped(void)
{
	struct stage s;
	struct raw r;
	stage_begin(&s);
	raw_link(&s.w, &r, s.port, s.third);
	uint8_t answer[12] = { 0 };
	for (uint64_t id = 0; id < 100; id++)
		CHECK(raw_frame(&s.w, &r, FRAME_ANSWER, id ? id : UINT64_MAX, answer, sizeof answer) == 0);
	CHECK(raw_frame(&s.w, &r, 200, 0, "x", 1) == 0);
	until(&s.w, s.a.n_msgs == 1);
	CHECK(s.a.up[3] && !s.a.refused);
	raw_close(&r);
	until(&s.w, !s.a.up[3]);
	stage_end(&s);
}

struct kept {
	struct links_call_req *req;
	struct kept *next;
};

static void keep(void *ctx, uint16_t from, const uint8_t *p, size_t n, struct links_call_req *req)
{
	struct kept **list = ctx, *k = malloc(sizeof *k);
	(void)from, (void)p, (void)n;
	CHECK(k);
	*k = (struct kept){ req, *list };
	*list = k;
}

/* Calls beyond the limit are answered with -EDQUOT; the same number twice is two calls. */
static void test_calls_of_one_peer_are_bounded(void)
{
	enum { OVER = 100 };
	struct stage s;
	struct raw r;
	struct kept *list = NULL;
	stage_begin(&s);
	links_handle_call(s.a.l, 300, keep, &list);
	raw_link(&s.w, &r, s.port, s.third);
	for (unsigned i = 0; i < LINK_CALLS_MAX + OVER; i++)
		CHECK(raw_frame(&s.w, &r, 300, 7, NULL, 0) == 0);
	for (unsigned i = 0; i < OVER; i++) {
		struct frame fr;
		uint8_t p[16];
		struct rd d;
		CHECK(raw_next(&s.w, &r, &fr, p, sizeof p) == 0 && fr.type == FRAME_ANSWER && fr.call == 7 && fr.n == 4);
		rd_init(&d, p, 4);
		CHECK(rd_i32(&d) == -EDQUOT);
	}
	raw_close(&r);
	until(&s.w, !s.a.up[3]);
	unsigned n = 0;
	while (list) {
		struct kept *k = list;
		list = k->next;
		links_answer(k->req, 0, NULL, 0);
		free(k);
		n++;
	}
	CHECK(n == LINK_CALLS_MAX);
	stage_end(&s);
}

/* A member's talk that breaks off after any byte: no half of a message is delivered. */
static void test_a_talk_that_breaks_off_anywhere_does_no_harm(void)
{
	struct stage s;
	struct raw r;
	stage_begin(&s);
	struct wr w = { 0 };
	uint8_t head[FRAME_HEAD];
	frame_head(head, FRAME_HELLO, 0, FRAME_HELLO_SIZE);
	wr_raw(&w, head, sizeof head);
	frame_hello_encode(&w, &(struct frame_hello){ 1, 3, 500 });
	size_t hello = w.n;
	frame_head(head, 200, 0, 9);
	wr_raw(&w, head, sizeof head);
	wr_raw(&w, "a message", 9);
	for (size_t k = 0; k < w.n; k++) {
		unsigned ups = s.a.ups, downs = s.a.downs;
		raw_member(&s.w, &r, s.port, s.third);
		CHECK(raw_send(&s.w, &r, w.p, k) == 0);
		if (k >= hello)
			until(&s.w, s.a.ups == ups + 1);
		(void)shutdown(r.fd, SHUT_WR); /* without a word of TLS */
		raw_until_closed(&s.w, &r);
		raw_close(&r);
		until(&s.w, !s.a.up[3] && gate_inside(s.a.l->gate) == 0);
		CHECK((s.a.ups == ups + 1) == (k >= hello) && s.a.downs - downs == s.a.ups - ups);
		if (k > hello)
			CHECK(strstr(s.a.down_why, "within a message"));
	}
	CHECK(s.a.n_msgs == 0);
	wr_fini(&w);
	stage_end(&s);
}

/* Records of a running connection that are changed on the way, or come twice: TLS notices. */
static void test_records_that_are_changed_or_repeated_end_the_connection(void)
{
	struct stage s;
	stage_begin(&s);
	for (unsigned what = 0; what < 2; what++) {
		struct raw r;
		raw_link(&s.w, &r, s.port, s.third);
		until(&s.w, s.a.up[3]);
		unsigned had = s.a.n_msgs;
		BIO *tap = BIO_new(BIO_s_mem());
		CHECK(tap && BIO_up_ref(SSL_get_rbio(r.ssl)) == 1);
		BIO *socket_bio = SSL_get_rbio(r.ssl);
		SSL_set0_wbio(r.ssl, tap);
		CHECK(raw_frame(&s.w, &r, 200, 0, "once", 4) == 0);
		uint8_t rec[512];
		int n = BIO_read(tap, rec, sizeof rec);
		CHECK(n > 30);
		if (what)
			rec[n - 1] ^= 1;
		struct raw plain = { .fd = r.fd };
		CHECK(raw_send(&s.w, &plain, rec, (size_t)n) == 0);
		if (!what) {
			until(&s.w, s.a.n_msgs == had + 1);
			CHECK(raw_send(&s.w, &plain, rec, (size_t)n) == 0);
		}
		until(&s.w, !s.a.up[3]);
		CHECK(strstr(s.a.down_why, "TLS: ") && s.a.n_msgs == had + !what && !s.a.refused);
		BIO_free(socket_bio);
		raw_close(&r);
	}
	stage_end(&s);
}

/* Little room in the kernel, on both ends of the connection: what it takes is not what is looked at. */
static void buffers_small(const struct raw *r)
{
	struct sockaddr_in own, peer;
	socklen_t n = sizeof own;
	CHECK(getsockname(r->fd, (struct sockaddr *)&own, &n) == 0);
	CHECK(setsockopt(r->fd, SOL_SOCKET, SO_RCVBUF, &(int){ 4096 }, sizeof(int)) == 0);
	unsigned found = 0;
	for (int fd = 3; fd < 1024; fd++) {
		n = sizeof peer;
		if (getpeername(fd, (struct sockaddr *)&peer, &n) == 0 && peer.sin_family == AF_INET && peer.sin_port == own.sin_port) {
			CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ 4096 }, sizeof(int)) == 0);
			found++;
		}
	}
	CHECK(found == 1);
}

/* TLS itself answers a request for new keys. Who asks without end and reads no answer must not fill our memory. */
static void test_requests_for_new_keys_without_end_end_the_connection(void)
{
	struct stage s;
	struct raw r;
	stage_begin(&s);
	raw_link(&s.w, &r, s.port, s.third);
	until(&s.w, s.a.up[3]);
	buffers_small(&r);
	unsigned asked = 0;
	size_t most = 0;
	while (s.a.up[3] && !r.is_over) {
		CHECK(asked < 1000000); /* more than the buffers of both kernels hold, twice */
		ERR_clear_error();
		if (SSL_key_update(r.ssl, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(r.ssl) == 1)
			asked++;
		else if (SSL_get_error(r.ssl, -1) == SSL_ERROR_SYSCALL)
			break;
		else
			world_turn(&s.w); /* the kernel takes no more just now */
		if (asked % 256 == 0)
			world_turn(&s.w);
		most = links_queued(s.a.l, 3) > most ? links_queued(s.a.l, 3) : most;
	}
	until(&s.w, !s.a.up[3]);
	CHECK(strstr(s.a.down_why, "new keys"));
	CHECK(most < 1 << 20);
	raw_close(&r);
	stage_end(&s);
}

/* ---- those that we connect to ---- */

static void test_whom_we_connect_to_must_be_whom_we_want(void)
{
	struct world w;
	struct node a, b;
	char addr[64];
	world_begin(&w);
	node_begin(&w, &a, 2, NULL);
	node_begin(&w, &b, 3, NULL);
	CHECK(links_peer_set(a.l, 3, "127.0.0.1:1", NULL) == 0 && links_peer_set(b.l, 2, "127.0.0.1:1", NULL) == 0);
	(void)snprintf(addr, sizeof addr, "127.0.0.1:%u", links_port(b.l));
	CHECK(links_peer_set(a.l, 1, addr, NULL) == 0); /* there is node 3 */
	until(&w, a.refused);
	CHECK(strstr(a.refused_why, "this is node 3") && !a.up[1]);
	node_end(&w, &a);
	node_end(&w, &b);

	struct world other;
	world_begin(&other);
	node_begin(&other, &a, 2, NULL);
	struct links_config cfg = { .loop = &other.loop, .self = 1, .on_up = NULL };
	struct pki *p;
	struct links *l;
	struct err e;
	CHECK(pki_create_in_memory(1, &p, &e) == 0); /* node 1 of another cluster */
	cfg.pki = p;
	CHECK(links_new(&cfg, &l, &e) == 0 && links_listen(l, "127.0.0.1:0", &e) == 0 && links_peer_set(l, 2, "127.0.0.1:1", &e) == 0);
	(void)snprintf(addr, sizeof addr, "127.0.0.1:%u", links_port(l));
	CHECK(links_peer_set(a.l, 1, addr, NULL) == 0);
	until(&other, a.refused);
	CHECK(strstr(a.refused_why, "certificate refused") && !a.ups);
	links_close(l, NULL, NULL);
	node_end(&other, &a);
	p = pki_free(p);
	world_end(&other);
	world_end(&w);
}

/* ---- what stays ---- */

static void attack(struct stage *s)
{
	struct raw r;
	uint8_t junk[2000];
	memset(junk, 0x5a, sizeof junk);
	for (unsigned i = 0; i < 20; i++) {
		raw_connect(&r, s->port);
		(void)raw_send(&s->w, &r, junk, i * 100);
		(void)shutdown(r.fd, SHUT_WR);
		raw_until_closed(&s->w, &r);
		raw_close(&r);
		raw_member(&s->w, &r, s->port, s->third);
		(void)raw_frame(&s->w, &r, 200, 0, junk, 100);
		raw_until_closed(&s->w, &r);
		raw_close(&r);
		raw_link(&s->w, &r, s->port, s->third);
		(void)raw_frame(&s->w, &r, 200, 0, junk, sizeof junk);
		(void)raw_send(&s->w, &r, junk, FRAME_HEAD);
		raw_until_closed(&s->w, &r);
		raw_close(&r);
	}
	until(&s->w, !s->a.up[3] && gate_inside(s->a.l->gate) == 0);
}

static void test_nothing_stays_of_any_of_it(void)
{
	struct stage s;
	stage_begin(&s);
	attack(&s); /* what is kept for good, by libraries too, is there now */
	attack(&s);
	int fds = world_fds();
	size_t before = mallinfo2().uordblks;
	for (unsigned i = 0; i < 5; i++)
		attack(&s);
	CHECK(world_fds() == fds);
	CHECK(mallinfo2().uordblks < before + 100000); /* 300 connections; with a sanitizer both are 0, and it counts by itself */
	stage_end(&s);
}

int main(void)
{
	TEST(test_bytes_that_are_not_tls_are_refused);
	TEST(test_a_handshake_that_breaks_off_anywhere_is_refused);
	TEST(test_a_session_that_was_listened_to_cannot_be_played_again);
	TEST(test_only_certificates_of_members_are_let_in);
	TEST(test_a_certificate_that_ran_out_is_as_good_as_any);
	TEST(test_other_tls_than_ours_is_refused);
	TEST(test_a_flood_of_connections_is_bounded);
	TEST(test_frames_that_do_not_belong_here_end_the_connection);
	TEST(test_answers_to_what_was_not_asked_are_dropped);
	TEST(test_calls_of_one_peer_are_bounded);
	TEST(test_a_talk_that_breaks_off_anywhere_does_no_harm);
	TEST(test_records_that_are_changed_or_repeated_end_the_connection);
	TEST(test_requests_for_new_keys_without_end_end_the_connection);
	TEST(test_whom_we_connect_to_must_be_whom_we_want);
	TEST(test_nothing_stays_of_any_of_it);
	return 0;
}
