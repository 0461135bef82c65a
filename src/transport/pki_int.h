/* Shared by the pki_*.c files: keys and certificates as OpenSSL objects. Not for others. */
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "transport/pki.h"

struct pki {
	X509 *ca;
	EVP_PKEY *ca_key; /* NULL after pki_load_node */
	X509 *cert;
	EVP_PKEY *key;
	uint16_t node;
	char cluster[PKI_CLUSTER_ID_SIZE];
};

struct pki_csr {
	EVP_PKEY *key;
	uint8_t *der; /* owned */
	size_t n;
};

void x509_free_p(X509 **x);
void pkey_free_p(EVP_PKEY **k);

/* Sets e to code, the words and OpenSSL's own reason, and empties OpenSSL's queue of errors. Returns code. */
int ssl_err(struct err *e, int code, const char *what);

int cert_key_new(EVP_PKEY **ret, struct err *e);

/* A certificate for pub; ca == NULL: of a new CA, signed by itself. */
int cert_new(EVP_PKEY *pub, const char *cluster, uint16_t node, X509 *ca, EVP_PKEY *ca_key, X509 **ret, struct err *e);

/* Cluster and node that a certificate names; node 0 for the CA. -EKEYREJECTED when it is not one of ours. */
int cert_names(const X509 *x, char ret_cluster[static PKI_CLUSTER_ID_SIZE], uint16_t *ret_node, struct err *e);

/* Whether x is signed by ca. 0 or -EKEYREJECTED. */
int cert_verify(X509 *ca, X509 *x, struct err *e);

/* Checks that all of p belongs together, and fills node and cluster. -EBADMSG. */
int pki_check(struct pki *p, struct err *e);
