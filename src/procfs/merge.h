/* One machine's figures out of those of many: the texts of /proc/stat, meminfo, loadavg, uptime and cpuinfo of several nodes become
 * one text each. Pure; texts need no NUL behind them; what cannot be understood of a text is left out, never an error.
 *
 * texts[self] is of this node: where figures cannot be added (btime, page sizes, the last pid) its value counts. The texts are in the
 * order of the node numbers, so that all nodes number the CPUs alike. */
#pragma once

#include <stddef.h>

#include "wire/wr.h"

struct merge_text {
	const char *p; /* borrowed */
	size_t n;
};

/* cpu lines renumbered over all texts in their order and summed, intr and softirq and the other counters summed (intr: the total
 * only: the numbers of interrupts mean different things on different nodes); btime is that of texts[self]. */
void merge_stat(const struct merge_text *texts, size_t n, size_t self, struct wr *ret);

/* Every line summed, but sizes of pages and of the address space; the lines of texts[self] in their order, then those that only
 * others have. */
void merge_meminfo(const struct merge_text *texts, size_t n, size_t self, struct wr *ret);

/* Loads and task counts summed; the last pid is that of texts[self]. */
void merge_loadavg(const struct merge_text *texts, size_t n, size_t self, struct wr *ret);

/* Up as long as texts[self], idle summed. */
void merge_uptime(const struct merge_text *texts, size_t n, size_t self, struct wr *ret);

/* All blocks, "processor" renumbered, "physical id" moved so that no two nodes share a socket. */
void merge_cpuinfo(const struct merge_text *texts, size_t n, struct wr *ret);
