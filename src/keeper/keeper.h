/* The keeper as a whole. Main thread. */
#pragma once

#include "base/err.h"

struct keeper_options {
	const char *state_dir, *run_dir; /* absolute */
	const char *libexec;             /* directory of the programs */
	const char *load_source, *cpus;  /* passed on to pandod; NULL: not given */
};

/* Runs until SIGTERM or SIGINT. 0, or -errno when it could not begin: -EBUSY: another keeper uses run_dir. */
int keeper_run(const struct keeper_options *o, struct err *e);
