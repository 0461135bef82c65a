/* Ends what must not go on: a space, and what a keeper that was killed left behind. Main thread; blocks, for the times said. */
#pragma once

#include "base/err.h"
#include "keeper/record.h"
#include "space/create.h"

enum {
	LEFTOVER_LEAVE_MS = 10000, /* for pandod, to wipe its space and leave */
	LEFTOVER_END_MS = 3000,    /* for the last process of a space, and for a killed program */
};

/* Kills each process of the space, its pid 1 only if it started when said. No process runs on after that, but some may still be there:
 * those that wait for an answer of a FUSE server, until all descriptors of /dev/fuse are closed. */
void leftover_kill(const struct space_ends *ends, uint64_t start);

/* As leftover_kill; then waits until all are gone and removes the cgroup. At most LEFTOVER_END_MS and a second. */
void leftover_space(const struct space_ends *ends, uint64_t start);

/* Ends all that RUN's record knows of, in this order: freezes the space, so that it does not run without a watchdog; waits until the programs
 * of the keeper before have ended (they got SIGTERM by its death) and kills those that do not; destroys the space; removes the record. */
void leftover_clear(const char *run_dir);
