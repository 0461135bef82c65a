/* Making and checking certificates: OpenSSL objects in, OpenSSL objects out; no files. */
#include "transport/pki_int.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "transport/links.h"

static const char ca_name[] = "pando cluster CA";

void x509_free_p(X509 **x)
{
	X509_free(*x);
}

void pkey_free_p(EVP_PKEY **k)
{
	EVP_PKEY_free(*k);
}

static void bn_free_p(BIGNUM **b)
{
	BN_free(*b);
}

static void name_free_p(X509_NAME **n)
{
	X509_NAME_free(*n);
}

int ssl_err(struct err *e, int code, const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	ERR_clear_error();
	return err_set(e, code, "%s: %s", what, reason ? reason : "OpenSSL failed");
}

int cert_key_new(EVP_PKEY **ret, struct err *e)
{
	EVP_PKEY *k = EVP_EC_gen("P-256");
	if (!k)
		return ssl_err(e, -ENOMEM, "make a key");
	*ret = k;
	return 0;
}

static int serial_set(X509 *x)
{
	uint8_t bytes[16];
	if (RAND_bytes(bytes, sizeof bytes) != 1)
		return 0;
	bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive, and always of the same length */
	_cleanup_(bn_free_p) BIGNUM *bn = BN_bin2bn(bytes, sizeof bytes, NULL);
	return bn && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x));
}

static X509_NAME *name_new(const char *cluster, const char *cn)
{
	_cleanup_(name_free_p) X509_NAME *n = X509_NAME_new();
	if (!n ||
	    X509_NAME_add_entry_by_NID(n, NID_organizationName, MBSTRING_ASC, (const unsigned char *)cluster, -1, -1, 0) != 1 ||
	    X509_NAME_add_entry_by_NID(n, NID_commonName, MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0) != 1)
		return NULL;
	return take_ptr(n);
}

static int ext_add(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (!ext)
		return 0;
	int ok = X509_add_ext(x, ext, -1);
	X509_EXTENSION_free(ext);
	return ok;
}

static int exts_add(X509 *x, X509 *ca)
{
	if (!ca)
		return ext_add(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
		       ext_add(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
		       ext_add(x, x, NID_subject_key_identifier, "hash");
	return ext_add(x, ca, NID_basic_constraints, "critical,CA:FALSE") &&
	       ext_add(x, ca, NID_key_usage, "critical,digitalSignature") &&
	       ext_add(x, ca, NID_ext_key_usage, "serverAuth,clientAuth") &&
	       ext_add(x, ca, NID_subject_key_identifier, "hash") &&
	       ext_add(x, ca, NID_authority_key_identifier, "keyid:always");
}

/* The dates are for other tools that look at the certificate: from a day ago (clocks) to "never" (RFC 5280 4.1.2.5). */
static int dates_set(X509 *x)
{
	return X509_gmtime_adj(X509_getm_notBefore(x), -86400L) &&
	       ASN1_TIME_set_string(X509_getm_notAfter(x), "99991231235959Z") == 1;
}

int cert_new(EVP_PKEY *pub, const char *cluster, uint16_t node, X509 *ca, EVP_PKEY *ca_key, X509 **ret, struct err *e)
{
	char cn[32];
	if (ca)
		(void)snprintf(cn, sizeof cn, "node-%u", node);
	else
		(void)snprintf(cn, sizeof cn, "%s", ca_name);

	_cleanup_(x509_free_p) X509 *x = X509_new();
	_cleanup_(name_free_p) X509_NAME *name = name_new(cluster, cn);
	if (!x || !name || X509_set_version(x, X509_VERSION_3) != 1 || !serial_set(x) || !dates_set(x) ||
	    X509_set_subject_name(x, name) != 1 || X509_set_issuer_name(x, ca ? X509_get_subject_name(ca) : name) != 1 ||
	    X509_set_pubkey(x, pub) != 1 || !exts_add(x, ca) || X509_sign(x, ca_key, EVP_sha256()) <= 0)
		return ssl_err(e, -ENOMEM, "make a certificate");
	*ret = take_ptr(x);
	return 0;
}

/* The one entry of this kind in the subject, as text without NUL. */
static int name_get(const X509 *x, int nid, char *ret, size_t size)
{
	const X509_NAME *n = X509_get_subject_name(x);
	int at = X509_NAME_get_index_by_NID(n, nid, -1);
	if (at < 0 || X509_NAME_get_index_by_NID(n, nid, at) >= 0)
		return -EKEYREJECTED;
	const ASN1_STRING *s = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(n, at));
	size_t len = (size_t)ASN1_STRING_length(s);
	const uint8_t *p = ASN1_STRING_get0_data(s);
	if (!len || len >= size || memchr(p, 0, len))
		return -EKEYREJECTED;
	memcpy(ret, p, len);
	ret[len] = 0;
	return 0;
}

/* "node-<id>", exactly as cert_new writes it. */
static int node_parse(const char *cn, uint16_t *ret)
{
	char back[32];
	if (strcmp(cn, ca_name) == 0) {
		*ret = 0;
		return 0;
	}
	if (strncmp(cn, "node-", 5) != 0 || strlen(cn) > 5 + 3)
		return -EKEYREJECTED;
	unsigned id = 0;
	for (const char *p = cn + 5; *p; p++) {
		if (*p < '0' || *p > '9')
			return -EKEYREJECTED;
		id = id * 10 + (unsigned)(*p - '0');
	}
	(void)snprintf(back, sizeof back, "node-%u", id);
	if (id < 1 || id > NODE_MAX || strcmp(back, cn) != 0)
		return -EKEYREJECTED;
	*ret = (uint16_t)id;
	return 0;
}

int cert_names(const X509 *x, char ret_cluster[static PKI_CLUSTER_ID_SIZE], uint16_t *ret_node, struct err *e)
{
	char cn[64], cluster[PKI_CLUSTER_ID_SIZE];
	if (name_get(x, NID_commonName, cn, sizeof cn) < 0 || name_get(x, NID_organizationName, cluster, sizeof cluster) < 0 ||
	    strlen(cluster) != PKI_CLUSTER_ID_SIZE - 1 || strspn(cluster, "0123456789abcdef") != PKI_CLUSTER_ID_SIZE - 1 ||
	    node_parse(cn, ret_node) < 0)
		return err_set(e, -EKEYREJECTED, "the certificate names no node of a cluster");
	memcpy(ret_cluster, cluster, sizeof cluster);
	return 0;
}

int cert_verify(X509 *ca, X509 *x, struct err *e)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	int rc;

	if (!store || !ctx || X509_STORE_add_cert(store, ca) != 1 ||
	    X509_STORE_set_flags(store, X509_V_FLAG_NO_CHECK_TIME) != 1 || X509_STORE_CTX_init(ctx, store, x, NULL) != 1)
		rc = ssl_err(e, -ENOMEM, "check a certificate");
	else if (X509_verify_cert(ctx) != 1)
		rc = err_set(e, -EKEYREJECTED, "the certificate is not of this CA: %s",
			     X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
	else
		rc = 0;
	ERR_clear_error();
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	return rc;
}

int pki_check(struct pki *p, struct err *e)
{
	char ca_cluster[PKI_CLUSTER_ID_SIZE];
	uint16_t ca_node, node;
	int rc = cert_names(p->ca, ca_cluster, &ca_node, e);
	if (rc < 0 || ca_node != 0 || X509_check_ca(p->ca) != 1)
		return err_set(e, -EBADMSG, "ca.crt is no certificate of a cluster CA");
	if (cert_verify(p->ca, p->ca, e) < 0)
		return err_wrap(e, -EBADMSG, "ca.crt");
	if (p->ca_key && X509_check_private_key(p->ca, p->ca_key) != 1)
		return ssl_err(e, -EBADMSG, "ca.key does not belong to ca.crt");
	if (cert_verify(p->ca, p->cert, e) < 0 || cert_names(p->cert, p->cluster, &node, e) < 0)
		return err_wrap(e, -EBADMSG, "node.crt");
	if (node == 0 || strcmp(p->cluster, ca_cluster) != 0)
		return err_set(e, -EBADMSG, "node.crt names no node of this cluster");
	if (X509_check_private_key(p->cert, p->key) != 1)
		return ssl_err(e, -EBADMSG, "node.key does not belong to node.crt");
	p->node = node;
	return 0;
}
