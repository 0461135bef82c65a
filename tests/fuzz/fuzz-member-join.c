/* deps: member */
/* Tokens, requests to join, and answers. The first byte chooses. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "member/join.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void token_try(const uint8_t *p, size_t n)
{
	char text[2 * TOKEN_TEXT_SIZE], again[TOKEN_TEXT_SIZE];
	struct token t, back;
	if (n > sizeof text - 8)
		n = sizeof text - 8;
	memcpy(text, "pando1.", 7); /* the fuzzer need not find it */
	memcpy(text + 7, p, n);
	text[7 + n] = 0;
	if (token_decode(text, &t, NULL) < 0)
		return;
	if (token_encode(&t, again) == 0 && (token_decode(again, &back, NULL) < 0 || memcmp(&t, &back, sizeof t) != 0))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct join_request q;
	struct join_answer a;
	if (n < 1)
		return 0;
	if (p[0] % 3 == 0)
		token_try(p + 1, n - 1);
	else if (p[0] % 3 == 1)
		(void)join_request_decode(p + 1, n - 1, &q);
	else
		(void)join_answer_decode(p + 1, n - 1, &a);
	return 0;
}
