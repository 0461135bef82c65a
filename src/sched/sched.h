/* The scheduler of one node: what it knows of the load of all nodes, and where the next program runs.
 *
 * No I/O but for the load probe reading its files; time is passed in (milliseconds of any monotonic clock, the same in
 * all calls). Loop thread.
 *
 * Recipe: sched_new; sched_node_set for each member and each change; sched_tick by a timer, with the delay that it asks
 * for, and when it says SCHED_SEND sched_report_out to all members as MSG_LOAD; sched_report_in for each MSG_LOAD. At
 * an exec: sched_place, which counts the program on the chosen node at once; if it ended up elsewhere sched_placed with
 * the true node; sched_ended when it exits (or moved away, or the exec failed), and sched_learn_exit with what it used.
 * A program that another node placed here: sched_placed with our own number. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sched/learn.h"
#include "sched/policy.h"
#include "wire/wr.h"

enum {
	SCHED_NODE_MAX = 128,     /* ids are 1..128 */
	SCHED_STALE_MS = 5000,    /* a report older than this says nothing */
	SCHED_BOOKED_MAX = 16384, /* programs counted at once; more are not counted until they show in reports */
};

struct sched;

struct sched_config {
	uint16_t self;
	const char *source; /* of the load, as in load_config; NULL: our own reports come by sched_report_in, as in a
			       simulation */
	double cpus, speed; /* as in load_config */
	const char *policy; /* NULL: "balance" */
	uint64_t seed;      /* of policies that draw lots */
	uint32_t learn_max; /* 0: LEARN_MAX */
};

/* On 0 the caller owns *ret; this node is a member and active. Takes some 10 ms for measuring the CPU if speed is not
 * given. */
int sched_new(const struct sched_config *cfg, struct sched **ret, struct err *e) __attribute__((warn_unused_result));
struct sched *sched_free(struct sched *s);

/* A node joined, is being drained or was removed. A removed one is forgotten with all that was counted on it. */
void sched_node_set(struct sched *s, uint16_t node, enum sched_node_state state);

/* What is known of a member. -ENOENT when it is none. */
int sched_node_get(const struct sched *s, uint16_t node, uint64_t now_ms, struct sched_node *ret);

/* Chooses the policy by name from now on. -ENOENT for an unknown name, which leaves the old one. The words for a log
 * line, with the seed: "random, seed 7" (valid until the next change). */
int sched_policy_set(struct sched *s, const char *name, uint64_t seed, struct err *e);
const char *sched_policy_words(const struct sched *s);

/* Looks at our own load. 0, or SCHED_SEND: the members should hear of it now. *ret_next_ms is when to call again: soon
 * while something runs. On -errno (the source is gone; words in e) this node counts as unknown and runs its own
 * programs. */
enum { SCHED_SEND = 1 };
int sched_tick(struct sched *s, uint64_t now_ms, uint32_t *ret_next_ms, struct err *e);

/* Our report as MSG_LOAD. -ENODATA before the first tick, -ENOMEM. */
int sched_report_out(struct sched *s, uint64_t now_ms, struct wr *w) __attribute__((warn_unused_result));

/* A MSG_LOAD from node. -EBADMSG, -ENOENT (no member). */
int sched_report_in(struct sched *s, uint16_t node, const void *p, size_t n, uint64_t now_ms)
    __attribute__((warn_unused_result));

struct sched_decision {
	uint16_t node;
	struct learn_guess guess;
	const char *why; /* for a log line and `pando why`; static */
};

/* Chooses and counts. key: what runs there, for learning. policy: NULL is the current one, else one by name for this
 * request. 0; -EHOSTDOWN: the forced node is no member or is being drained (nothing is counted then); -ENOENT: no such
 * policy. */
int sched_place(struct sched *s, const struct sched_request *r, struct learn_key key, const char *policy,
		uint64_t now_ms, struct sched_decision *ret, struct err *e) __attribute__((warn_unused_result));

/* pid runs (or waits to run) on node, with this share of a CPU (1 when unknown). Replaces what was counted for pid. */
void sched_placed(struct sched *s, uint32_t pid, uint16_t node, double intensity, uint64_t now_ms);

/* pid no longer runs. Nothing happens for one that is not counted. */
void sched_ended(struct sched *s, uint32_t pid, uint64_t now_ms);

/* A program ended that ran on node: its wall time, and its own CPU time without that of its children. */
void sched_learn_exit(struct sched *s, struct learn_key key, uint64_t wall_us, uint64_t cpu_us, uint16_t node);
