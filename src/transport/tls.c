/* OpenSSL reads and writes through a BIO of our own: it takes what libuv has read from t->in, and what it produces is added to
 * t->out. So nothing in OpenSSL ever blocks, and bytes are copied once.
 *
 *   tls_write -> small (one record) -> SSL_write -> out -> uv_try_write, the rest by uv_write
 *   uv_read -> in -> SSL_do_handshake / SSL_read -> on_data
 *
 * uv_try_write first: in the usual case the kernel takes all at once, without a request and a callback. What fails in a function
 * that the user called is told on the next turn of the loop (t->soon). */
#include "transport/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/chunks.h"

enum {
	RECORD_MAX = 16384,     /* plaintext of one TLS record */
	IN_SIZE = 65536,        /* read from the kernel at once */
	WRITE_BUFS = 16,        /* chunks handed to the kernel at once */
	KEEPALIVE_S = 60,
	REKEY_RECORDS = 1 << 22, /* AES-GCM: 2^24.5 full records under one key (RFC 8446 5.5) */
	UNASKED_MAX = 65536,    /* what TLS itself answers (key updates) to a peer that reads none of it */
};

struct tls {
	uv_tcp_t tcp;
	uv_idle_t soon;
	unsigned n_handles; /* not closed yet */
	SSL_CTX *ssl_ctx;   /* owned reference */
	enum tls_side side;
	SSL *ssl;           /* owned; made when the handshake begins, so that a connection refused at once costs little */
	const struct tls_ops *ops;
	void *ctx;
	struct sockaddr_storage peer;

	uint8_t *in; /* owned, IN_SIZE; NULL when empty */
	size_t in_at, in_n;
	uint8_t *small; /* owned, RECORD_MAX; NULL when empty */
	size_t small_n;
	struct chunks out;
	size_t writing; /* bytes at the head of out that a uv_write has */
	uint64_t added, sent;
	uint64_t records, rekey_after;
	uint64_t unasked; /* bytes added by reading, since out was empty */

	int connected, open, paused, reading;
	int eof, peer_done;          /* TCP ended; the peer said close_notify */
	int shut_wanted, shut_done;
	int fail_soon;               /* -errno to be told on the next turn */
	int ended, closing;
	char why[160];

	uv_connect_t creq;
	uv_write_t wreq;
	uv_shutdown_t sreq;
};

/* ---- the BIO ---- */

static int bio_take(BIO *b, char *p, int n)
{
	struct tls *t = BIO_get_data(b);
	size_t k = t->in_n - t->in_at;
	BIO_clear_retry_flags(b);
	if (!k) {
		BIO_set_retry_read(b);
		return -1;
	}
	if (k > (size_t)n)
		k = (size_t)n;
	memcpy(p, t->in + t->in_at, k);
	t->in_at += k;
	return (int)k;
}

static int bio_give(BIO *b, const char *p, int n)
{
	struct tls *t = BIO_get_data(b);
	BIO_clear_retry_flags(b);
	if (n <= 0 || chunks_add(&t->out, p, (size_t)n) < 0)
		return -1;
	t->added += (size_t)n;
	return n;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	(void)b, (void)num, (void)ptr;
	return cmd == BIO_CTRL_FLUSH;
}

static BIO_METHOD *g_bio; /* one for the process, never freed */

static void bio_setup(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "pando-tls");
	if (m && BIO_meth_set_read(m, bio_take) == 1 && BIO_meth_set_write(m, bio_give) == 1 && BIO_meth_set_ctrl(m, bio_ctrl) == 1)
		g_bio = m;
}

static BIO *bio_new(struct tls *t)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	(void)pthread_once(&once, bio_setup); /* fails for bad arguments only */
	BIO *b = g_bio ? BIO_new(g_bio) : NULL;
	if (b) {
		BIO_set_data(b, t);
		BIO_set_init(b, 1);
	}
	return b;
}

/* ---- ending ---- */

static void tls_end(struct tls *t, int status, const char *why)
{
	if (t->closing || t->ended)
		return;
	if (status < 0) {
		t->ended = 1;
		(void)uv_read_stop((uv_stream_t *)&t->tcp); /* always 0 */
	}
	t->ops->on_end(t->ctx, status, why);
}

/* What OpenSSL has against it, in words. Empties its queue of errors, which is shared by all connections of the thread. */
static const char *ssl_words(struct tls *t)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = ERR_reason_error_string(code);
	long verify = SSL_get_verify_result(t->ssl);
	if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED && verify != X509_V_OK)
		(void)snprintf(t->why, sizeof t->why, "certificate refused: %s", X509_verify_cert_error_string(verify));
	else
		(void)snprintf(t->why, sizeof t->why, "TLS: %s", reason ? reason : "failed");
	ERR_clear_error();
	return t->why;
}

static void soon_cb(uv_idle_t *h);

static void soon(struct tls *t)
{
	if (!t->closing)
		(void)uv_idle_start(&t->soon, soon_cb); /* always 0 */
}

static void fail_soon(struct tls *t, int status)
{
	if (!t->fail_soon)
		t->fail_soon = status;
	soon(t);
}

/* ---- writing ---- */

static void write_cb(uv_write_t *req, int status);

static void out_write(struct tls *t)
{
	uv_buf_t bufs[WRITE_BUFS];
	size_t n = 0;
	unsigned k = chunks_peek(&t->out, bufs, WRITE_BUFS);
	for (unsigned i = 0; i < k; i++)
		n += bufs[i].len;
	int rc = uv_write(&t->wreq, (uv_stream_t *)&t->tcp, bufs, k, write_cb);
	if (rc < 0)
		fail_soon(t, rc);
	else
		t->writing = n;
}

static void shutdown_cb(uv_shutdown_t *req, int status)
{
	(void)req, (void)status; /* a failure shows when reading */
}

static void out_shut(struct tls *t)
{
	if (!t->shut_wanted || t->shut_done || t->out.n)
		return;
	t->shut_done = 1;
	int rc = uv_shutdown(&t->sreq, (uv_stream_t *)&t->tcp, shutdown_cb);
	if (rc < 0)
		fail_soon(t, rc);
}

static void out_flush(struct tls *t)
{
	if (!t->connected || t->writing || t->ended || t->fail_soon)
		return;
	while (t->out.n) {
		uv_buf_t bufs[WRITE_BUFS];
		size_t n = 0;
		unsigned k = chunks_peek(&t->out, bufs, WRITE_BUFS);
		for (unsigned i = 0; i < k; i++)
			n += bufs[i].len;
		int rc = uv_try_write((uv_stream_t *)&t->tcp, bufs, k);
		if (rc > 0) {
			t->sent += (size_t)rc;
			chunks_drop(&t->out, (size_t)rc);
		}
		if (rc < 0 || (size_t)rc < n) {
			out_write(t); /* waits for room; tells of an error by its callback */
			return;
		}
	}
	out_shut(t);
}

static void write_cb(uv_write_t *req, int status)
{
	struct tls *t = req->data;
	size_t n = t->writing;

	t->writing = 0;
	if (t->closing)
		return;
	if (status < 0) {
		tls_end(t, status, uv_strerror(status));
		return;
	}
	t->sent += n;
	chunks_drop(&t->out, n);
	out_flush(t);
	if (t->ops->on_sent)
		t->ops->on_sent(t->ctx);
}

/* Makes one record of n bytes. */
static int record_write(struct tls *t, const uint8_t *p, size_t n)
{
	size_t done = 0;
	if (++t->records > t->rekey_after) {
		t->records = 0;
		(void)SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED); /* goes out with the next record, or that fails */
	}
	ERR_clear_error();
	if (SSL_write_ex(t->ssl, p, n, &done) != 1 || done != n) {
		(void)ssl_words(t);
		fail_soon(t, -EPROTO);
		return -EPIPE;
	}
	return 0;
}

static int small_flush(struct tls *t)
{
	if (!t->small_n)
		return 0;
	int rc = record_write(t, t->small, t->small_n);
	free(t->small);
	t->small = NULL;
	t->small_n = 0;
	return rc;
}

int tls_write(struct tls *t, const void *p, size_t n)
{
	const uint8_t *at = p;

	if (!t->open || t->ended || t->closing || t->fail_soon || t->shut_wanted)
		return -EPIPE;
	while (n) {
		if (!t->small_n && n >= RECORD_MAX) {
			int rc = record_write(t, at, RECORD_MAX);
			if (rc < 0)
				return rc;
			at += RECORD_MAX;
			n -= RECORD_MAX;
			continue;
		}
		if (!t->small && !(t->small = malloc(RECORD_MAX)))
			return -ENOMEM;
		size_t k = RECORD_MAX - t->small_n < n ? RECORD_MAX - t->small_n : n;
		memcpy(t->small + t->small_n, at, k);
		t->small_n += k;
		at += k;
		n -= k;
		if (t->small_n == RECORD_MAX) {
			int rc = small_flush(t);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

void tls_flush(struct tls *t)
{
	if (t->ended || t->closing)
		return;
	(void)small_flush(t); /* a failure is told soon */
	out_flush(t);
}

uint64_t tls_mark(struct tls *t)
{
	tls_flush(t);
	return t->added;
}

uint64_t tls_sent(const struct tls *t)
{
	return t->sent;
}

size_t tls_queued(const struct tls *t)
{
	return t->out.n + t->small_n;
}

void tls_rekey_after(struct tls *t, uint64_t records)
{
	t->rekey_after = records;
}

void tls_shutdown(struct tls *t)
{
	if (t->shut_wanted || t->ended || t->closing)
		return;
	(void)small_flush(t); /* a failure is told soon */
	t->shut_wanted = 1;
	ERR_clear_error();
	if (t->open)
		(void)SSL_shutdown(t->ssl); /* 0: ours is sent; -1: the connection is broken, which reading will show */
	ERR_clear_error();
	out_flush(t);
}

/* ---- reading ---- */

static int handshake(struct tls *t)
{
	ERR_clear_error();
	int rc = SSL_do_handshake(t->ssl);
	out_flush(t); /* the alert too, if it failed */
	if (rc == 1) {
		t->open = 1;
		t->ops->on_open(t->ctx);
		return !t->closing && !t->ended;
	}
	if (SSL_get_error(t->ssl, rc) != SSL_ERROR_WANT_READ)
		tls_end(t, -EPROTO, ssl_words(t));
	return 0;
}

/* One record. 1: there may be more. */
static int record_read(struct tls *t)
{
	uint8_t buf[RECORD_MAX];
	size_t n = 0;

	ERR_clear_error();
	uint64_t before = t->added;
	int rc = SSL_read_ex(t->ssl, buf, sizeof buf, &n);
	t->unasked += t->added - before;
	if (rc == 1) {
		t->ops->on_data(t->ctx, buf, n);
		return 1;
	}
	int why = SSL_get_error(t->ssl, rc);
	if (why == SSL_ERROR_ZERO_RETURN) {
		t->peer_done = 1;
		tls_end(t, 0, "closed by the other side");
	} else if (why != SSL_ERROR_WANT_READ) {
		out_flush(t);
		tls_end(t, -EPROTO, ssl_words(t));
	}
	return 0;
}

/* Lets OpenSSL have what has come. */
static void pump(struct tls *t)
{
	int more = t->open || handshake(t);
	while (more && !t->closing && !t->ended && !t->peer_done && !t->paused)
		more = record_read(t);
	if (t->closing || t->ended)
		return;
	if (t->in_at == t->in_n) {
		free(t->in);
		t->in = NULL;
		t->in_at = t->in_n = 0;
	}
	out_flush(t); /* answers of TLS itself, as to a key update */
	if (!t->out.n)
		t->unasked = 0;
	if (t->unasked > UNASKED_MAX) {
		tls_end(t, -EPROTO, "asks for new keys without end");
		return;
	}
	if (t->eof && !t->peer_done && !t->paused)
		tls_end(t, -ECONNRESET, "connection lost");
}

static void alloc_cb(uv_handle_t *h, size_t suggested, uv_buf_t *ret)
{
	struct tls *t = h->data;
	(void)suggested;
	if (!t->in)
		t->in = malloc(IN_SIZE);
	if (t->in && t->in_at) {
		memmove(t->in, t->in + t->in_at, t->in_n - t->in_at);
		t->in_n -= t->in_at;
		t->in_at = 0;
	}
	*ret = t->in ? uv_buf_init((char *)t->in + t->in_n, (unsigned)(IN_SIZE - t->in_n)) : uv_buf_init(NULL, 0);
}

static void read_cb(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct tls *t = s->data;
	(void)buf;
	if (t->closing || t->ended || n == 0)
		return;
	if (n > 0) {
		t->in_n += (size_t)n;
		pump(t);
	} else if (n == UV_EOF) {
		t->eof = 1;
		pump(t);
	} else {
		tls_end(t, (int)n, n == UV_ENOBUFS ? "out of memory" : uv_strerror((int)n));
	}
}

static int reading_set(struct tls *t, int on)
{
	if (t->reading == on || !t->connected || t->ended || t->eof)
		return 0;
	t->reading = on;
	return on ? uv_read_start((uv_stream_t *)&t->tcp, alloc_cb, read_cb) : uv_read_stop((uv_stream_t *)&t->tcp);
}

void tls_pause(struct tls *t, int pause)
{
	if (t->closing || t->paused == !!pause)
		return;
	t->paused = !!pause;
	if (t->paused)
		(void)reading_set(t, 0); /* stopping always works */
	else
		soon(t);
}

static void soon_cb(uv_idle_t *h)
{
	struct tls *t = h->data;
	(void)uv_idle_stop(&t->soon); /* always 0 */
	if (t->closing || t->ended)
		return;
	if (t->fail_soon) {
		tls_end(t, t->fail_soon, t->why[0] ? t->why : uv_strerror(t->fail_soon));
		return;
	}
	if (t->paused || !t->connected)
		return;
	int rc = reading_set(t, 1);
	if (rc < 0)
		tls_end(t, rc, uv_strerror(rc));
	else
		pump(t);
}

/* ---- opening and closing ---- */

int tls_new(uv_loop_t *loop, SSL_CTX *ssl_ctx, enum tls_side side, const struct tls_ops *ops, void *ctx, struct tls **ret)
{
	struct tls *t = calloc(1, sizeof *t);
	if (!t || uv_tcp_init(loop, &t->tcp) < 0 || SSL_CTX_up_ref(ssl_ctx) != 1) {
		free(t);
		return -ENOMEM;
	}
	(void)uv_idle_init(loop, &t->soon); /* always 0 */
	t->n_handles = 2;
	t->ssl_ctx = ssl_ctx;
	t->side = side;
	t->ops = ops;
	t->ctx = ctx;
	t->rekey_after = REKEY_RECORDS;
	t->tcp.data = t->soon.data = t->creq.data = t->wreq.data = t->sreq.data = t;
	*ret = t;
	return 0;
}

static int ssl_make(struct tls *t)
{
	BIO *b = bio_new(t);
	SSL *ssl = b ? SSL_new(t->ssl_ctx) : NULL;
	if (!ssl) {
		ERR_clear_error();
		BIO_free(b);
		return -ENOMEM;
	}
	SSL_set_bio(ssl, b, b);
	if (t->side == TLS_SERVER)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	t->ssl = ssl;
	return 0;
}

int tls_accept(struct tls *t, uv_stream_t *listener)
{
	int len = sizeof t->peer;
	int rc = uv_accept(listener, (uv_stream_t *)&t->tcp);
	if (rc == 0)
		rc = uv_tcp_getpeername(&t->tcp, (struct sockaddr *)&t->peer, &len);
	return rc;
}

int tls_start(struct tls *t)
{
	int rc = ssl_make(t);
	if (rc < 0)
		return rc;
	t->connected = 1;
	(void)uv_tcp_nodelay(&t->tcp, 1);                /* without it: slower, not wrong */
	(void)uv_tcp_keepalive(&t->tcp, 1, KEEPALIVE_S); /* likewise */
	return reading_set(t, 1);
}

static void connect_cb(uv_connect_t *req, int status)
{
	struct tls *t = req->data;
	if (t->closing)
		return;
	int rc = status < 0 ? status : tls_start(t);
	if (rc < 0)
		tls_end(t, rc, uv_strerror(rc));
	else
		(void)handshake(t);
}

int tls_connect(struct tls *t, const struct sockaddr *to)
{
	memcpy(&t->peer, to, to->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
	return uv_tcp_connect(&t->creq, &t->tcp, to, connect_cb);
}

static void closed_cb(uv_handle_t *h)
{
	struct tls *t = h->data;
	if (--t->n_handles)
		return;
	void (*on_closed)(void *ctx) = t->ops->on_closed;
	void *ctx = t->ctx;
	SSL_free(t->ssl);
	SSL_CTX_free(t->ssl_ctx);
	chunks_fini(&t->out);
	free(t->in);
	if (t->small)
		OPENSSL_cleanse(t->small, t->small_n);
	free(t->small);
	free(t);
	on_closed(ctx);
}

void tls_close(struct tls *t)
{
	if (t->closing)
		return;
	t->closing = 1;
	uv_close((uv_handle_t *)&t->tcp, closed_cb);
	uv_close((uv_handle_t *)&t->soon, closed_cb);
}

int tls_is_connected(const struct tls *t)
{
	return t->connected;
}

const SSL *tls_ssl(const struct tls *t)
{
	return t->ssl;
}

const struct sockaddr *tls_peer(const struct tls *t)
{
	return (const struct sockaddr *)&t->peer;
}
