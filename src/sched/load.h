/* How busy a node is: the report that nodes send each other, and the probe that fills it on this node.
 *
 * The main figure is `running`: how many tasks want a CPU, averaged over the last LOAD_WINDOW_MS. Being a plain average
 * over a window it answers a step in linear time, which sched.c relies on when it adds what was placed too lately to
 * show. Loop thread. The probe reads a few files of /proc and the cgroup, which never blocks. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "wire/rd.h"
#include "wire/wr.h"

enum { LOAD_WINDOW_MS = 500, LOAD_PSI_UNKNOWN = 0xffff };

struct load_report {
	uint32_t cpus_milli;          /* CPUs that may be used, in 1/1000; never 0 */
	uint32_t speed_milli;         /* of one CPU for integer work; 1000 is a common core of 2023; never 0 */
	uint32_t running_milli;       /* tasks that want a CPU */
	uint32_t usage_milli;         /* CPUs in use */
	uint64_t mem_total, mem_free; /* bytes; free includes what can be dropped at once */
	uint32_t tasks;               /* all tasks, 0 where unknown */
	uint16_t psi_cpu, psi_mem;    /* 1/1000 of the last 10 s in which some task waited, or LOAD_PSI_UNKNOWN */
	uint32_t age_ms;              /* of the sample, when it was encoded */
};

/* MSG_LOAD. A reader accepts later versions, which only append. -EBADMSG for anything malformed or out of range. */
void load_encode(struct wr *w, const struct load_report *l);
int load_decode(const void *p, size_t n, struct load_report *ret) __attribute__((warn_unused_result));

struct load_config {
	/* "host": this machine. "cgroup:PATH": the processes of a control group, v1 or v2. PATH is one of its
	 * directories
	 * (/sys/fs/cgroup/cpuacct/a/b), or its name below the root of the hierarchies (a/b). */
	const char *source;
	double cpus;  /* 0: by the quota of the control group, or the CPUs that we may run on */
	double speed; /* 0: load_speed() */
};

struct load_probe;

/* On 0 the caller owns *ret. -EINVAL, -ENOENT (no such group), -errno. */
int load_probe_new(const struct load_config *cfg, struct load_probe **ret, struct err *e)
    __attribute__((warn_unused_result));
struct load_probe *load_probe_free(struct load_probe *p);

/* Looks at the node now and gives the averages over the window that ends now. Meant to be called every 50 to 500 ms;
 * costs 20-100 us, and up to 3 ms on a busy control group of hundreds of tasks. age_ms is 0. On failure *ret is unset.
 */
int load_probe_sample(struct load_probe *p, uint64_t now_ms, struct load_report *ret, struct err *e)
    __attribute__((warn_unused_result));

/* Integer speed of the CPU we run on, by a loop of some 10 ms. Any thread. */
double load_speed(void);
