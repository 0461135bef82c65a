/* Reads the native procfs of this node's space on behalf of somebody who may be on another node: as that user, so that the kernel
 * itself decides what he may see. Blocks; any thread, several at once. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "procfs/remote.h"

enum { SERVE_TEXT_MAX = 16 << 10 }; /* a text of REMOTE_BULK that is this long may be cut: ask for it by REMOTE_READ */

struct serve_job {
	int procfd;             /* borrowed: root of the native procfs */
	int local;              /* asked by this node itself: all of the procfs, and writing */
	const uint32_t *hidden; /* borrowed: pids that are no processes of this node, rising */
	size_t n_hidden;
	struct remote_req q;    /* any op but REMOTE_WHERE */
};

/* Does what job->q asks and appends the reply (with its status) to *reply, which is empty before. */
void serve_run(const struct serve_job *job, struct wr *reply);

/* Whether the file of that name in the root of a node's procfs is shown to other nodes. */
int serve_is_global(const char *name);
