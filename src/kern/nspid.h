/* Numbers of tasks in our own pid namespace ("outer") and in the space's. Any thread. */
#pragma once

#include <sys/types.h>

struct nspid {
	int ns_fd; /* /proc/PID/ns/pid of the space; owned */
	int has_ioctl; /* NS_GET_*_PIDNS, Linux 6.11 */
};

/* Opens the pid namespace of the task `init` (outer number). */
int nspid_init(struct nspid *n, pid_t init);
void nspid_fini(struct nspid *n);

/* The number in the space of an outer task: of the thread itself, and of its process. > 0 or -ESRCH (gone, or not in the space). */
int nspid_tid(const struct nspid *n, pid_t outer);
int nspid_tgid(const struct nspid *n, pid_t outer);

/* The outer number of a task of the space. > 0 or -ESRCH. Without the ioctl this reads all of /proc. */
int nspid_outer(const struct nspid *n, pid_t inner);
