/* What `pando run` sends along: the state of this process that a command inherits from its caller. */
#pragma once

#include "base/err.h"
#include "cli/term.h"
#include "ctl/run.h"

struct collected {
	struct run_request req;
	int *sent; /* owned; the descriptors of kind RUN_FD_SENT, in order; they stay open */
	size_t n_sent;
};

/* Fills in everything but node and features from the calling process, which must not have changed its signals yet. argv is copied;
 * descriptors without close-on-exec are listed: those that are the terminal t become RUN_FD_PTY. On 0 the caller owns the content of *ret. */
int collect(char **argv, const struct term *t, struct collected *ret, struct err *e);

void collect_fini(struct collected *c);

/* Closes what was sent, so that a pipe ends when the command closes it, not when we end; 0, 1 and 2 become /dev/null. Leaves the directory, too. */
void collect_let_go(const struct collected *c);
