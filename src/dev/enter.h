/* Running commands in a node of a trial cluster from outside. Single-threaded programs only. */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "dev/cg.h"
#include "dev/trial.h"

struct enter {
	char *const *argv;
	const char *cwd; /* where it starts; "/" when that is not there in the node */
	int fds[3];      /* its standard descriptors; ignored with pty */
	int pty;         /* it gets a terminal of the node instead, as its controlling terminal */
};

/* Starts a command in node i: in all its namespaces and cgroups, as root, leader of a new session, a child of this
 * process (it is killed when this process ends). A command that cannot be executed says so on its standard error and
 * ends with 127 (not found) or 126. On 0 the caller waits for *ret_pid and owns *ret_master (-1 without pty). -ESRCH:
 * the node is off; -EAGAIN: it is frozen. */
int enter_spawn(const struct trial *c, const struct cg *cg, unsigned i, const struct enter *how, pid_t *ret_pid,
		int *ret_master, struct err *e);

/* Runs a command in node i as a program at a terminal, in a pipe or in a script would be run: standard descriptors (a
 * terminal of the node stands in for ours when input and output are one), signals, window size. Returns its exit
 * status; when a signal killed it, this process ends by the same signal. -errno when it could not be started. */
int enter_exec(const struct trial *c, const struct cg *cg, unsigned i, char *const argv[], struct err *e);

/* Runs a command in node i without input, at most ms; what it writes (output, errors) is put into out and err_out, each
 * ended by 0, what does not fit is dropped. 0 and *ret_status as from waitpid, or -ETIMEDOUT (it is killed then). */
int enter_capture(const struct trial *c, const struct cg *cg, unsigned i, char *const argv[], int ms, char *out,
		  size_t out_size, char *err_out, size_t err_size, int *ret_status, struct err *e);
