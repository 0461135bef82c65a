/* deps: member */
/* Commands of the cluster applied one after the other, and snapshots: whatever comes, the state stays one that can be written and
 * read back as the same bytes. Input: first byte odd: a snapshot; else u8 length and a command, repeated. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "member/cluster.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void same_after_writing(const struct cluster *c)
{
	static struct cluster back;
	struct wr a = { 0 }, b = { 0 };
	cluster_encode(c, &a);
	if (wr_done(&a) == 0) {
		if (cluster_decode(&back, a.p, a.n) < 0)
			abort();
		cluster_encode(&back, &b);
		if (wr_done(&b) == 0 && (a.n != b.n || memcmp(a.p, b.p, a.n) != 0))
			abort();
	}
	wr_fini(&a);
	wr_fini(&b);
}

static void begin(struct cluster *c)
{
	struct cluster_cmd cmd = { .type = CLUSTER_INIT, .now_ms = 1, .name = "a", .addr = "a:1" };
	struct wr w = { 0 };
	memset(c, 0, sizeof *c);
	if (cluster_cmd_encode(&cmd, &w) == 0)
		(void)cluster_apply(c, w.p, w.n);
	w.n = 0;
	cmd.type = CLUSTER_UP;
	cmd.node = 1;
	if (cluster_cmd_encode(&cmd, &w) == 0)
		(void)cluster_apply(c, w.p, w.n);
	wr_fini(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct cluster c;
	if (n < 1)
		return 0;
	if (p[0] & 1) {
		memset(&c, 0, sizeof c);
		if (cluster_decode(&c, p + 1, n - 1) == 0)
			same_after_writing(&c);
		return 0;
	}
	begin(&c);
	for (size_t at = 1; at < n;) {
		size_t size = p[at++];
		if (size > n - at)
			size = n - at;
		uint64_t version = c.version;
		struct cluster_effect f = cluster_apply(&c, p + at, size);
		if (f.status > 0 || c.version != version + 1 || f.died > NODE_MAX)
			abort();
		at += size;
	}
	same_after_writing(&c);
	return 0;
}
