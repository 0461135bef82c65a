/* What a keeper that was killed leaves running, as a small file in the run directory for the next one.
 *
 * RUN/keeper.record, little endian: "PANDOKR1", raw 36 boot id, u32 n children, each { i32 pid, u64 start }, i32 init (0: no space),
 * u64 start, u8 freezer_v2, str cgroup. Start is that of /proc/PID/stat: a number that was given away again is not taken for what is
 * meant. Written whole and renamed into place; not synced, for it does not outlive the machine's run. Main thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "keeper/proto.h"
#include "wire/wr.h"

enum { RECORD_CHILDREN = 8, RECORD_BOOT = 36, RECORD_MAX = 1024 };

struct record_task {
	pid_t pid; /* 0: none */
	uint64_t start;
};

struct record {
	char boot[RECORD_BOOT];
	unsigned n_children;
	struct record_task child[RECORD_CHILDREN];
	struct record_task init;
	uint8_t freezer_v2;
	char cgroup[KEEPER_CGROUP_SIZE];
};

void record_encode(struct wr *w, const struct record *r);
int record_decode(struct record *ret, const void *p, size_t n); /* 0, -EBADMSG */

/* Fills in the boot id and writes; a record of nothing deletes the file. */
int record_write(const char *run_dir, struct record *r, struct err *e);

/* -ENOENT: nothing was left on this boot; -EBADMSG: damaged. */
int record_read(const char *run_dir, struct record *ret, struct err *e);

/* The task's start; pid 0 when there is none. */
struct record_task record_task_of(pid_t pid);
