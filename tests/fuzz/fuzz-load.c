/* deps: sched wire */
#include <stddef.h>
#include <stdint.h>

#include "sched/load.h"
#include "sched/sched.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Whatever is accepted is written back as it was, and cannot upset the scheduler's figures. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct load_report l;
	if (load_decode(p, n, &l) < 0)
		return 0;
	struct sched_config c = { .self = 1 };
	struct sched *s;
	if (sched_new(&c, &s, NULL) < 0)
		return 0;
	sched_node_set(s, 2, SCHED_NODE_ACTIVE);
	struct sched_node v;
	struct sched_decision d;
	struct sched_request r = { .pid = 1 };
	if (sched_report_in(s, 2, p, n, 10000) < 0 || sched_report_in(s, 1, p, n, 10000) < 0 ||
	    sched_node_get(s, 2, 10000, &v) < 0 || !(v.cpus > 0) || !(v.speed > 0) || !(v.load >= 0))
		__builtin_trap();
	if (sched_place(s, &r, (struct learn_key){ 0 }, NULL, 10000, &d, NULL) < 0 || (d.node != 1 && d.node != 2))
		__builtin_trap();
	(void)sched_free(s);

	struct wr w = { 0 };
	struct load_report back;
	load_encode(&w, &l);
	if (load_decode(w.p, w.n, &back) < 0 || back.running_milli != l.running_milli || back.age_ms != l.age_ms)
		__builtin_trap();
	wr_fini(&w);
	return 0;
}
