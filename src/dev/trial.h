/* A trial cluster as it is written down: what was asked for, which processes it has, which faults are set.
 *
 * Everything that a cluster keeps on disk lies in one directory, /var/tmp/pando-dev-NAME (root's, mode 0700):
 * cluster.json (this record), hosts, node-I/ (the node's disk, its log) and lan.sock. The directory is made first and
 * removed last, so an interrupted start is always found. One user at a time: whoever changes something holds the lock
 * (flock of the directory).
 *
 * Recipe: trial_new or trial_load, change, trial_save, trial_free. Single-threaded programs only. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define DEV_BASE "/var/tmp"
#define DEV_PREFIX "pando-dev-"

enum {
	DEV_NODES_MAX = 128,
	DEV_NAME_MAX = 32,
	DEV_DIR_MAX = 64,
};

enum dev_lan { DEV_LAN_BRIDGE, DEV_LAN_USER };

/* A process, told from a later one with the same number by its start time. pid 0: none. */
struct dev_proc {
	pid_t pid;
	uint64_t start; /* field 22 of /proc/PID/stat */
};

struct dev_node {
	struct dev_proc init; /* pid 1 of the node as seen from outside; pid 0: the node is off */
	double cpu;           /* CPUs it may use; 0: no limit */
	uint64_t mem;         /* bytes it may use; 0: no limit */
	double rate_mbit;     /* of its link, each way; 0: no limit */
	char *root;           /* owned; the tree that is its /, NULL: that of the machine */
	int frozen;
};

/* What happens to frames from one node to another. */
struct dev_pair {
	double delay_ms, jitter_ms, loss_pct;
	int cut;
};

struct trial {
	char name[DEV_NAME_MAX + 1];
	char dir[DEV_DIR_MAX];
	int dir_fd; /* owned; -1: none */
	int locked;
	int starting; /* `up` has not come to its end */
	unsigned n;
	enum dev_lan lan;
	unsigned net_x, net_y;    /* nodes are 10.net_x.net_y.I */
	char *service;            /* owned; a shell command run instead of pando-keeper, NULL: pando-keeper */
	char *exe;                /* owned; the pando program that made the cluster */
	char *libexec;            /* owned; "" when there was none */
	struct dev_proc lan_proc; /* the holder of the switch's network namespace, or pando-dev-lan */
	struct dev_node node[DEV_NODES_MAX + 1]; /* 1..n */
	struct dev_pair *pair;                   /* owned; see trial_pair */
};

/* Is name usable: 1 to DEV_NAME_MAX characters of a-z A-Z 0-9 . _ -, the first a letter or digit? 0 or -EINVAL. */
int trial_name_check(const char *name, struct err *e);

enum { TRIAL_EXISTS = 1 };

/* Makes the directory of a new cluster, takes its lock, and gives a record with n nodes and everything else empty;
 * nothing is saved yet. On 0 the caller owns *ret. TRIAL_EXISTS when there is one of that name already, with its
 * state in words in e. */
int trial_new(const char *name, unsigned n, struct trial **ret, struct err *e);

/* Reads the record. With lock_ms >= 0 the lock is taken too, waiting at most that long (-EBUSY then, with the words).
 * On 0 the caller owns *ret. -ENOENT: no such cluster. -ENODATA: its start was interrupted before anything was
 * recorded; *ret is then given all the same, with n 0. -EBADMSG: the record cannot be read; *ret is given with what
 * could be. */
int trial_load(const char *name, int lock_ms, struct trial **ret, struct err *e);

/* Writes the record (all of it or nothing). */
int trial_save(const struct trial *c, struct err *e);

/* Frees the record and lets go of the lock; NULL is fine. Nothing else changes. */
void trial_free(struct trial *c);
void trial_free_p(struct trial **c);

/* Removes the directory with all that is in it, never following a link out of it nor crossing into another file system.
 */
int trial_remove_dir(const struct trial *c, struct err *e);

/* Is somebody else holding the lock of this cluster now? */
int trial_busy(const char *name);

/* The pair for frames from node a to node b, both 1..n. */
struct dev_pair *trial_pair(const struct trial *c, unsigned a, unsigned b);

/* Writes the address of node i ("10.x.y.i"). */
void trial_addr(const struct trial *c, unsigned i, char ret[static 16]);

/* Chooses net_x and net_y: from the name, and such that no other cluster on this machine has them. */
int trial_choose_net(struct trial *c, struct err *e);

/* Names of all clusters that left a trace: a directory under DEV_BASE or a cgroup. fn is called once for each, in order
 * of name. */
int trial_each(void (*fn)(void *ctx, const char *name), void *ctx, struct err *e);

/* JSON text of a record, and back; the cluster given to trial_decode has n 0 and its name. Used by the above, and by
 * tests. */
char *trial_encode(const struct trial *c);
int trial_decode(const char *text, size_t size, struct trial *c, struct err *e);

/* A record in memory only, without a directory. NULL when there is no memory. */
struct trial *trial_alloc(const char *name);
/* Sets the number of nodes of a fresh record. */
int trial_set_n(struct trial *c, unsigned n);
