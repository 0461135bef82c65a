/* The cluster's PKI as files: create, load, admit, install. Objects are made and checked in pki_cert.c. */
#include "transport/pki_int.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "transport/links.h"
#include "wire/rd.h"
#include "wire/wr.h"

enum { FILE_MAX = 16384, CA_BLOB_VERSION = 1 };

/* The order of writing: with node.crt the membership is complete. */
static const char *const pki_files[] = { "ca.key", "ca.crt", "node.key", "node.crt" };

static void bio_free_p(BIO **b)
{
	BIO_free(*b);
}

struct pki *pki_free(struct pki *p)
{
	if (p) {
		X509_free(p->ca);
		EVP_PKEY_free(p->ca_key);
		X509_free(p->cert);
		EVP_PKEY_free(p->key);
		free(p);
	}
	return NULL;
}

void pki_free_p(struct pki **p)
{
	*p = pki_free(*p);
}

void pki_wipe(uint8_t *p, size_t n)
{
	if (p)
		OPENSSL_cleanse(p, n);
	free(p);
}

const char *pki_cluster_id(const struct pki *p)
{
	return p->cluster;
}

uint16_t pki_node(const struct pki *p)
{
	return p->node;
}

static int fingerprint(const X509 *ca, uint8_t ret[static PKI_FINGERPRINT_SIZE])
{
	unsigned n = 0;
	return X509_digest(ca, EVP_sha256(), ret, &n) == 1 && n == PKI_FINGERPRINT_SIZE ? 0 : -EBADMSG;
}

void pki_ca_fingerprint(const struct pki *p, uint8_t ret[static PKI_FINGERPRINT_SIZE])
{
	if (fingerprint(p->ca, ret) < 0)
		memset(ret, 0, PKI_FINGERPRINT_SIZE); /* cannot be for a loaded certificate; and fits none */
}

/* ---- files ---- */

/* Opens (and makes, if asked) the state directory. */
static int dir_open(const char *path, int make, int *ret_fd, struct err *e)
{
	if (make && mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_set(e, -errno, "make %s: %m", path);
	int fd = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "open %s: %m", path);
	*ret_fd = fd;
	return 0;
}

static int all_write(int fd, const uint8_t *p, size_t n)
{
	while (n) {
		ssize_t k = write(fd, p, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

/* Writes name within dir so that a crash leaves the old state or the new one. */
static int file_write(int dir, const char *name, mode_t mode, const uint8_t *p, size_t n, struct err *e)
{
	char tmp[32];
	(void)snprintf(tmp, sizeof tmp, "%s.new", name);
	if (unlinkat(dir, tmp, 0) < 0 && errno != ENOENT)
		return err_set(e, -errno, "delete %s: %m", tmp);

	_cleanup_(close_p) int fd = openat(dir, tmp, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return err_set(e, -errno, "make %s: %m", tmp);
	if (fchmod(fd, mode) < 0)
		return err_set(e, -errno, "chmod %s: %m", tmp);
	int rc = all_write(fd, p, n);
	if (rc < 0) {
		errno = -rc;
		return err_set(e, rc, "write %s: %m", tmp);
	}
	if (fsync(fd) < 0 || renameat(dir, tmp, dir, name) < 0 || fsync(dir) < 0)
		return err_set(e, -errno, "write %s: %m", name);
	return 0;
}

/* The bytes that a BIO in memory holds; borrowed from it. */
static const uint8_t *bio_bytes(BIO *b, size_t *ret_n)
{
	char *p = NULL;
	long n = BIO_get_mem_data(b, &p);
	*ret_n = n > 0 ? (size_t)n : 0;
	return (const uint8_t *)p;
}

static int pem_write(int dir, const char *name, X509 *cert, EVP_PKEY *key, struct err *e)
{
	_cleanup_(bio_free_p) BIO *b = BIO_new(key ? BIO_s_secmem() : BIO_s_mem());
	if (!b || (key ? PEM_write_bio_PKCS8PrivateKey(b, key, NULL, NULL, 0, NULL, NULL) : PEM_write_bio_X509(b, cert)) != 1)
		return ssl_err(e, -ENOMEM, name);
	size_t n;
	const uint8_t *p = bio_bytes(b, &n);
	return file_write(dir, name, key ? 0600 : 0644, p, n, e);
}

/* -EEXIST when there is a membership already. */
static int is_vacant(int dir, const char *path, struct err *e)
{
	struct stat st;
	if (fstatat(dir, "node.crt", &st, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(e, -EEXIST, "%s: this machine is a member of a cluster already", path);
	if (errno != ENOENT)
		return err_set(e, -errno, "%s/node.crt: %m", path);
	return 0;
}

static int pki_save(const struct pki *p, const char *path, struct err *e)
{
	_cleanup_(close_p) int dir = -1;
	int rc = dir_open(path, 1, &dir, e);
	if (rc == 0)
		rc = is_vacant(dir, path, e);
	if (rc < 0)
		return rc;
	if ((rc = pem_write(dir, "ca.key", NULL, p->ca_key, e)) < 0 || (rc = pem_write(dir, "ca.crt", p->ca, NULL, e)) < 0 ||
	    (rc = pem_write(dir, "node.key", NULL, p->key, e)) < 0 || (rc = pem_write(dir, "node.crt", p->cert, NULL, e)) < 0)
		return err_wrap(e, rc, "%s", path);
	return 0;
}

int pki_remove(const char *state_dir, struct err *e)
{
	_cleanup_(close_p) int dir = -1;
	int rc = dir_open(state_dir, 0, &dir, e);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return rc;
	for (size_t i = sizeof pki_files / sizeof *pki_files; i-- > 0;)
		if (unlinkat(dir, pki_files[i], 0) < 0 && errno != ENOENT)
			return err_set(e, -errno, "delete %s/%s: %m", state_dir, pki_files[i]);
	if (fsync(dir) < 0)
		return err_set(e, -errno, "sync %s: %m", state_dir);
	return 0;
}

/* Reads a small file into a BIO. secret: nobody else may be able to read it. */
static int file_read(int dir, const char *name, int secret, BIO **ret, struct err *e)
{
	_cleanup_(close_p) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return err_set(e, -errno, "open %s: %m", name);
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "stat %s: %m", name);
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		return err_set(e, -EBADMSG, "%s: not a small regular file", name);
	if (secret && (st.st_mode & 077))
		return err_set(e, -EPERM, "%s: others may read or write this key (chmod 600 it)", name);

	uint8_t buf[FILE_MAX];
	size_t n = 0;
	ssize_t k = 1;
	while (n < sizeof buf && (k = read(fd, buf + n, sizeof buf - n)) > 0)
		n += (size_t)k;
	int rc = k < 0 ? err_set(e, -errno, "read %s: %m", name) : 0;
	_cleanup_(bio_free_p) BIO *b = rc == 0 ? BIO_new(secret ? BIO_s_secmem() : BIO_s_mem()) : NULL;
	if (rc == 0 && (!b || BIO_write(b, buf, (int)n) != (int)n))
		rc = ssl_err(e, -ENOMEM, name);
	OPENSSL_cleanse(buf, n);
	if (rc == 0)
		*ret = take_ptr(b);
	return rc;
}

static int cert_read(int dir, const char *name, X509 **ret, struct err *e)
{
	_cleanup_(bio_free_p) BIO *b = NULL;
	int rc = file_read(dir, name, 0, &b, e);
	if (rc < 0)
		return rc;
	*ret = PEM_read_bio_X509(b, NULL, NULL, NULL);
	return *ret ? 0 : ssl_err(e, -EBADMSG, name);
}

/* An encrypted key must fail instead of asking for a password on the terminal. */
static int no_password(char *buf, int size, int rw, void *ctx)
{
	(void)buf, (void)size, (void)rw, (void)ctx;
	return -1;
}

static int key_read(int dir, const char *name, EVP_PKEY **ret, struct err *e)
{
	_cleanup_(bio_free_p) BIO *b = NULL;
	int rc = file_read(dir, name, 1, &b, e);
	if (rc < 0)
		return rc;
	*ret = PEM_read_bio_PrivateKey(b, NULL, no_password, NULL);
	return *ret ? 0 : ssl_err(e, -EBADMSG, name);
}

static int load(const char *path, int with_ca_key, struct pki **ret, struct err *e)
{
	_cleanup_(close_p) int dir = -1;
	_cleanup_(pki_free_p) struct pki *p = calloc(1, sizeof *p);
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	int rc = dir_open(path, 0, &dir, e);
	if (rc < 0)
		return rc;
	if ((rc = cert_read(dir, "node.crt", &p->cert, e)) < 0) {
		if (rc == -ENOENT)
			return err_set(e, rc, "%s: this machine is no member of a cluster (pando init, or pando join)", path);
	} else if ((rc = cert_read(dir, "ca.crt", &p->ca, e)) == 0 && (rc = key_read(dir, "node.key", &p->key, e)) == 0 && with_ca_key) {
		rc = key_read(dir, "ca.key", &p->ca_key, e);
	}
	/* Without node.crt there is no membership; with it, a missing file is damage. */
	if (rc == -ENOENT)
		rc = -EBADMSG;
	if (rc == 0)
		rc = pki_check(p, e);
	if (rc < 0)
		return err_wrap(e, rc, "%s", path);
	*ret = take_ptr(p);
	return 0;
}

int pki_load(const char *state_dir, struct pki **ret, struct err *e)
{
	return load(state_dir, 1, ret, e);
}

int pki_load_node(const char *state_dir, struct pki **ret, struct err *e)
{
	return load(state_dir, 0, ret, e);
}

/* ---- a new cluster ---- */

int pki_create_in_memory(uint16_t node, struct pki **ret, struct err *e)
{
	uint8_t id[(PKI_CLUSTER_ID_SIZE - 1) / 2];
	if (node < 1 || node > NODE_MAX)
		return err_set(e, -EINVAL, "node id %u is not in 1..%d", node, NODE_MAX);

	_cleanup_(pki_free_p) struct pki *p = calloc(1, sizeof *p);
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	if (RAND_bytes(id, sizeof id) != 1)
		return ssl_err(e, -EIO, "random bytes");
	for (size_t i = 0; i < sizeof id; i++)
		(void)snprintf(p->cluster + 2 * i, 3, "%02x", id[i]);

	int rc;
	if ((rc = cert_key_new(&p->ca_key, e)) < 0 || (rc = cert_new(p->ca_key, p->cluster, 0, NULL, p->ca_key, &p->ca, e)) < 0 ||
	    (rc = cert_key_new(&p->key, e)) < 0 || (rc = cert_new(p->key, p->cluster, node, p->ca, p->ca_key, &p->cert, e)) < 0 ||
	    (rc = pki_check(p, e)) < 0)
		return rc;
	*ret = take_ptr(p);
	return 0;
}

int pki_create(const char *state_dir, uint16_t node, struct pki **ret, struct err *e)
{
	_cleanup_(pki_free_p) struct pki *p = NULL;
	int rc = pki_create_in_memory(node, &p, e);
	if (rc == 0)
		rc = pki_save(p, state_dir, e);
	if (rc == 0)
		*ret = take_ptr(p);
	return rc;
}

/* ---- admitting a node ---- */

struct pki_csr *pki_csr_free(struct pki_csr *c)
{
	if (c) {
		EVP_PKEY_free(c->key);
		OPENSSL_free(c->der);
		free(c);
	}
	return NULL;
}

void pki_csr_free_p(struct pki_csr **c)
{
	*c = pki_csr_free(*c);
}

static void req_free_p(X509_REQ **r)
{
	X509_REQ_free(*r);
}

int pki_csr_new(struct pki_csr **ret, struct err *e)
{
	_cleanup_(pki_csr_free_p) struct pki_csr *c = calloc(1, sizeof *c);
	_cleanup_(req_free_p) X509_REQ *r = X509_REQ_new();
	if (!c || !r)
		return err_set(e, -ENOMEM, "out of memory");
	int rc = cert_key_new(&c->key, e);
	if (rc < 0)
		return rc;
	if (X509_REQ_set_version(r, X509_REQ_VERSION_1) != 1 || X509_REQ_set_pubkey(r, c->key) != 1 ||
	    X509_REQ_sign(r, c->key, EVP_sha256()) <= 0)
		return ssl_err(e, -ENOMEM, "make a certificate request");
	int n = i2d_X509_REQ(r, &c->der);
	if (n <= 0)
		return ssl_err(e, -ENOMEM, "make a certificate request");
	c->n = (size_t)n;
	*ret = take_ptr(c);
	return 0;
}

const uint8_t *pki_csr_bytes(const struct pki_csr *c, size_t *ret_n)
{
	*ret_n = c->n;
	return c->der;
}

/* The public key of a foreign request, borrowed from *ret_req. */
static int csr_key(const uint8_t *p, size_t n, X509_REQ **ret_req, EVP_PKEY **ret_key, struct err *e)
{
	char group[32] = "";
	const uint8_t *at = p;
	if (n > PKI_CSR_MAX || !(*ret_req = d2i_X509_REQ(NULL, &at, (long)n)) || at != p + n)
		return ssl_err(e, -EBADMSG, "not a certificate request");
	EVP_PKEY *k = X509_REQ_get0_pubkey(*ret_req);
	if (!k || !EVP_PKEY_is_a(k, "EC") || EVP_PKEY_get_group_name(k, group, sizeof group, NULL) != 1 ||
	    strcmp(group, "prime256v1") != 0)
		return ssl_err(e, -EBADMSG, "the key in the certificate request is not of the kind P-256");
	if (X509_REQ_verify(*ret_req, k) != 1)
		return ssl_err(e, -EBADMSG, "the certificate request is not signed by its own key");
	*ret_key = k;
	return 0;
}

int pki_issue(const struct pki *p, const uint8_t *csr, size_t csr_n, uint16_t node, uint8_t **ret, size_t *ret_n, struct err *e)
{
	if (!p->ca_key)
		return err_set(e, -ENOKEY, "the CA's key was not loaded");
	if (node < 1 || node > NODE_MAX)
		return err_set(e, -EINVAL, "node id %u is not in 1..%d", node, NODE_MAX);

	_cleanup_(req_free_p) X509_REQ *req = NULL;
	_cleanup_(x509_free_p) X509 *x = NULL;
	EVP_PKEY *pub = NULL;
	int rc = csr_key(csr, csr_n, &req, &pub, e);
	if (rc == 0)
		rc = cert_new(pub, p->cluster, node, p->ca, p->ca_key, &x, e);
	if (rc < 0)
		return rc;

	int n = i2d_X509(x, NULL);
	_cleanup_(free_p) uint8_t *der = n > 0 ? malloc((size_t)n) : NULL;
	uint8_t *at = der;
	if (!der || i2d_X509(x, &at) != n)
		return ssl_err(e, -ENOMEM, "encode a certificate");
	*ret = take_ptr(der);
	*ret_n = (size_t)n;
	return 0;
}

/* u8 version, bytes certificate (DER), bytes key (PKCS8 DER). */
int pki_ca_export(const struct pki *p, uint8_t **ret, size_t *ret_n, struct err *e)
{
	if (!p->ca_key)
		return err_set(e, -ENOKEY, "the CA's key was not loaded");

	_cleanup_(bio_free_p) BIO *cert = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_secmem());
	if (!cert || !key || i2d_X509_bio(cert, p->ca) != 1 || i2d_PKCS8PrivateKeyInfo_bio(key, p->ca_key) != 1)
		return ssl_err(e, -ENOMEM, "encode the CA");

	/* Not a struct wr: when that grows it leaves unwiped copies behind. */
	size_t cert_n, key_n;
	const uint8_t *cert_p = bio_bytes(cert, &cert_n), *key_p = bio_bytes(key, &key_n);
	size_t n = 1 + 4 + cert_n + 4 + key_n;
	uint8_t *out = malloc(n);
	if (!out)
		return err_set(e, -ENOMEM, "out of memory");
	_cleanup_(wr_fini) struct wr w = { .p = out, .cap = n };
	wr_u8(&w, CA_BLOB_VERSION);
	wr_bytes(&w, cert_p, cert_n);
	wr_bytes(&w, key_p, key_n);
	*ret = take_ptr(w.p);
	*ret_n = w.n;
	return 0;
}

static int ca_import(struct pki *p, const uint8_t *blob, size_t n, struct err *e)
{
	struct rd r;
	size_t cert_n, key_n;
	rd_init(&r, blob, n);
	if (rd_u8(&r) != CA_BLOB_VERSION)
		rd_fail(&r);
	const uint8_t *cert = rd_bytes(&r, PKI_CERT_MAX, &cert_n);
	const uint8_t *key = rd_bytes(&r, PKI_CERT_MAX, &key_n);
	if (rd_done(&r) < 0)
		return err_set(e, -EBADMSG, "the CA that came is damaged");

	const uint8_t *cert_at = cert, *key_at = key;
	p->ca = d2i_X509(NULL, &cert_at, (long)cert_n);
	if (!p->ca || cert_at != cert + cert_n)
		return ssl_err(e, -EBADMSG, "the CA certificate that came");
	p->ca_key = d2i_AutoPrivateKey(NULL, &key_at, (long)key_n);
	if (!p->ca_key || key_at != key + key_n)
		return ssl_err(e, -EBADMSG, "the CA key that came");
	return 0;
}

int pki_install(const char *state_dir, const struct pki_csr *csr, const uint8_t fp[static PKI_FINGERPRINT_SIZE],
		const uint8_t *ca, size_t ca_n, const uint8_t *cert, size_t cert_n, struct pki **ret, struct err *e)
{
	uint8_t got[PKI_FINGERPRINT_SIZE];
	_cleanup_(pki_free_p) struct pki *p = calloc(1, sizeof *p);
	if (!p || EVP_PKEY_up_ref(csr->key) != 1)
		return err_set(e, -ENOMEM, "out of memory");
	p->key = csr->key;

	int rc = ca_import(p, ca, ca_n, e);
	if (rc < 0)
		return rc;
	if (fingerprint(p->ca, got) < 0 || CRYPTO_memcmp(got, fp, sizeof got) != 0)
		return err_set(e, -EKEYREJECTED, "the CA that came is not the one that the token names");
	const uint8_t *at = cert;
	p->cert = cert_n <= PKI_CERT_MAX ? d2i_X509(NULL, &at, (long)cert_n) : NULL;
	if (!p->cert || at != cert + cert_n)
		return ssl_err(e, -EBADMSG, "the certificate that came");
	rc = pki_check(p, e);
	if (rc == 0)
		rc = pki_save(p, state_dir, e);
	if (rc == 0)
		*ret = take_ptr(p);
	return rc;
}
