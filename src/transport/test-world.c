#include "test-world.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "transport/pki_int.h"

/* ---- certificates ---- */

static struct pki *member_new(const struct pki *ca, uint16_t node, int expired)
{
	struct pki *p = calloc(1, sizeof *p);
	struct err e;
	CHECK(p && X509_up_ref(ca->ca) == 1 && EVP_PKEY_up_ref(ca->ca_key) == 1);
	p->ca = ca->ca;
	p->ca_key = ca->ca_key;
	CHECK(cert_key_new(&p->key, &e) == 0);
	CHECK(cert_new(p->key, ca->cluster, node, ca->ca, ca->ca_key, &p->cert, &e) == 0);
	if (expired) {
		CHECK(X509_gmtime_adj(X509_getm_notBefore(p->cert), -200000L) && X509_gmtime_adj(X509_getm_notAfter(p->cert), -100000L));
		CHECK(X509_sign(p->cert, ca->ca_key, EVP_sha256()) > 0);
	}
	CHECK(pki_check(p, &e) == 0);
	return p;
}

struct pki *world_member(const struct pki *ca, uint16_t node)
{
	return member_new(ca, node, 0);
}

struct pki *world_member_expired(const struct pki *ca, uint16_t node)
{
	return member_new(ca, node, 1);
}

/* ---- the loop ---- */

static void pace_cb(uv_timer_t *t)
{
	(void)t;
}

int world_fds(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/fd");
	CHECK(d);
	while (readdir(d))
		n++;
	(void)closedir(d);
	return n;
}

uint64_t world_clock(void)
{
	return clock_ms();
}

void world_begin(struct world *w)
{
	struct err e;
	(void)signal(SIGPIPE, SIG_IGN);
	memset(w, 0, sizeof *w);
	CHECK(uv_loop_init(&w->loop) == 0 && uv_loop_close(&w->loop) == 0); /* the first one opens what the process keeps */
	w->fds = world_fds();
	CHECK(uv_loop_init(&w->loop) == 0 && uv_timer_init(&w->loop, &w->pace) == 0);
	CHECK(uv_timer_start(&w->pace, pace_cb, 2, 2) == 0);
	CHECK(pki_create_in_memory(1, &w->ca, &e) == 0);
}

void world_end(struct world *w)
{
	uv_close((uv_handle_t *)&w->pace, NULL);
	CHECK(uv_run(&w->loop, UV_RUN_DEFAULT) == 0);
	CHECK(uv_loop_close(&w->loop) == 0);
	w->ca = pki_free(w->ca);
	CHECK(world_fds() == w->fds);
}

void world_turn(struct world *w)
{
	(void)uv_run(&w->loop, UV_RUN_ONCE);
}

/* ---- nodes ---- */

static void on_up(void *ctx, uint16_t node)
{
	struct node *n = ctx;
	CHECK(!n->up[node] && links_is_up(n->l, node));
	n->up[node] = 1;
	n->ups++;
}

static void on_down(void *ctx, uint16_t node, const char *why)
{
	struct node *n = ctx;
	CHECK(n->up[node]);
	n->up[node] = 0;
	n->downs++;
	(void)snprintf(n->down_why, sizeof n->down_why, "%s", why);
	if (n->on_down)
		n->on_down(n, node);
}

static void on_heard(void *ctx, uint16_t node)
{
	struct node *n = ctx;
	CHECK(n->up[node]);
	n->heard++;
}

static void on_refused(void *ctx, const char *from, const char *why)
{
	struct node *n = ctx;
	n->refused++;
	(void)snprintf(n->refused_from, sizeof n->refused_from, "%s", from);
	(void)snprintf(n->refused_why, sizeof n->refused_why, "%s", why);
}

static void on_message(void *ctx, uint16_t from, const uint8_t *p, size_t size)
{
	struct node *n = ctx;
	CHECK(from == n->id || n->up[from]);
	n->n_msgs++;
	n->sum = n->sum * 1000003 + size + (size ? p[0] + p[size / 2] * 3u + p[size - 1] * 7u : 0u);
}

void node_begin(struct world *w, struct node *n, uint16_t id, const struct links_config *cfg)
{
	struct err e;
	memset(n, 0, sizeof *n);
	n->id = id;
	n->pki = world_member(w->ca, id);
	struct links_config c = { .loop = &w->loop, .pki = n->pki, .self = id, .ctx = n, .on_up = on_up, .on_down = on_down,
				  .on_heard = on_heard, .on_refused = on_refused };
	if (cfg) {
		c.heartbeat_ms = cfg->heartbeat_ms;
		c.silence_ms = cfg->silence_ms;
	}
	CHECK(links_new(&c, &n->l, &e) == 0);
	links_handle(n->l, 200, on_message, n);
	CHECK(links_listen(n->l, "127.0.0.1:0", &e) == 0);
}

static void on_closed(void *ctx)
{
	((struct node *)ctx)->closed++;
}

void node_end(struct world *w, struct node *n)
{
	if (n->l)
		links_close(n->l, on_closed, n);
	n->l = NULL;
	until(w, n->closed);
	CHECK(n->closed == 1);
	n->pki = pki_free(n->pki);
}

void node_knows(struct node *a, const struct node *b)
{
	char addr[64];
	struct err e;
	(void)snprintf(addr, sizeof addr, "127.0.0.1:%u", links_port(b->l));
	CHECK(links_peer_set(a->l, b->id, addr, &e) == 0);
}

void node_pair(struct world *w, struct node *a, struct node *b)
{
	node_knows(a, b);
	node_knows(b, a);
	until(w, a->up[b->id] && b->up[a->id]);
}

/* ---- raw peers ---- */

void raw_connect(struct raw *r, uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	*r = (struct raw){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	CHECK(r->fd >= 0 && connect(r->fd, (struct sockaddr *)&in, sizeof in) == 0);
	CHECK(fcntl(r->fd, F_SETFL, O_NONBLOCK) == 0 && setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) == 0);
}

/* What an SSL call says: 1: again; 0: it is over. */
static int raw_again(struct raw *r, int rc)
{
	int why = SSL_get_error(r->ssl, rc);
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
		return 1;
	const char *words = ERR_reason_error_string(ERR_peek_last_error());
	(void)snprintf(r->why, sizeof r->why, "%s", words ? words : "closed");
	ERR_clear_error();
	r->is_over = 1;
	return 0;
}

int raw_tls(struct world *w, struct raw *r, SSL_CTX *ctx)
{
	int rc;
	r->ssl = SSL_new(ctx);
	CHECK(r->ssl && SSL_set_fd(r->ssl, r->fd) == 1);
	SSL_set_mode(r->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	ERR_clear_error();
	while ((rc = SSL_connect(r->ssl)) != 1) {
		if (!raw_again(r, rc))
			return -1;
		world_turn(w);
	}
	return 0;
}

void raw_member(struct world *w, struct raw *r, uint16_t port, const struct pki *p)
{
	SSL_CTX *ctx;
	struct err e;
	CHECK(pki_client_ctx(p, PKI_USE_LINK, &ctx, &e) == 0);
	raw_connect(r, port);
	CHECK(raw_tls(w, r, ctx) == 0);
	SSL_CTX_free(ctx);
}

void raw_link(struct world *w, struct raw *r, uint16_t port, const struct pki *p)
{
	struct frame fr;
	uint8_t buf[64];
	raw_member(w, r, port, p);
	CHECK(raw_hello(w, r, FRAME_HELLO_VERSION, pki_node(p), 500) == 0);
	CHECK(raw_next(w, r, &fr, buf, sizeof buf) == 0 && fr.type == FRAME_HELLO && fr.n == FRAME_HELLO_SIZE);
}

int raw_send(struct world *w, struct raw *r, const void *p, size_t n)
{
	const uint8_t *at = p;
	while (n && !r->is_over) {
		ERR_clear_error();
		int k = r->ssl ? SSL_write(r->ssl, at, (int)n) : (int)send(r->fd, at, n, MSG_NOSIGNAL);
		if (k > 0) {
			at += k;
			n -= (size_t)k;
		} else if (r->ssl ? raw_again(r, k) : errno == EAGAIN) {
			world_turn(w);
		} else {
			r->is_over = 1;
		}
	}
	return r->is_over ? -1 : 0;
}

int raw_frame(struct world *w, struct raw *r, uint16_t type, uint64_t call, const void *p, size_t n)
{
	uint8_t head[FRAME_HEAD];
	frame_head(head, type, call, (uint32_t)n);
	int rc = raw_send(w, r, head, sizeof head);
	return rc == 0 && n ? raw_send(w, r, p, n) : rc;
}

int raw_hello(struct world *w, struct raw *r, uint16_t version, uint16_t node, uint32_t heartbeat_ms)
{
	struct wr b = { 0 };
	frame_hello_encode(&b, &(struct frame_hello){ version, node, heartbeat_ms });
	int rc = raw_frame(w, r, FRAME_HELLO, 0, b.p, b.n);
	wr_fini(&b);
	return rc;
}

size_t raw_read(struct raw *r, uint8_t *p, size_t n)
{
	if (r->is_over)
		return 0;
	ERR_clear_error();
	ssize_t k = r->ssl ? SSL_read(r->ssl, p, (int)n) : recv(r->fd, p, n, 0);
	if (k > 0)
		return (size_t)k;
	if (r->ssl ? !raw_again(r, (int)k) : k == 0 || errno != EAGAIN)
		r->is_over = 1;
	return 0;
}

static int raw_exactly(struct world *w, struct raw *r, uint8_t *p, size_t n)
{
	for (size_t at = 0; at < n;) {
		size_t k = raw_read(r, p + at, n - at);
		at += k;
		if (r->is_over)
			return -1;
		if (!k)
			world_turn(w);
	}
	return 0;
}

int raw_next(struct world *w, struct raw *r, struct frame *ret, uint8_t *p, size_t n)
{
	do {
		uint8_t head[FRAME_HEAD];
		struct rd d;
		if (raw_exactly(w, r, head, sizeof head) < 0)
			return -1;
		rd_init(&d, head, sizeof head);
		ret->n = rd_u32(&d);
		ret->type = rd_u16(&d);
		ret->call = rd_u64(&d);
		ret->p = p;
		CHECK(ret->n <= n);
		if (raw_exactly(w, r, p, ret->n) < 0)
			return -1;
	} while (ret->type == FRAME_HEARTBEAT);
	return 0;
}

void raw_until_closed(struct world *w, struct raw *r)
{
	uint8_t buf[4096];
	uint64_t end = world_clock() + WORLD_LIMIT_MS;
	while (!r->is_over) {
		if (!raw_read(r, buf, sizeof buf))
			world_turn(w);
		CHECK(world_clock() < end);
	}
}

void raw_close(struct raw *r)
{
	SSL_free(r->ssl);
	(void)close(r->fd);
	*r = (struct raw){ .fd = -1 };
}
