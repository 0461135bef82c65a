/* Answering a FUSE request with "interrupted" so that the kernel restarts the system call as it does natively.
 *
 * A FUSE server can only say EINTR, and the program then sees EINTR also with SA_RESTART handlers, after SIGSTOP and SIGCONT and
 * through the freezer. So a thread of ours seizes the waiting task, asks it to stop, answers EINTR, and at the stop (which comes
 * before any signal is delivered) turns the result into ERESTARTSYS and lets go; the kernel does the rest. A task that is traced
 * already, or another architecture than x86-64: it sees EINTR. Loop thread, except where said. */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct restart;

/* Starts the thread. fuse_fd is borrowed. The process must not wait for children elsewhere with waitpid(-1). */
int restart_new(int fuse_fd, struct restart **ret, struct err *e);

/* Answers the request `unique` of task tid with -EINTR, soon. -ENOMEM: not answered. */
int restart_answer(struct restart *r, uint32_t tid, uint64_t unique);

/* Waits until all that is queued is answered (that is soon: nothing of it waits for a program). */
void restart_flush(struct restart *r);

/* Answers what is queued, lets go of what is seized and ends the thread. NULL is fine. */
void restart_close(struct restart *r);

/* Whether tid is being killed: it never returns to its program. Also for one that is gone. Any thread. */
int restart_is_dying(uint32_t tid);

/* How many calls were turned and how many could not be. Any thread. */
void restart_counts(const struct restart *r, uint64_t *ret_turned, uint64_t *ret_plain);
