/* Makes the space of a node: namespaces, mounts, filter, pid 1. Loop thread, at start; blocks for a few milliseconds. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct space_layout {
	uint16_t slot;            /* of pids: slot * 32768 .. */
	const char *libexec;      /* directory with pando-zygote */
	const char *hostname;     /* of the space: the same on all nodes; NULL: leave */
	const char *shared_tmp;   /* directory on the shared tree that becomes /tmp and /var/tmp; NULL: the node's own lie there */
	int64_t epoch_ns;         /* CLOCK_REALTIME of the cluster's birth: the space's CLOCK_MONOTONIC counts from it; 0: leave */
	int use_fuse;             /* /proc is answered by pando-procfs; 0: the native one of the node alone */
};

struct space_ends {
	int sock;   /* to the zygote, SOCK_SEQPACKET */
	int fuse_fd, proc_fd; /* use_fuse: /dev/fuse of /proc and the native procfs; -1 without */
	pid_t init; /* outer number of pid 1 */
	char cgroup[256]; /* directory with the space's freezer cgroup, "" if none */
	int freezer_v2;
	int is_found; /* a predecessor made it */
};

/* On 0 the space runs and the caller owns ret->sock, fuse_fd and proc_fd. With use_fuse every path through /proc waits in the space
 * until a server answers: procfs_server_space, then space_proc_finish (space.h) when it is there. pid 1 is a child of the calling process's reaper, not of the caller. */
int space_create(const struct space_layout *l, struct space_ends *ret, struct err *e);

/* Writes the filter program (struct sock_filter[]) of supervised sessions into fd. */
int space_filter_write(int fd, struct err *e);

/* Stops or continues every process of the space. Returns when the kernel has it under way, not when all are stopped. */
int space_freeze(const struct space_ends *s, int frozen, struct err *e);

/* Kills every process of the space and removes its cgroup. */
void space_destroy(const struct space_ends *s);
