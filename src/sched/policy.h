/* Placement policies: given what is known of the nodes and what is asked, which node runs it?
 *
 * A policy decides, it never acts; it keeps nothing but its own small state, sees no clock and does no I/O. The shape
 * is that of the later plugin interface: everything comes in by value, a node number goes out. Loop thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum sched_node_state { SCHED_NODE_GONE, SCHED_NODE_ACTIVE, SCHED_NODE_DRAINING };

/* A node as the policy sees it. */
struct sched_node {
	uint16_t id;
	enum sched_node_state state;
	int known;    /* there is a report, and not too old; the figures below are nothing without it */
	double cpus;  /* CPUs that may be used, > 0 */
	double speed; /* of one CPU, > 0; 1 is common */
	double load;  /* tasks that want a CPU, including those placed there that its report does not show yet */
	uint64_t mem_total, mem_free; /* bytes */
	uint32_t age_ms;              /* of the report */
};

struct sched_view {
	const struct sched_node *nodes; /* those that are members, by id; borrowed */
	size_t n;
	uint16_t self; /* where the process is now; one of the nodes */
};

struct sched_request {
	uint32_t pid;        /* cluster-wide */
	uint32_t ppid;       /* 0: unknown */
	const char *program; /* path, for policies that look at it; borrowed; may be NULL */
	uint32_t uid;
	int stdin_tty;
	uint16_t forced;  /* a node that the user named, or 0 */
	uint64_t session; /* which session of the space */
	uint32_t cpu_us;  /* expected; 0 when unknown; set by sched_place */
};

struct sched_policy {
	const char *name;
	const char *what; /* one line for a person */
	int learns;       /* what is brief or unknown on an idle node stays without asking it */
	/* On 0 *ret_node is one of the view's nodes. -EHOSTUNREACH: none will do (the caller then runs it where it is).
	 */
	int (*place)(uint64_t state[2], const struct sched_view *v, const struct sched_request *r, uint16_t *ret_node);
};

extern const struct sched_policy policy_list[];
extern const size_t policy_n;

/* By name, or NULL. */
const struct sched_policy *policy_find(const char *name);
