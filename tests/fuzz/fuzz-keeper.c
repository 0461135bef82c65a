/* deps: keeperd keeper wire */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "keeper/proto.h"
#include "keeper/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Requests, answers and the record: what is accepted is written back to the same bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct keeper_request q;
	static struct keeper_answer a;
	struct record r;
	struct wr w = { 0 };
	if (n < 1)
		return 0;
	uint8_t kind = p[0] % 3;
	p++;
	n--;
	int rc = kind == 0 ? keeper_request_decode(&q, p, n) : kind == 1 ? keeper_answer_decode(&a, p, n) : record_decode(&r, p, n);
	if (rc < 0)
		return 0;
	if (kind == 0)
		keeper_request_encode(&w, &q);
	else if (kind == 1)
		keeper_answer_encode(&w, &a);
	else
		record_encode(&w, &r);
	if (wr_done(&w) == 0 && (w.n != n || memcmp(w.p, p, n) != 0))
		__builtin_trap();
	wr_fini(&w);
	return 0;
}
