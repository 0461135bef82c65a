#include "member/token.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "wire/rd.h"
#include "wire/wr.h"

enum { TOKEN_VERSION = 1 };

static const char prefix[] = "pando1.";
static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static char *base64url_encode(const uint8_t *p, size_t n, char *to)
{
	uint32_t bits = 0;
	unsigned have = 0;
	for (size_t i = 0; i < n; i++) {
		bits = (bits << 8 | p[i]) & 0xffffff;
		for (have += 8; have >= 6; have -= 6)
			*to++ = digits[bits >> (have - 6) & 63];
	}
	if (have)
		*to++ = digits[bits << (6 - have) & 63];
	*to = 0;
	return to;
}

/* The number of bytes, or -EINVAL: another character, a length that cannot be, bits that are lost, more than size bytes. */
static int base64url_decode(const char *p, size_t n, uint8_t *to, size_t size)
{
	uint32_t bits = 0;
	unsigned have = 0;
	int count = 0;
	if (n / 4 * 3 + 3 > size)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		const char *d = p[i] ? strchr(digits, p[i]) : NULL;
		if (!d)
			return -EINVAL;
		bits = (bits << 6 | (uint32_t)(d - digits)) & 0xffffff;
		have += 6;
		if (have >= 8) {
			have -= 8;
			to[count++] = (uint8_t)(bits >> have);
		}
	}
	return have >= 6 || (bits & ((1u << have) - 1)) ? -EINVAL : count;
}

int token_encode(const struct token *t, char ret[static TOKEN_TEXT_SIZE])
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	wr_u8(&w, TOKEN_VERSION);
	wr_u32(&w, t->n_addrs);
	for (unsigned i = 0; i < t->n_addrs; i++)
		wr_str(&w, t->addrs[i]);
	wr_raw(&w, t->fingerprint, sizeof t->fingerprint);
	wr_raw(&w, t->secret, sizeof t->secret);
	if (wr_done(&w) < 0)
		return -ENOMEM;
	strcpy(ret, prefix);
	(void)base64url_encode(w.p, w.n, ret + strlen(prefix));
	return 0;
}

static int bytes_decode(const uint8_t *p, size_t n, struct token *ret)
{
	struct rd r;
	struct token t = { 0 };
	rd_init(&r, p, n);
	if (rd_u8(&r) != TOKEN_VERSION)
		rd_fail(&r);
	t.n_addrs = rd_count(&r, TOKEN_ADDRS, 4);
	for (unsigned i = 0; i < t.n_addrs; i++) {
		rd_str(&r, t.addrs[i], sizeof t.addrs[i]);
		if (cluster_addr_check(t.addrs[i], NULL) < 0)
			rd_fail(&r);
	}
	const uint8_t *fingerprint = rd_raw(&r, sizeof t.fingerprint);
	const uint8_t *secret = rd_raw(&r, sizeof t.secret);
	int rc = rd_done(&r);
	if (rc < 0 || !fingerprint || !secret || t.n_addrs == 0)
		return -EINVAL;
	memcpy(t.fingerprint, fingerprint, sizeof t.fingerprint);
	memcpy(t.secret, secret, sizeof t.secret);
	*ret = t;
	return 0;
}

int token_decode(const char *text, struct token *ret, struct err *e)
{
	while (isspace((unsigned char)*text))
		text++;
	size_t n = strlen(text);
	while (n && isspace((unsigned char)text[n - 1]))
		n--;
	if (n <= strlen(prefix) || n >= TOKEN_TEXT_SIZE || strncmp(text, prefix, strlen(prefix)) != 0)
		return err_set(e, -EINVAL, "this is not a join token (it begins with %s)", prefix);

	uint8_t bytes[TOKEN_TEXT_SIZE];
	int size = base64url_decode(text + strlen(prefix), n - strlen(prefix), bytes, sizeof bytes);
	if (size < 0 || bytes_decode(bytes, (size_t)size, ret) < 0)
		return err_set(e, -EINVAL, "this join token is damaged: copy all of it");
	return 0;
}

void token_hash(const uint8_t secret[static TOKEN_SECRET_SIZE], uint8_t ret[static 32])
{
	(void)SHA256(secret, TOKEN_SECRET_SIZE, ret);
}
