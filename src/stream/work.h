/* Work that may block, off the loop: a pool for what ends soon (files), own threads for what may wait for ever and must be
 * cancellable (terminals, locks, opening FIFOs). Jobs share nothing with the loop while they run; done runs on the loop. */
#pragma once

#include <pthread.h>
#include <uv.h>

#include "base/err.h"

struct work;

/* To be embedded. The owner keeps it and all that run touches alive until done. */
struct job {
	void (*run)(struct job *j);  /* any thread */
	void (*done)(struct job *j); /* loop thread, exactly once; may free j */
	struct work *w;
	uv_work_t req;
	pthread_t thread;
	int is_thread, is_finished, is_cancelled;
	int keep_caps;               /* set by the caller of work_thread: the thread keeps our capabilities */
	struct job *f_next, *prev, *next;
};

enum { WORK_THREADS_MAX = 512 };

/* Also installs the handler (doing nothing) of the signal that interrupts threads. On 0 owned by the caller. */
int work_new(uv_loop_t *loop, struct work **ret, struct err *e);
/* All jobs must be done. Freed when the loop has run on. */
void work_close(struct work *w);

/* Runs j in the pool. -errno: done never runs. */
int work_pool(struct work *w, struct job *j);

/* Runs j in a thread of its own, without any capability unless j->keep_caps. -EAGAIN when there are too many. */
int work_thread(struct work *w, struct job *j);

/* Interrupts the blocking call of a job of work_thread (it ends with -EINTR) again and again until it is done. */
void work_cancel(struct job *j);
