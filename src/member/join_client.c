/* The new machine's side of joining; blocking. The protocol: member/join.h. */
#include "member/join.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "transport/frame.h"

enum {
	ASK_MS = 15000,    /* one member: connecting and the answer */
	CONNECT_MS = 4000, /* one address of it */
	ROUNDS = 3,        /* through all addresses, while they say "later" */
	ROUND_MS = 1000,
};

/* ---- one question to one member ---- */

struct ask {
	uint64_t deadline_ms;
	struct wr answer;
	bool have;
};

static int left_ms(const struct ask *k)
{
	uint64_t now = clock_ms();
	return now >= k->deadline_ms ? 0 : (int)(k->deadline_ms - now);
}

/* Splits host:port; brackets go. */
static int addr_split(const char *addr, char host[static CLUSTER_ADDR_SIZE], const char **ret_port)
{
	const char *colon = strrchr(addr, ':');
	if (!colon)
		return -EINVAL;
	size_t n = (size_t)(colon - addr);
	if (n >= 2 && addr[0] == '[' && addr[n - 1] == ']') {
		addr++;
		n -= 2;
	}
	memcpy(host, addr, n);
	host[n] = 0;
	*ret_port = colon + 1;
	return 0;
}

static int connect_one(const struct addrinfo *ai, int *ret_fd)
{
	_cleanup_(close_p) int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
		if (errno != EINPROGRESS)
			return -errno;
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		int n = poll(&p, 1, CONNECT_MS);
		int soerr = 0;
		socklen_t len = sizeof soerr;
		if (n == 0)
			return -ETIMEDOUT;
		if (n < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &soerr, &len) < 0)
			return -errno;
		if (soerr)
			return -soerr;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

static int connect_any(const char *addr, int *ret_fd, struct err *e)
{
	char host[CLUSTER_ADDR_SIZE];
	const char *port;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *all = NULL;
	int rc = addr_split(addr, host, &port);
	if (rc < 0)
		return err_set(e, rc, "%s is not host:port", addr);
	int gai = getaddrinfo(host, port, &hints, &all);
	if (gai != 0)
		return err_set(e, -EHOSTUNREACH, "%s: %s", addr, gai_strerror(gai));
	rc = -EHOSTUNREACH;
	for (const struct addrinfo *ai = all; ai; ai = ai->ai_next)
		if ((rc = connect_one(ai, ret_fd)) == 0)
			break;
	freeaddrinfo(all);
	return rc < 0 ? err_set(e, rc, "%s: %s", addr, strerror(-rc)) : 0;
}

/* Waits until the connection can go on after an SSL call gave rc. */
static int ssl_wait(const struct ask *k, SSL *ssl, int rc, struct err *e)
{
	int why = SSL_get_error(ssl, rc);
	short events = why == SSL_ERROR_WANT_READ ? POLLIN : why == SSL_ERROR_WANT_WRITE ? POLLOUT : 0;
	if (!events) {
		unsigned long code = ERR_peek_error();
		const char *words = code ? ERR_reason_error_string(code) : NULL;
		ERR_clear_error();
		long verify = SSL_get_verify_result(ssl);
		if (verify != X509_V_OK)
			return err_set(e, -EKEYREJECTED, "it is not of the cluster that the token is for");
		return err_set(e, -ECONNRESET, "it closed the connection%s%s", words ? ": " : "", words ? words : "");
	}
	struct pollfd p = { .fd = SSL_get_fd(ssl), .events = events };
	int n = poll(&p, 1, left_ms(k));
	if (n < 0 && errno != EINTR)
		return err_set(e, -errno, "poll: %m");
	return n == 0 ? err_set(e, -ETIMEDOUT, "no answer in time") : 0;
}

static int ask_frame(void *ctx, const struct frame *fr)
{
	struct ask *k = ctx;
	if (fr->type != FRAME_JOIN || k->have)
		return -EBADMSG;
	wr_raw(&k->answer, fr->p, fr->n);
	k->have = true;
	return 0;
}

static int ask_talk(struct ask *k, SSL *ssl, const struct wr *request, struct err *e)
{
	int rc;
	while ((rc = SSL_connect(ssl)) <= 0)
		if ((rc = ssl_wait(k, ssl, rc, e)) < 0)
			return rc;
	if (pki_use_of(ssl) != PKI_USE_JOIN)
		return err_set(e, -EPROTO, "it does not take machines that join");

	_cleanup_(wr_fini) struct wr out = { 0 };
	uint8_t head[FRAME_HEAD];
	frame_head(head, FRAME_JOIN, 0, (uint32_t)request->n);
	wr_raw(&out, head, sizeof head);
	wr_raw(&out, request->p, request->n);
	if (wr_done(&out) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	while ((rc = SSL_write(ssl, out.p, (int)out.n)) <= 0) /* whole or not at all: partial writes are not enabled */
		if ((rc = ssl_wait(k, ssl, rc, e)) < 0)
			return rc;

	struct frame_in in = { .max = LINK_JOIN_ANS_MAX };
	uint8_t buf[16384];
	while (!k->have) {
		int n = SSL_read(ssl, buf, sizeof buf);
		rc = n > 0 ? frame_in_feed(&in, buf, (size_t)n, ask_frame, k) : ssl_wait(k, ssl, n, e);
		if (rc < 0) {
			if (n > 0)
				err_set(e, rc, "what it answers is not well formed");
			break;
		}
	}
	explicit_bzero(buf, sizeof buf);
	frame_in_fini(&in);
	return k->have ? wr_done(&k->answer) : rc;
}

static int ask_member(const char *addr, const struct token *t, const struct wr *request, struct ask *k, struct err *e)
{
	_cleanup_(close_p) int fd = -1;
	k->deadline_ms = clock_ms() + ASK_MS;
	int rc = connect_any(addr, &fd, e);
	if (rc < 0)
		return rc;

	SSL_CTX *ctx = NULL;
	rc = pki_join_ctx(t->fingerprint, &ctx, e);
	if (rc < 0)
		return rc;
	SSL *ssl = SSL_new(ctx);
	if (!ssl || SSL_set_fd(ssl, fd) != 1)
		rc = err_set(e, -ENOMEM, "out of memory");
	else
		rc = ask_talk(k, ssl, request, e);
	if (rc < 0)
		err_wrap(e, rc, "%s", addr);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return rc;
}

/* ---- joining ---- */

static void ask_fini(struct ask *k)
{
	if (k->answer.p)
		explicit_bzero(k->answer.p, k->answer.n); /* the CA's key */
	wr_fini(&k->answer);
}

static int request_make(const struct token *t, const struct member_identity *self, const struct pki_csr *csr, struct wr *w, struct err *e)
{
	struct join_request q = { .cpus = self->cpus, .memory = self->memory };
	const char *stream = self->stream_addr ? self->stream_addr : "";
	if (cluster_name_check(self->name, e) < 0)
		return -EINVAL;
	if (self->addr[0] != ':' && cluster_addr_check(self->addr, e) < 0)
		return -EINVAL;
	if (strlen(self->addr) >= sizeof q.addr || strlen(stream) >= sizeof q.stream_addr)
		return err_set(e, -EINVAL, "address too long");
	strcpy(q.name, self->name); /* checked to fit */
	strcpy(q.addr, self->addr);
	strcpy(q.stream_addr, stream);
	memcpy(q.secret, t->secret, sizeof q.secret);
	if (getrandom(&q.nonce, sizeof q.nonce, 0) != sizeof q.nonce)
		return err_set(e, -EIO, "no random numbers");
	q.csr = pki_csr_bytes(csr, &q.csr_n);
	join_request_encode(&q, w);
	return wr_done(w) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
}

/* Whether another member, or the same one later, may say something else. */
static bool is_passing(int status)
{
	return status == -EAGAIN || status == -ETIMEDOUT || status == -ECANCELED || status == -ENOBUFS || status == -ENOMEM;
}

static int ask_all(const struct token *t, const struct wr *request, struct ask *k, struct join_answer *ret, struct err *e)
{
	int rc = -ECONNREFUSED;
	for (unsigned round = 0; round < ROUNDS; round++) {
		if (round)
			(void)poll(NULL, 0, ROUND_MS);
		for (unsigned i = 0; i < t->n_addrs; i++) {
			ask_fini(k);
			*k = (struct ask){ 0 };
			rc = ask_member(t->addrs[i], t, request, k, e);
			if (rc < 0)
				continue;
			rc = join_answer_decode(k->answer.p, k->answer.n, ret);
			if (rc < 0)
				return err_set(e, rc, "%s: what it answers is not well formed (another version of pando?)", t->addrs[i]);
			if (ret->status == 0)
				return 0;
			rc = err_set(e, ret->status, "%s: %s", t->addrs[i], ret->words);
			if (!is_passing(rc))
				return rc;
		}
	}
	return rc;
}

/* The state first, the certificate last: without it there is no membership. */
static int install(const char *state_dir, const struct token *t, const struct pki_csr *csr, const struct join_answer *a, struct err *e)
{
	_cleanup_(free_p) struct cluster *c = calloc(1, sizeof *c);
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	int rc = cluster_decode(c, a->cluster, a->cluster_n);
	if (rc < 0 || !cluster_member(c, a->node))
		return err_set(e, -EBADMSG, "the state of the cluster that the member sent is damaged");
	bool made = mkdir(state_dir, 0700) == 0;
	if (!made && errno != EEXIST)
		return err_set(e, -errno, "make %s: %m", state_dir);
	_cleanup_(pki_free_p) struct pki *pki = NULL;
	rc = member_state_write(state_dir, c, e);
	if (rc == 0)
		rc = pki_install(state_dir, csr, t->fingerprint, a->ca, a->ca_n, a->cert, a->cert_n, &pki, e);
	if (rc == 0 && pki_node(pki) != a->node)
		rc = err_set(e, -EBADMSG, "the certificate is for node %u, not %u", pki_node(pki), a->node);
	if (rc < 0) {
		char path[PATH_MAX];
		struct err other;
		if (rc != -EEXIST && pki_remove(state_dir, &other) < 0)
			log_debug("join: after a failure: %s", other.text); /* the failure itself is what counts */
		if (rc != -EEXIST && (size_t)snprintf(path, sizeof path, "%s/cluster", state_dir) < sizeof path)
			(void)unlink(path); /* the same */
		if (made)
			(void)rmdir(state_dir); /* the same */
	}
	return rc;
}

int join_cluster(const char *text, const char *state_dir, const struct member_identity *self, uint16_t *ret_node, struct err *e)
{
	struct token t;
	char path[PATH_MAX];
	int rc = token_decode(text, &t, e);
	if (rc < 0)
		return rc;
	/* Asked first: a token is not to be used up in vain. */
	if ((size_t)snprintf(path, sizeof path, "%s/node.crt", state_dir) >= sizeof path)
		return err_set(e, -ENAMETOOLONG, "%s: path too long", state_dir);
	if (access(path, F_OK) == 0)
		return err_set(e, -EEXIST, "%s holds a membership already", state_dir);

	_cleanup_(pki_csr_free_p) struct pki_csr *csr = NULL;
	_cleanup_(wr_fini) struct wr request = { 0 };
	struct ask k = { 0 };
	struct join_answer a;
	rc = pki_csr_new(&csr, e);
	if (rc == 0)
		rc = request_make(&t, self, csr, &request, e);
	if (rc == 0)
		rc = ask_all(&t, &request, &k, &a, e);
	if (rc == 0)
		rc = install(state_dir, &t, csr, &a, e);
	if (rc == 0)
		*ret_node = a.node;
	ask_fini(&k);
	explicit_bzero(&t, sizeof t);
	return rc;
}
