/* Between the files of the probe. Everything here runs in a child of probe_run that may do what it likes to itself. */
#pragma once

#include <sys/types.h>

#include "kern/probe.h"

/* Notes the outcome of one field (rc: 0 there, -errno not). */
void probe_set(struct kern_has *has, bool *field, int rc);

/* fork for probes: the child dies with its parent. Without atfork handlers and pid caches: flags as for clone(2). */
pid_t probe_clone(unsigned long flags);

/* Waits for a child of ours, at most ms, then kills it. Exit status, or -ETIMEDOUT, -ECHILD, -EINTR (died by a signal).
 */
int probe_reap(pid_t pid, int ms);

/* Writes or reads a small file relative to dir. 0 or -errno; the text is cut at the first newline. */
int probe_write_at(int dir, const char *path, const char *text);
int probe_read_at(int dir, const char *path, char *ret, size_t size);

/* The cgroup directories that these probes made bear this name, so that the runner can remove them when a probe was
 * killed. */
void probe_cgroup_name(char ret[static 64], pid_t runner);
/* Removes them wherever they may be. */
void probe_cgroup_clean(pid_t runner);

/* The probes, each in a child of the runner. */
void probe_seccomp(struct kern_has *has);
void probe_trace(struct kern_has *has);
void probe_namespaces(struct kern_has *has);
void probe_pidns(struct kern_has *has);
void probe_time(struct kern_has *has);
void probe_cgroup1(struct kern_has *has);
void probe_cgroup2(struct kern_has *has);
void probe_fuse(struct kern_has *has);
void probe_mount(struct kern_has *has);
void probe_memory(struct kern_has *has);
void probe_net(struct kern_has *has);
void probe_rest(struct kern_has *has);
