/* Join tokens as text: "pando1." and, in base64url without padding,
 *   u8 version (1), u32 n { str address host:port }, raw 32 fingerprint of the cluster's CA, raw 16 secret.
 * The cluster keeps SHA-256 of the secret and until when it is good; whoever has the text may join once. Pure. Any thread. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "member/cluster.h"

enum { TOKEN_ADDRS = 4, TOKEN_SECRET_SIZE = 16, TOKEN_TEXT_SIZE = 1024 };

struct token {
	unsigned n_addrs;
	char addrs[TOKEN_ADDRS][CLUSTER_ADDR_SIZE]; /* where members listen */
	uint8_t fingerprint[32];
	uint8_t secret[TOKEN_SECRET_SIZE];
};

/* 0 or -ENOMEM. */
int token_encode(const struct token *t, char ret[static TOKEN_TEXT_SIZE]);

/* -EINVAL: not a token (words in e); *ret is then untouched. Spaces and newlines around the text are fine. */
int token_decode(const char *text, struct token *ret, struct err *e);

/* What the cluster keeps of the secret. */
void token_hash(const uint8_t secret[static TOKEN_SECRET_SIZE], uint8_t ret[static 32]);
