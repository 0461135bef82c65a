/* One program of the keeper: started, its socket, its end, when it starts again.
 *
 * Happy path: child_find; child_start; child_ended when waitid told of it, before it is reaped; child_start again at start_ms.
 * Each runs in a process group of its own, with the signals, limits and OOM score said in child_start, and gets SIGTERM when the keeper
 * dies. What is left of its group when it ends is killed. Main thread. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "keeper/backoff.h"
#include "keeper/conn.h"
#include "keeper/record.h"
#include "keeper/store.h"

enum child_state {
	CHILD_ABSENT,  /* not in the directory */
	CHILD_STOPPED, /* not to run */
	CHILD_WAITING, /* to be started at start_ms */
	CHILD_RUNS,
};

struct child {
	const char *name;  /* borrowed */
	enum child_state state;
	pid_t pid;         /* CHILD_RUNS */
	struct record_task task;
	uint64_t since_ms; /* CHILD_RUNS: when it was started */
	uint64_t start_ms; /* CHILD_WAITING */
	struct backoff backoff;
	struct store store;
	struct conn conn;
};

/* CHILD_STOPPED, or CHILD_ABSENT with a line in the log. */
void child_find(struct child *c, const char *dir);

/* From now on it is to run, as soon as may be. */
void child_want(struct child *c, uint64_t now_ms);

/* Starts dir/name with argv (NULL-terminated); on failure it is CHILD_WAITING again, and the failure is logged. */
void child_start(struct child *c, const char *dir, char *const argv[], const struct conn_ops *ops, void *ctx);

/* It is a zombie with this status, not reaped yet: says why it ended, takes what it said last, kills the rest of its group. It is
 * CHILD_WAITING when it is to run again, else CHILD_STOPPED. */
void child_ended(struct child *c, int status, int again);

/* Sends it a signal, if it runs; group: to all of its process group. */
void child_signal(const struct child *c, int signo, int group);

/* To be called once before the first child_start: keeps the limits that children get back, and raises ours. Returns how many
 * descriptors we may have. */
unsigned child_limits(void);
