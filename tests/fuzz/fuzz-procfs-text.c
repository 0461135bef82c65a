/* deps: procfsd procfs base */
/* Texts and answers of other nodes as the /proc server takes them apart: figures merged into one, snapshots, masked stat, status. The
 * first byte chooses; the rest is cut in two at its second byte. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "procfs/cred.h"
#include "procfs/ino.h"
#include "procfs/merge.h"
#include "procfs/snap.h"
#include "procfs/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void merged(unsigned which, const uint8_t *p, size_t n, size_t cut)
{
	const struct merge_text t[2] = { { (const char *)p, cut }, { (const char *)p + cut, n - cut } };
	struct wr w = { 0 };
	if (which == 0)
		merge_stat(t, 2, n & 1, &w);
	else if (which == 1)
		merge_meminfo(t, 2, n & 1, &w);
	else if (which == 2)
		merge_loadavg(t, 2, n & 1, &w);
	else if (which == 3)
		merge_uptime(t, 2, n & 1, &w);
	else
		merge_cpuinfo(t, 2, &w);
	if (wr_done(&w) < 0 || w.n > 64 * n + 4096)
		abort();
	wr_fini(&w);
}

static void snapshot(const uint8_t *p, size_t n, size_t cut)
{
	struct snap *s = snap_new(1);
	if (!s)
		return;
	uint32_t next = 0;
	if (snap_add(s, p, cut, &next) == 0 && next)
		(void)snap_add(s, p + cut, n - cut, &next);
	for (size_t i = 0; i < s->n_procs; i++) {
		const struct remote_proc *q = &s->procs[i];
		if (snap_find(s, q->pid) != q || (i && q->pid <= s->procs[i - 1].pid))
			abort();
		struct wr w = { 0 };
		snap_stat_masked(q->text[REMOTE_T_STAT], q->text_n[REMOTE_T_STAT], &w);
		snap_comm(q->text[REMOTE_T_STAT], q->text_n[REMOTE_T_STAT], &w);
		(void)snap_may_trace(q, 1, 1);
		wr_fini(&w);
	}
	snap_unref(s);
}

static void status(const uint8_t *p, size_t n)
{
	struct cred c = { 0 };
	char *text = malloc(n + 1);
	if (!text)
		return;
	memcpy(text, p, n);
	text[n] = 0;
	cred_parse_status(text, &c);
	if (c.n_groups > CRED_GROUPS_MAX)
		abort();
	free(text);
}

static void number(const uint8_t *p, size_t n)
{
	struct ino i;
	uint64_t v = 0;
	memcpy(&v, p, n < sizeof(v) ? n : sizeof(v));
	if (ino_unpack(v, &i) == 0 && (i.node >= TABLE_NODES || i.pid > REMOTE_PID_MAX))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (n < 2)
		return 0;
	unsigned which = p[0] % 8;
	size_t cut = p[1] * (n - 2) / 255;
	p += 2;
	n -= 2;
	if (which < 5)
		merged(which, p, n, cut);
	else if (which == 5)
		snapshot(p, n, cut);
	else if (which == 6)
		status(p, n);
	else
		number(p, n);
	return 0;
}
