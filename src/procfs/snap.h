/* What a node's processes looked like at one moment: the answers to REMOTE_BULK, kept as they came, found by pid. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "procfs/remote.h"

struct snap {
	unsigned refs;
	uint16_t node;
	uint64_t taken_ms;        /* when the last part came; 0 while it is incomplete */
	struct remote_proc *procs; /* owned, by rising pid; texts point into parts */
	size_t n_procs, cap_procs;
	uint8_t **parts; /* owned */
	size_t n_parts;
};

/* NULL when memory is short; refs is 1. */
struct snap *snap_new(uint16_t node);
struct snap *snap_ref(struct snap *s);
void snap_unref(struct snap *s); /* NULL is fine */

/* Adds one answer (copied): n_next is the pid to ask on from, 0 at the end. -EBADMSG (pids that do not rise or a bad message; nothing
 * was added), -ENOMEM, the error that the answer carries. */
int snap_add(struct snap *s, const void *p, size_t n, uint32_t *ret_next);

/* Borrowed, NULL when it is not there. */
const struct remote_proc *snap_find(const struct snap *s, uint32_t pid);

/* The text of /proc/PID/stat as one sees it who may not trace the process: addresses are masked as the kernel does. Appends to w. */
void snap_stat_masked(const char *stat, size_t n, struct wr *w);

/* Whether somebody with these file system ids and no capabilities may trace the process, judged by what /proc shows to root: all its
 * ids are his, it is dumpable, and it has no capabilities. "No" where it cannot be told. */
int snap_may_trace(const struct remote_proc *p, uint32_t uid, uint32_t gid);

/* "comm\n" out of the text of stat. Appends to w. */
void snap_comm(const char *stat, size_t n, struct wr *w);
