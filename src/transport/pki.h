/* Keys and certificates of the cluster, and the TLS contexts made of them.
 *
 * The cluster has one CA (EC P-256). Every member holds the CA's key, so that any member can admit a node. A node's certificate
 * names it: subject CN "node-<id>", O the cluster id (16 random bytes in hex). Certificates do not run out and clocks are not
 * asked: who is a member is decided by the membership log, not by dates (a node with a wrong clock must still get to its peers).
 * So removing a member does not take from it what it had: a removed machine that is not trusted any more needs a new cluster CA.
 *
 * Files in the state directory (0700): ca.key, node.key (0600), ca.crt, node.crt; PEM. Each is written whole, synced and renamed
 * into place, node.crt last: without node.crt there is no membership.
 *
 * Recipe, first node: pki_create. Other nodes: pki_csr_new; (send it) on a member: pki_issue and pki_ca_export; (back) pki_install.
 * Each start: pki_load (pandod), pki_load_node (programs that need no CA key).
 *
 * Any thread, one at a time per object; a const struct pki may be used by several. */
#pragma once

#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
	PKI_CLUSTER_ID_SIZE = 33, /* 32 hex digits and NUL */
	PKI_FINGERPRINT_SIZE = 32, /* SHA-256 of the CA certificate (DER) */
	PKI_CSR_MAX = 4096,
	PKI_CERT_MAX = 8192,
	PKI_CA_MAX = 16384, /* an exported CA */
};

struct pki;
struct pki_csr;

/* A new cluster: CA, key and certificate of its first node, written to state_dir (made if missing). -EEXIST: state_dir holds a
 * membership already. On 0 the caller owns *ret. */
int pki_create(const char *state_dir, uint16_t node, struct pki **ret, struct err *e) __attribute__((warn_unused_result));

/* As pki_create, but nothing is written. For tests and trials. */
int pki_create_in_memory(uint16_t node, struct pki **ret, struct err *e) __attribute__((warn_unused_result));

/* Reads and checks all four files: -ENOENT: no membership here; -EPERM: a key can be read by others; -EBADMSG: a file is damaged or
 * they do not belong together. On 0 the caller owns *ret. */
int pki_load(const char *state_dir, struct pki **ret, struct err *e) __attribute__((warn_unused_result));

/* The same without ca.key: pki_issue and pki_ca_export then say -ENOKEY. */
int pki_load_node(const char *state_dir, struct pki **ret, struct err *e) __attribute__((warn_unused_result));

/* Frees and wipes. NULL is fine. Returns NULL. */
struct pki *pki_free(struct pki *p);
void pki_free_p(struct pki **p); /* for _cleanup_ */

/* Deletes the four files (leaving the cluster). Missing ones are fine. */
int pki_remove(const char *state_dir, struct err *e) __attribute__((warn_unused_result));

const char *pki_cluster_id(const struct pki *p);
uint16_t pki_node(const struct pki *p);
void pki_ca_fingerprint(const struct pki *p, uint8_t ret[static PKI_FINGERPRINT_SIZE]);

/* A new key pair, and a request for a certificate of it. The caller owns *ret. */
int pki_csr_new(struct pki_csr **ret, struct err *e) __attribute__((warn_unused_result));
struct pki_csr *pki_csr_free(struct pki_csr *c);
void pki_csr_free_p(struct pki_csr **c);
/* The request (DER), borrowed from c. */
const uint8_t *pki_csr_bytes(const struct pki_csr *c, size_t *ret_n);

/* Makes a certificate for node of a foreign request. Only the public key is taken from it, which must be P-256 and the request signed
 * by it: else -EBADMSG. On 0 the caller frees *ret by free() (it is public). */
int pki_issue(const struct pki *p, const uint8_t *csr, size_t csr_n, uint16_t node, uint8_t **ret, size_t *ret_n, struct err *e)
	__attribute__((warn_unused_result));

/* Certificate and key of the CA, for a machine that is being admitted. Secret: free by pki_wipe. */
int pki_ca_export(const struct pki *p, uint8_t **ret, size_t *ret_n, struct err *e) __attribute__((warn_unused_result));

/* Overwrites and frees. NULL is fine. */
void pki_wipe(uint8_t *p, size_t n);

/* Takes the answer to a request: checks that ca is the CA with the expected fingerprint, that cert is of that CA and for the
 * request's key, and writes all to state_dir. -EEXIST as pki_create; -EBADMSG: what came does not fit together; -EKEYREJECTED: another
 * CA than expected. On 0 the caller owns *ret. */
int pki_install(const char *state_dir, const struct pki_csr *csr, const uint8_t fingerprint[static PKI_FINGERPRINT_SIZE],
		const uint8_t *ca, size_t ca_n, const uint8_t *cert, size_t cert_n, struct pki **ret, struct err *e)
	__attribute__((warn_unused_result));

/* What a connection is for, agreed by ALPN. */
enum pki_use {
	PKI_USE_NONE,
	PKI_USE_LINK,   /* "pando-link/1": certificates both ways */
	PKI_USE_STREAM, /* "pando-stream/1": certificates both ways */
	PKI_USE_JOIN,   /* "pando-join/1": the client has none yet and knows the CA's fingerprint */
};

/* TLS 1.3 contexts without resumption and early data. A link server takes joins too. p is borrowed: it outlives the context.
 * On 0 the caller owns *ret (SSL_CTX_free). use: PKI_USE_LINK or PKI_USE_STREAM. */
int pki_server_ctx(const struct pki *p, enum pki_use use, SSL_CTX **ret, struct err *e) __attribute__((warn_unused_result));
int pki_client_ctx(const struct pki *p, enum pki_use use, SSL_CTX **ret, struct err *e) __attribute__((warn_unused_result));

/* The context of a machine that wants to join: the server must present a CA certificate with this fingerprint and its own signed by
 * it. fingerprint is borrowed: it outlives the context. */
int pki_join_ctx(const uint8_t fingerprint[static PKI_FINGERPRINT_SIZE], SSL_CTX **ret, struct err *e)
	__attribute__((warn_unused_result));

/* What was agreed on; PKI_USE_NONE before the handshake or without ALPN. */
enum pki_use pki_use_of(const SSL *ssl);

/* The node that the peer's verified certificate names. -ENOKEY: no certificate; -EKEYREJECTED: of another cluster, or it names no
 * node. */
int pki_peer_node(const struct pki *p, const SSL *ssl, uint16_t *ret, struct err *e) __attribute__((warn_unused_result));
