/* deps: ctl wire base */
/* The run request: any bytes decode or are refused, and what decodes encodes to the same bytes again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ctl/run.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_(run_request_fini) struct run_request r = {};
	if (run_request_decode(p, n, &r) < 0)
		return 0;
	_cleanup_(wr_fini) struct wr w = {};
	if (run_request_encode(&r, &w) < 0)
		abort();
	_cleanup_(run_request_fini) struct run_request again = {};
	if (run_request_decode(w.p, w.n, &again) < 0 || again.n_fds != r.n_fds || strcmp(again.argv[0], r.argv[0]) != 0)
		abort();
	return 0;
}
