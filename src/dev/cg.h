/* The cgroups of trial clusters: version 1, version 2, and both side by side (limits by v1, kill and freeze by v2).
 *
 * Names, in each hierarchy, below its mount point: pando-dev-NAME/ (the cluster), in it lan/ (the switch) and node-I/
 * (a node: its limits; what is inside is the node's own). A node's cgroup namespace has node-I/ as its root. Version 2
 * wants processes in leaves only, so there the processes of a node start in node-I/init/.
 *
 * Recipe: cg_find; cg_cluster_make; cg_node_make, cg_join, cg_limit..., cg_kill, cg_remove for each node; cg_remove for
 * the cluster. Single-threaded programs only. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum {
	CG_CPU = 1 << 0,
	CG_CPUACCT = 1 << 1,
	CG_MEMORY = 1 << 2,
	CG_FREEZER = 1 << 3,
	CG_PIDS = 1 << 4,
	CG_HIER_MAX = 8,
	CG_PATH_MAX = 512,
};

/* Which group: a node's number, or one of these. */
enum { CG_LAN = 0, CG_CLUSTER = -1 };

struct cg_hier {
	char mount[200];  /* where it is mounted here, and in the nodes */
	char options[64]; /* v1: what to mount it with ("cpu,cpuacct") */
	unsigned has;     /* CG_CPU... that can be used here */
	int v2;
};

struct cg {
	struct cg_hier hier[CG_HIER_MAX];
	size_t n;
};

/* Finds out what this machine has. -ENOENT when there is no cgroup file system at all. */
int cg_find(struct cg *ret, struct err *e);

/* Makes the groups of the cluster and of its switch; those that are there already are fine. */
int cg_cluster_make(const struct cg *cg, const char *name, struct err *e);

/* Makes the groups of node i. */
int cg_node_make(const struct cg *cg, const char *name, unsigned i, struct err *e);

/* Moves the calling (single-threaded) process into the group. leaf: into its init/ where v2 wants that. */
int cg_join(const struct cg *cg, const char *name, int group, int leaf, struct err *e);

/* Limits node i: CPUs (0: none), bytes (0: none). -EOPNOTSUPP when no controller for that can be used here. */
int cg_limit_cpu(const struct cg *cg, const char *name, unsigned i, double cpus, struct err *e);
int cg_limit_mem(const struct cg *cg, const char *name, unsigned i, uint64_t bytes, struct err *e);

/* CPU time used (ns) and memory in use (bytes) of node i; 0 where it cannot be told. */
void cg_usage(const struct cg *cg, const char *name, unsigned i, uint64_t *ret_cpu_ns, uint64_t *ret_mem);

/* Stops all processes of node i, or lets them go on; waits until it is so, at most 5 s. */
int cg_freeze(const struct cg *cg, const char *name, unsigned i, int on, struct err *e);

/* Kills every process of the group and its subgroups, at once (frozen ones too). Does not wait for their end. */
int cg_kill(const struct cg *cg, const char *name, int group, struct err *e);

/* Removes the group and its subgroups in all hierarchies, waiting for the ends of killed processes at most ms. -EBUSY:
 * some are still there; the words tell which. Groups that are not there are fine. */
int cg_remove(const struct cg *cg, const char *name, int group, int ms, struct err *e);

/* Is there any group of this cluster? */
int cg_exists(const struct cg *cg, const char *name);

/* Calls fn for each cluster that has a group in any hierarchy; the same name may come several times. */
void cg_each_cluster(const struct cg *cg, void (*fn)(void *ctx, const char *name), void *ctx);

/* The --load-source of a node (its cgroup as it sees it): "cgroup:PATH", or "" when there is none. */
void cg_load_source(const struct cg *cg, char *ret, size_t size);

/* Path of a group, or of a file in it (file may be ""). */
void cg_path(const struct cg_hier *h, const char *name, int group, const char *file, char ret[static CG_PATH_MAX]);
