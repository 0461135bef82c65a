/* TLS contexts of the cluster's certificates, and what a finished handshake says about the peer. */
#include "transport/pki_int.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>

#include "base/cleanup.h"
#include "wire/rd.h"

static const struct {
	enum pki_use use;
	const char *alpn;
} uses[] = {
	{ PKI_USE_LINK, "pando-link/1" },
	{ PKI_USE_STREAM, "pando-stream/1" },
	{ PKI_USE_JOIN, "pando-join/1" },
};

static void ctx_free_p(SSL_CTX **c)
{
	SSL_CTX_free(*c);
}

static const char *alpn_of(enum pki_use use)
{
	for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
		if (uses[i].use == use)
			return uses[i].alpn;
	return "";
}

/* Whether the list of a client (u8 length and name, ...) has the name of use; *ret is then that entry, in the list. */
static int alpn_find(const unsigned char *list, unsigned n, enum pki_use use, const unsigned char **ret, unsigned char *ret_n)
{
	const char *want = alpn_of(use);
	struct rd r;
	rd_init(&r, list, n);
	while (r.n && !r.bad) {
		uint8_t len = rd_u8(&r);
		const uint8_t *p = rd_raw(&r, len);
		if (p && len == strlen(want) && memcmp(p, want, len) == 0) {
			*ret = p;
			*ret_n = len;
			return 1;
		}
	}
	return 0;
}

static int alpn_stream(SSL *ssl, const unsigned char **out, unsigned char *out_n, const unsigned char *in, unsigned in_n, void *arg)
{
	return alpn_find(in, in_n, PKI_USE_STREAM, out, out_n) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Links and joins come to one port. The default is a link, with the client's certificate required; only a client that asks for a
 * join, and for no link, is let through without. It gets the CA certificate along, which it knows by the fingerprint only. */
static int alpn_link(SSL *ssl, const unsigned char **out, unsigned char *out_n, const unsigned char *in, unsigned in_n, void *arg)
{
	struct pki *p = arg;
	if (alpn_find(in, in_n, PKI_USE_LINK, out, out_n))
		return SSL_TLSEXT_ERR_OK;
	if (!alpn_find(in, in_n, PKI_USE_JOIN, out, out_n) || SSL_add1_chain_cert(ssl, p->ca) != 1)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
	return SSL_TLSEXT_ERR_OK;
}

/* What all contexts have in common. No tickets and no cache: a session is never resumed, so each connection proves its identity,
 * and nothing of a connection can be replayed. */
static SSL_CTX *ctx_new(const SSL_METHOD *method)
{
	_cleanup_(ctx_free_p) SSL_CTX *c = SSL_CTX_new(method);
	if (!c || SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") != 1 ||
	    SSL_CTX_set1_groups_list(c, "X25519:P-256") != 1 || SSL_CTX_set_num_tickets(c, 0) != 1)
		return NULL;
	SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
	/* Buffers of idle connections are given back (34 KiB each); the peer has the CA, the chain need not be sent. */
	SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
	X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(c), X509_V_FLAG_NO_CHECK_TIME);
	SSL_CTX_set_verify_depth(c, 1);
	return take_ptr(c);
}

static int ctx_identity(SSL_CTX *c, const struct pki *p)
{
	SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return SSL_CTX_use_certificate(c, p->cert) == 1 && SSL_CTX_use_PrivateKey(c, p->key) == 1 &&
	       X509_STORE_add_cert(SSL_CTX_get_cert_store(c), p->ca) == 1;
}

int pki_server_ctx(const struct pki *p, enum pki_use use, SSL_CTX **ret, struct err *e)
{
	_cleanup_(ctx_free_p) SSL_CTX *c = ctx_new(TLS_server_method());
	if (!c || !ctx_identity(c, p))
		return ssl_err(e, -ENOMEM, "set up TLS");
	/* OpenSSL hands the argument back as it is; the callback only takes a reference to the CA's certificate. */
	SSL_CTX_set_alpn_select_cb(c, use == PKI_USE_LINK ? alpn_link : alpn_stream, (void *)(uintptr_t)p);
	*ret = take_ptr(c);
	return 0;
}

static int alpn_offer(SSL_CTX *c, enum pki_use use)
{
	unsigned char list[64];
	size_t n = strlen(alpn_of(use));
	list[0] = (unsigned char)n;
	memcpy(list + 1, alpn_of(use), n);
	return SSL_CTX_set_alpn_protos(c, list, (unsigned)n + 1) == 0;
}

int pki_client_ctx(const struct pki *p, enum pki_use use, SSL_CTX **ret, struct err *e)
{
	_cleanup_(ctx_free_p) SSL_CTX *c = ctx_new(TLS_client_method());
	if (!c || !ctx_identity(c, p) || !alpn_offer(c, use))
		return ssl_err(e, -ENOMEM, "set up TLS");
	*ret = take_ptr(c);
	return 0;
}

/* Verifies a server of which only the CA's fingerprint is known: a certificate of the chain that has it becomes the only trust. */
static int join_verify(X509_STORE_CTX *ctx, void *arg)
{
	const uint8_t *want = arg;
	STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(ctx), *trust = sk_X509_new_null();
	int ok = 0;

	for (int i = 0; trust && i < sk_X509_num(sent); i++) {
		uint8_t got[PKI_FINGERPRINT_SIZE];
		unsigned n = 0;
		X509 *x = sk_X509_value(sent, i);
		if (X509_digest(x, EVP_sha256(), got, &n) == 1 && n == sizeof got && memcmp(got, want, n) == 0 &&
		    sk_X509_push(trust, x) > 0)
			break;
	}
	if (trust && sk_X509_num(trust) == 1) {
		X509_STORE_CTX_set0_trusted_stack(ctx, trust);
		ok = X509_verify_cert(ctx) == 1;
	} else {
		X509_STORE_CTX_set_error(ctx, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN);
	}
	sk_X509_free(trust);
	return ok;
}

int pki_join_ctx(const uint8_t fp[static PKI_FINGERPRINT_SIZE], SSL_CTX **ret, struct err *e)
{
	_cleanup_(ctx_free_p) SSL_CTX *c = ctx_new(TLS_client_method());
	if (!c || !alpn_offer(c, PKI_USE_JOIN))
		return ssl_err(e, -ENOMEM, "set up TLS");
	SSL_CTX_set_verify(c, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(c, join_verify, (void *)(uintptr_t)fp);
	*ret = take_ptr(c);
	return 0;
}

enum pki_use pki_use_of(const SSL *ssl)
{
	const unsigned char *p = NULL;
	unsigned n = 0;
	SSL_get0_alpn_selected(ssl, &p, &n);
	for (size_t i = 0; n && i < sizeof uses / sizeof *uses; i++)
		if (n == strlen(uses[i].alpn) && memcmp(p, uses[i].alpn, n) == 0)
			return uses[i].use;
	return PKI_USE_NONE;
}

int pki_peer_node(const struct pki *p, const SSL *ssl, uint16_t *ret, struct err *e)
{
	char cluster[PKI_CLUSTER_ID_SIZE];
	uint16_t node;
	X509 *x = SSL_get0_peer_certificate(ssl);
	if (!x || SSL_get_verify_result(ssl) != X509_V_OK)
		return err_set(e, -ENOKEY, "no certificate of the cluster");
	int rc = cert_names(x, cluster, &node, e);
	if (rc < 0)
		return rc;
	if (node == 0 || strcmp(cluster, p->cluster) != 0)
		return err_set(e, -EKEYREJECTED, "the certificate is of cluster %s", cluster);
	*ret = node;
	return 0;
}
