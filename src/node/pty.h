/* Terminals of sessions: ptys of the space's own devpts. Loop thread. */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "ctl/run.h"

/* Opens a pty in the space under root_fd, owned by uid, with the settings and size that r asks for. On 0 both are the caller's. */
int pty_open(int root_fd, uid_t uid, const struct run_request *r, int *ret_master, int *ret_slave, struct err *e);
