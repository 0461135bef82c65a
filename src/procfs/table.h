/* What pandod tells the /proc server of a node: nodes, owners of slots, pids whose body is not here, features of processes.
 * pandod's side keeps a copy for a /proc server that comes (again); the /proc server looks things up in its own. No I/O. */
#pragma once

#include <stdint.h>
#include <uthash.h>

enum {
	TABLE_NODES = 129, /* ids 1..128 */
	TABLE_SLOTS = 128,
	TABLE_NAME_MAX = 64,
};

/* A number that is occupied here, or known here, but is no process of this node. */
enum procfs_kind {
	PROCFS_HIDDEN = 1, /* a ghost or placeholder whose body is not known: not shown */
	PROCFS_REMOTE = 2, /* its body is on another node: shown, and read there */
};

struct procfs_pid {
	uint32_t pid;
	uint8_t kind;
	uint16_t node;           /* of the body; PROCFS_REMOTE only */
	uint32_t tgid, uid, gid; /* PROCFS_REMOTE only; a pid that is not its tgid is a thread and not listed */
};

/* Switches of a process that change what it sees. */
enum procfs_feature {
	PROCFS_F_LOCAL_PROC = 1,   /* the node's own processes and figures only */
	PROCFS_F_CLUSTER_CPUS = 2, /* cpuinfo of the cluster */
};

struct table_pid {
	struct procfs_pid p;
	UT_hash_handle hh;
};

struct table_features {
	uint32_t pid, flags;
	UT_hash_handle hh;
};

struct table_node {
	uint8_t present, up;
	char name[TABLE_NAME_MAX];
};

struct table {
	struct table_pid *pids;          /* owned */
	struct table_features *features; /* owned; processes that differ from features_default */
	uint32_t features_default;
	struct table_node nodes[TABLE_NODES];
	uint16_t slots[TABLE_SLOTS]; /* owner node of each slot, 0: nobody */
};

/* Slot s belongs to node s, slot 0 to nobody; no pids; default features: PROCFS_F_CLUSTER_CPUS. */
void table_init(struct table *t);
void table_fini(struct table *t);

/* Adds or replaces. -EINVAL for a pid, kind or node out of range, -ENOMEM; the table is then unchanged. */
int table_pid_set(struct table *t, const struct procfs_pid *p);
void table_pid_del(struct table *t, uint32_t pid);
/* Borrowed, NULL when there is none. */
const struct procfs_pid *table_pid_get(const struct table *t, uint32_t pid);

int table_features_set(struct table *t, uint32_t pid, uint32_t flags);
void table_features_del(struct table *t, uint32_t pid);
uint32_t table_features_get(const struct table *t, uint32_t pid);

/* name == NULL removes the node. -EINVAL for an id or a name that cannot be one (empty, too long, with '/' or control
 * characters, "." or ".."). */
int table_node_set(struct table *t, uint16_t node, const char *name, int up);
/* The id of the node of that name, 0 if there is none. */
uint16_t table_node_find(const struct table *t, const char *name);

int table_slot_set(struct table *t, uint32_t slot, uint16_t node);
/* Owner of the slot of pid, 0: nobody. */
uint16_t table_owner(const struct table *t, uint32_t pid);
