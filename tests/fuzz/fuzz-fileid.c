/* deps: fileid wire */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "image/fileid.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* A set that is accepted is written back to the same bytes, and can be compared with what is here without harm: the paths in it
 * are looked up, but only as data of a peer that may name any path. An empty root keeps the fuzzer from reading real files. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct fileid *c;
	static int root = -1;
	if (!c && fileid_new(&c) < 0)
		return 0;
	if (root < 0)
		root = open("/proc/self/fdinfo", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct rd r;
	struct fileid_set *s;
	rd_init(&r, p, n);
	if (fileid_set_decode(&r, &s) < 0)
		return 0;
	struct wr w = { 0 };
	fileid_set_encode(&w, s);
	if (wr_done(&w) == 0 && (w.n != n || memcmp(w.p, p, n) != 0))
		__builtin_trap();
	wr_fini(&w);
	struct fileid_verdict v;
	(void)fileid_check(c, root, s, &v);
	(void)fileid_set_unref(s);
	return 0;
}
