/* pid 1 of a node of a trial cluster. */
#pragma once

#include "base/err.h"
#include "dev/cg.h"
#include "dev/trial.h"

/* The hidden program: sets the node up (mounts, host name, address), says "ready" on the leash, starts the service at
 * "start", reaps; starts the service again, a second later, when it fails (as the systemd unit of a real machine does).
 * Returns the exit status. */
int init_main(int leash_fd, const char *name, unsigned i);

/* Makes the node's view of the file system in this process's mount namespace; the record's exe, libexec and directories
 * are those of the machine. Afterwards all paths are the node's. In mounts.c. */
int mounts_setup(const struct trial *c, const struct cg *cg, unsigned i, struct err *e);

/* Makes the environment of this process fit for programs in node i: a PATH with the system's directories and pando's,
 * nothing that points into the machine's own /run. In mounts.c. */
int env_setup(const struct trial *c, unsigned i);
