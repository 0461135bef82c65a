#include "transport/pki.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"

static char g_dir[64];

static const char *path_of(const char *name)
{
	static char path[128];
	(void)snprintf(path, sizeof path, "%s/%s", g_dir, name);
	return path;
}

static void dir_clear(void)
{
	CHECK(pki_remove(g_dir, NULL) == 0);
	(void)unlink(path_of("node.crt.new"));
	(void)rmdir(g_dir);
	CHECK(access(g_dir, F_OK) < 0);
}

static mode_t mode_of(const char *name)
{
	struct stat st;
	CHECK(stat(path_of(name), &st) == 0);
	return st.st_mode & 07777;
}

/* Carries client and server through a handshake in memory. 1: both done; 0: one of them refused. */
static int handshake(SSL_CTX *sc, SSL_CTX *cc, SSL **ret_s, SSL **ret_c)
{
	SSL *s = SSL_new(sc), *c = SSL_new(cc);
	BIO *sb, *cb;
	CHECK(s && c && BIO_new_bio_pair(&sb, 0, &cb, 0) == 1);
	SSL_set_bio(s, sb, sb);
	SSL_set_bio(c, cb, cb);
	SSL_set_accept_state(s);
	SSL_set_connect_state(c);
	int ok = 0;
	for (int i = 0; i < 20 && !ok; i++) {
		int rc = SSL_do_handshake(c), rs = SSL_do_handshake(s);
		ok = rc == 1 && rs == 1;
		if ((rc != 1 && SSL_get_error(c, rc) == SSL_ERROR_SSL) || (rs != 1 && SSL_get_error(s, rs) == SSL_ERROR_SSL))
			break;
	}
	*ret_s = s;
	*ret_c = c;
	return ok;
}

/* Whether the two come together, and as whom the server sees the client and the other way round. */
static int meet(SSL_CTX *sc, SSL_CTX *cc, const struct pki *sp, const struct pki *cp, uint16_t *ret_client, uint16_t *ret_server,
		enum pki_use *ret_use)
{
	SSL *s, *c;
	int ok = handshake(sc, cc, &s, &c);
	*ret_client = *ret_server = 0;
	*ret_use = ok ? pki_use_of(s) : PKI_USE_NONE;
	if (ok) {
		if (pki_peer_node(sp, s, ret_client, NULL) < 0)
			CHECK(*ret_client == 0 && *ret_use == PKI_USE_JOIN);
		if (cp)
			CHECK(pki_peer_node(cp, c, ret_server, NULL) == 0);
		CHECK(pki_use_of(c) == *ret_use);
		CHECK(SSL_version(s) == TLS1_3_VERSION);
	}
	SSL_free(s);
	SSL_free(c);
	return ok;
}

static struct pki *member_new(const struct pki *from, uint16_t node)
{
	_cleanup_(pki_csr_free_p) struct pki_csr *csr = NULL;
	_cleanup_(free_p) uint8_t *cert = NULL;
	uint8_t *ca, fp[PKI_FINGERPRINT_SIZE];
	size_t csr_n, cert_n, ca_n;
	struct pki *p = NULL;
	struct err e;
	CHECK(pki_csr_new(&csr, &e) == 0);
	const uint8_t *req = pki_csr_bytes(csr, &csr_n);
	CHECK(pki_issue(from, req, csr_n, node, &cert, &cert_n, &e) == 0);
	CHECK(pki_ca_export(from, &ca, &ca_n, &e) == 0);
	CHECK(ca_n <= PKI_CA_MAX && cert_n <= PKI_CERT_MAX && csr_n <= PKI_CSR_MAX);
	pki_ca_fingerprint(from, fp);
	CHECK(pki_install(g_dir, csr, fp, ca, ca_n, cert, cert_n, &p, &e) == 0);
	pki_wipe(ca, ca_n);
	return p;
}

static void test_created_cluster_can_be_loaded_again(void)
{
	_cleanup_(pki_free_p) struct pki *a = NULL, *b = NULL, *c = NULL;
	uint8_t fa[PKI_FINGERPRINT_SIZE], fb[PKI_FINGERPRINT_SIZE];
	struct err e;
	CHECK(pki_load(g_dir, &a, &e) == -ENOENT);
	CHECK(pki_create(g_dir, 1, &a, &e) == 0);
	CHECK(pki_node(a) == 1 && strlen(pki_cluster_id(a)) == 32);
	CHECK(mode_of("ca.key") == 0600 && mode_of("node.key") == 0600);
	CHECK(pki_load(g_dir, &b, &e) == 0);
	CHECK(pki_node(b) == 1 && strcmp(pki_cluster_id(a), pki_cluster_id(b)) == 0);
	pki_ca_fingerprint(a, fa);
	pki_ca_fingerprint(b, fb);
	CHECK(memcmp(fa, fb, sizeof fa) == 0);
	CHECK(pki_create(g_dir, 1, &c, &e) == -EEXIST);
	dir_clear();
}

static void test_node_ids_are_within_bounds(void)
{
	_cleanup_(pki_free_p) struct pki *p = NULL;
	CHECK(pki_create_in_memory(0, &p, NULL) == -EINVAL);
	CHECK(pki_create_in_memory(129, &p, NULL) == -EINVAL);
	CHECK(pki_create_in_memory(128, &p, NULL) == 0);
	CHECK(pki_node(p) == 128);
}

static void test_load_refuses_what_does_not_fit(void)
{
	_cleanup_(pki_free_p) struct pki *a = NULL, *b = NULL;
	struct err e;
	char other[64];
	CHECK(pki_create(g_dir, 1, &a, &e) == 0);
	CHECK(chmod(path_of("node.key"), 0640) == 0);
	CHECK(pki_load(g_dir, &b, &e) == -EPERM);
	CHECK(chmod(path_of("node.key"), 0600) == 0);

	/* The key of another: swap node.key and ca.key. */
	(void)snprintf(other, sizeof other, "%s/x", g_dir);
	CHECK(rename(path_of("node.key"), other) == 0);
	CHECK(pki_load(g_dir, &b, &e) == -EBADMSG);
	char from[128];
	(void)snprintf(from, sizeof from, "%s/ca.key", g_dir);
	CHECK(link(from, path_of("node.key")) == 0);
	CHECK(pki_load(g_dir, &b, &e) == -EBADMSG);
	CHECK(unlink(path_of("node.key")) == 0);
	CHECK(rename(other, path_of("node.key")) == 0);

	/* A damaged certificate. */
	FILE *f = fopen(path_of("node.crt"), "w");
	CHECK(f && fputs("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", f) >= 0 && fclose(f) == 0);
	CHECK(pki_load(g_dir, &b, &e) == -EBADMSG);
	dir_clear();
}

static void test_node_programs_need_no_ca_key(void)
{
	_cleanup_(pki_free_p) struct pki *a = NULL, *b = NULL;
	_cleanup_(pki_csr_free_p) struct pki_csr *csr = NULL;
	uint8_t *out;
	size_t n, csr_n;
	CHECK(pki_create(g_dir, 1, &a, NULL) == 0);
	CHECK(unlink(path_of("ca.key")) == 0);
	CHECK(pki_load(g_dir, &b, NULL) == -EBADMSG);
	CHECK(pki_load_node(g_dir, &b, NULL) == 0);
	CHECK(pki_ca_export(b, &out, &n, NULL) == -ENOKEY);
	CHECK(pki_csr_new(&csr, NULL) == 0);
	const uint8_t *req = pki_csr_bytes(csr, &csr_n);
	CHECK(pki_issue(b, req, csr_n, 2, &out, &n, NULL) == -ENOKEY);
	dir_clear();
}

static void test_admitted_node_is_a_member_and_can_admit(void)
{
	_cleanup_(pki_free_p) struct pki *one = NULL, *two = NULL, *three = NULL;
	CHECK(pki_create_in_memory(1, &one, NULL) == 0);
	two = member_new(one, 2);
	CHECK(pki_node(two) == 2 && strcmp(pki_cluster_id(two), pki_cluster_id(one)) == 0);
	dir_clear();
	three = member_new(two, 127);
	CHECK(pki_node(three) == 127);
	dir_clear();
}

static void test_install_refuses_another_ca_and_another_key(void)
{
	_cleanup_(pki_free_p) struct pki *one = NULL, *evil = NULL, *p = NULL;
	_cleanup_(pki_csr_free_p) struct pki_csr *csr = NULL, *csr2 = NULL;
	_cleanup_(free_p) uint8_t *cert = NULL, *cert2 = NULL;
	uint8_t *ca, *ca2, fp[PKI_FINGERPRINT_SIZE];
	size_t n, cert_n, cert2_n, ca_n, ca2_n;
	CHECK(pki_create_in_memory(1, &one, NULL) == 0 && pki_create_in_memory(1, &evil, NULL) == 0);
	pki_ca_fingerprint(one, fp);
	CHECK(pki_csr_new(&csr, NULL) == 0 && pki_csr_new(&csr2, NULL) == 0);
	const uint8_t *req = pki_csr_bytes(csr, &n);
	CHECK(pki_issue(one, req, n, 2, &cert, &cert_n, NULL) == 0);
	CHECK(pki_issue(evil, req, n, 2, &cert2, &cert2_n, NULL) == 0);
	CHECK(pki_ca_export(one, &ca, &ca_n, NULL) == 0 && pki_ca_export(evil, &ca2, &ca2_n, NULL) == 0);

	CHECK(pki_install(g_dir, csr, fp, ca2, ca2_n, cert2, cert2_n, &p, NULL) == -EKEYREJECTED);
	CHECK(pki_install(g_dir, csr, fp, ca, ca_n, cert2, cert2_n, &p, NULL) == -EBADMSG);
	CHECK(pki_install(g_dir, csr2, fp, ca, ca_n, cert, cert_n, &p, NULL) == -EBADMSG);
	for (size_t i = 0; i < ca_n; i++)
		CHECK(pki_install(g_dir, csr, fp, ca, i, cert, cert_n, &p, NULL) < 0);
	for (size_t i = 0; i < cert_n; i++)
		CHECK(pki_install(g_dir, csr, fp, ca, ca_n, cert, i, &p, NULL) < 0);
	CHECK(access(g_dir, F_OK) < 0); /* nothing was written */
	CHECK(pki_install(g_dir, csr, fp, ca, ca_n, cert, cert_n, &p, NULL) == 0);
	pki_wipe(ca, ca_n);
	pki_wipe(ca2, ca2_n);
	dir_clear();
}

static void test_damaged_requests_are_refused(void)
{
	_cleanup_(pki_free_p) struct pki *one = NULL;
	_cleanup_(pki_csr_free_p) struct pki_csr *csr = NULL;
	uint8_t *out, bytes[PKI_CSR_MAX];
	size_t n, out_n;
	CHECK(pki_create_in_memory(1, &one, NULL) == 0 && pki_csr_new(&csr, NULL) == 0);
	const uint8_t *req = pki_csr_bytes(csr, &n);
	for (size_t i = 0; i < n; i++)
		CHECK(pki_issue(one, req, i, 2, &out, &out_n, NULL) == -EBADMSG);
	for (size_t i = 0; i < n; i++) { /* every byte is covered by the signature, or is the signature */
		memcpy(bytes, req, n);
		bytes[i] ^= 0x41;
		CHECK(pki_issue(one, bytes, n, 2, &out, &out_n, NULL) == -EBADMSG);
	}
	memcpy(bytes, req, n);
	bytes[n] = 0;
	CHECK(pki_issue(one, bytes, n + 1, 2, &out, &out_n, NULL) == -EBADMSG);
	CHECK(pki_issue(one, req, n, 0, &out, &out_n, NULL) == -EINVAL);
	CHECK(pki_issue(one, req, n, 129, &out, &out_n, NULL) == -EINVAL);
}

/* A request for a key of another kind is refused although it is signed well. */
static void test_request_of_another_curve_is_refused(void)
{
	_cleanup_(pki_free_p) struct pki *one = NULL;
	uint8_t *der = NULL, *out;
	size_t out_n;
	EVP_PKEY *k = EVP_EC_gen("P-384");
	X509_REQ *r = X509_REQ_new();
	CHECK(pki_create_in_memory(1, &one, NULL) == 0);
	CHECK(k && r && X509_REQ_set_pubkey(r, k) == 1 && X509_REQ_sign(r, k, EVP_sha384()) > 0);
	int n = i2d_X509_REQ(r, &der);
	CHECK(n > 0);
	CHECK(pki_issue(one, der, (size_t)n, 2, &out, &out_n, NULL) == -EBADMSG);
	OPENSSL_free(der);
	X509_REQ_free(r);
	EVP_PKEY_free(k);
}

static void test_handshakes_tell_who_the_other_is(void)
{
	_cleanup_(pki_free_p) struct pki *one = NULL, *two = NULL, *evil = NULL;
	SSL_CTX *ls, *lc, *ss, *sc, *ec, *jc, *bad_jc;
	uint8_t fp[PKI_FINGERPRINT_SIZE], bad_fp[PKI_FINGERPRINT_SIZE] = { 1 };
	uint16_t client, server;
	enum pki_use use;
	CHECK(pki_create_in_memory(1, &one, NULL) == 0 && pki_create_in_memory(2, &evil, NULL) == 0);
	two = member_new(one, 2);
	dir_clear();
	pki_ca_fingerprint(one, fp);
	CHECK(pki_server_ctx(one, PKI_USE_LINK, &ls, NULL) == 0 && pki_client_ctx(two, PKI_USE_LINK, &lc, NULL) == 0);
	CHECK(pki_server_ctx(one, PKI_USE_STREAM, &ss, NULL) == 0 && pki_client_ctx(two, PKI_USE_STREAM, &sc, NULL) == 0);
	CHECK(pki_client_ctx(evil, PKI_USE_LINK, &ec, NULL) == 0);
	CHECK(pki_join_ctx(fp, &jc, NULL) == 0 && pki_join_ctx(bad_fp, &bad_jc, NULL) == 0);

	CHECK(meet(ls, lc, one, two, &client, &server, &use) && client == 2 && server == 1 && use == PKI_USE_LINK);
	CHECK(meet(ss, sc, one, two, &client, &server, &use) && client == 2 && server == 1 && use == PKI_USE_STREAM);
	CHECK(!meet(ls, sc, one, two, &client, &server, &use)); /* wrong purpose */
	CHECK(!meet(ss, lc, one, two, &client, &server, &use));
	CHECK(!meet(ls, ec, one, evil, &client, &server, &use)); /* another cluster */
	CHECK(meet(ls, jc, one, NULL, &client, &server, &use) && client == 0 && use == PKI_USE_JOIN);
	CHECK(!meet(ls, bad_jc, one, NULL, &client, &server, &use));
	CHECK(!meet(ss, jc, one, NULL, &client, &server, &use)); /* the stream port takes no joins */

	/* Without a certificate, but asking for a link. */
	SSL_CTX *naked = SSL_CTX_new(TLS_client_method());
	CHECK(naked && SSL_CTX_set_alpn_protos(naked, (const unsigned char *)"\014pando-link/1", 13) == 0);
	CHECK(!meet(ls, naked, one, NULL, &client, &server, &use));
	/* Both names: a link, so a certificate is needed. */
	CHECK(SSL_CTX_set_alpn_protos(naked, (const unsigned char *)"\014pando-join/1\014pando-link/1", 26) == 0);
	CHECK(!meet(ls, naked, one, NULL, &client, &server, &use));
	/* An older TLS. */
	CHECK(SSL_CTX_set_min_proto_version(lc, TLS1_2_VERSION) == 1 && SSL_CTX_set_max_proto_version(lc, TLS1_2_VERSION) == 1);
	CHECK(!meet(ls, lc, one, two, &client, &server, &use));
	SSL_CTX_free(naked);
	SSL_CTX_free(ls), SSL_CTX_free(lc), SSL_CTX_free(ss), SSL_CTX_free(sc);
	SSL_CTX_free(ec), SSL_CTX_free(jc), SSL_CTX_free(bad_jc);
}

int main(void)
{
	(void)snprintf(g_dir, sizeof g_dir, "/tmp/test-pki.%d", (int)getpid());
	TEST(test_created_cluster_can_be_loaded_again);
	TEST(test_node_ids_are_within_bounds);
	TEST(test_load_refuses_what_does_not_fit);
	TEST(test_node_programs_need_no_ca_key);
	TEST(test_admitted_node_is_a_member_and_can_admit);
	TEST(test_install_refuses_another_ca_and_another_key);
	TEST(test_damaged_requests_are_refused);
	TEST(test_request_of_another_curve_is_refused);
	TEST(test_handshakes_tell_who_the_other_is);
	return 0;
}
