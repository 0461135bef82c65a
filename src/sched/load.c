/* MSG_LOAD: u16 version (1), u32 cpus_milli, u32 speed_milli, u32 running_milli, u32 usage_milli, u64 mem_total, u64
 * mem_free, u32 tasks, u16 psi_cpu, u16 psi_mem, u32 age_ms; later versions append. */
#include "sched/load.h"

#include <errno.h>
#include <time.h>

enum { LOAD_VERSION = 1, CPUS_MILLI_MAX = 65536 * 1000, SPEED_MILLI_MAX = 1000 * 1000, TASKS_MAX = 1 << 22 };

void load_encode(struct wr *w, const struct load_report *l)
{
	wr_u16(w, LOAD_VERSION);
	wr_u32(w, l->cpus_milli);
	wr_u32(w, l->speed_milli);
	wr_u32(w, l->running_milli);
	wr_u32(w, l->usage_milli);
	wr_u64(w, l->mem_total);
	wr_u64(w, l->mem_free);
	wr_u32(w, l->tasks);
	wr_u16(w, l->psi_cpu);
	wr_u16(w, l->psi_mem);
	wr_u32(w, l->age_ms);
}

static int psi_ok(uint16_t v)
{
	return v <= 1000 || v == LOAD_PSI_UNKNOWN;
}

int load_decode(const void *p, size_t n, struct load_report *ret)
{
	struct rd r;
	rd_init(&r, p, n);
	uint16_t version = rd_u16(&r);
	struct load_report l;
	l.cpus_milli = rd_u32(&r); /* one by one: within one initialiser the order is the compiler's */
	l.speed_milli = rd_u32(&r);
	l.running_milli = rd_u32(&r);
	l.usage_milli = rd_u32(&r);
	l.mem_total = rd_u64(&r);
	l.mem_free = rd_u64(&r);
	l.tasks = rd_u32(&r);
	l.psi_cpu = rd_u16(&r);
	l.psi_mem = rd_u16(&r);
	l.age_ms = rd_u32(&r);
	if (version > LOAD_VERSION)
		(void)rd_raw(&r, r.n);
	if (version < 1 || !l.cpus_milli || l.cpus_milli > CPUS_MILLI_MAX || !l.speed_milli ||
	    l.speed_milli > SPEED_MILLI_MAX || l.running_milli > (uint32_t)TASKS_MAX * 1000u - 1u ||
	    l.usage_milli > CPUS_MILLI_MAX || l.tasks > TASKS_MAX || l.mem_free > l.mem_total || !psi_ok(l.psi_cpu) ||
	    !psi_ok(l.psi_mem))
		rd_fail(&r);
	int rc = rd_done(&r);
	if (rc < 0)
		return rc;
	*ret = l;
	return 0;
}

/* One run of the loop: dependent multiplications, shifts and branches that a compiler cannot shorten. */
static uint64_t loop_ns(void)
{
	struct timespec a, b;
	volatile uint64_t sink;
	uint64_t x = 88172645463325252u, n = 0;
	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	for (int i = 0; i < 200000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		n += x & 1 ? x >> 60 : 3;
	}
	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	sink = n;
	(void)sink;
	return (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)b.tv_nsec - (uint64_t)a.tv_nsec;
}

double load_speed(void)
{
	enum { RUNS = 12, COMMON_NS = 500000 }; /* what a common core of 2023 needs for one run */
	uint64_t best = UINT64_MAX;
	for (int i = 0; i < RUNS; i++) { /* the fastest is the one that nobody disturbed */
		uint64_t t = loop_ns();
		best = t < best ? t : best;
	}
	double speed = best ? (double)COMMON_NS / (double)best : 1;
	return speed < 0.01 ? 0.01 : speed > 100 ? 100 : speed;
}
