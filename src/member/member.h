/* Membership of this node in the cluster: the agreed state, who leads, whether our space may run.
 *
 * Loop thread only, except what says otherwise. Callbacks come from the loop, never from within a call of this module but the three
 * that bring events of the links.
 *
 * Recipe of pandod:
 *   links_new with on_up, on_down, on_heard that call member_link_up, member_link_down, member_heard;
 *   member_start; then links_listen;
 *   when member_may_run() or on_thaw: the space may run; on_freeze: it must stand still at once (within a tenth of dead-after-ms);
 *   on_ended: kill all that is in the space, then member_reborn: the node gets a new incarnation and on_thaw comes again;
 *   on shutdown: kill the space, member_leave; then member_close, links_close.
 *
 * The program must ignore SIGPIPE. A watchdog outside of pandod must freeze the space when the end written in lease_path
 * (member/lease_file.h) has passed: pandod may be dead or stuck, and others count on it.
 *
 * Files in the state directory: raft/ (the log), cluster (the last known state: how to find the others after a start). */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "member/cluster.h"
#include "transport/links.h"
#include "transport/pki.h"

struct member;

/* What this node says of itself. Strings are borrowed during the call they are given to. */
struct member_identity {
	const char *name;        /* used when it joins; later the cluster's record counts */
	const char *addr;        /* host:port where its links listen, as others reach it */
	const char *stream_addr; /* of its stream agent; may be NULL */
	uint32_t cpus;
	uint64_t memory; /* bytes */
};

enum member_end {
	MEMBER_END_DEAD,    /* we were cut off and declared dead */
	MEMBER_END_REMOVED, /* the node is to be removed from the cluster */
};

struct member_config {
	uint16_t node;          /* our number: pki_node() */
	uv_loop_t *loop;        /* borrowed */
	struct links *links;    /* borrowed, outlives the member */
	const struct pki *pki;  /* borrowed, outlives the member; may be NULL: then nobody can join here */
	const char *state_dir;  /* copied */
	const char *lease_path; /* copied; NULL: no file, and each start begins without a lease */
	struct member_identity self;
	bool fresh_space; /* no process of an earlier run of the space lives: whatever the cluster thought to run here has ended */
	void *ctx;
	/* All may be NULL. */
	void (*on_change)(void *ctx, const struct cluster *c);                          /* the agreed state is another one */
	void (*on_dead)(void *ctx, uint16_t node, uint32_t incarnation);                /* a space of another node has ended: all its processes are gone */
	void (*on_ended)(void *ctx, enum member_end why);                               /* our own space must end, see the recipe */
	void (*on_freeze)(void *ctx);
	void (*on_thaw)(void *ctx);
	void (*on_node)(void *ctx, uint16_t node, bool up);                             /* a node is heard again, or has been silent for 1 s */
	void (*on_removed)(void *ctx);                                                  /* this node is not a member any more */
	void (*on_error)(void *ctx, int code, const char *words);                       /* cannot go on: close and start again, or give up */
};

/* Reads what a state directory knows of the cluster. -ENOENT: nothing. The caller frees *ret by free(). Any thread. */
int member_state_read(const char *state_dir, struct cluster **ret, struct err *e);

/* Writes it, synced (pando join). Any thread. */
int member_state_write(const char *state_dir, const struct cluster *c, struct err *e);

/* Makes a new cluster of which this node is member 1: keys, raft log, state. Blocks for about a second; runs a loop of its own.
 * -EEXIST: the directory holds a membership already. Whatever else fails, the directory is as before. */
int member_init_cluster(const char *state_dir, const struct member_identity *self, struct err *e);

/* Starts. On 0 the caller owns *ret. After a failure the links must not be used any more but to be closed. */
int member_start(const struct member_config *cfg, struct member **ret, struct err *e);

/* Events of the links. */
void member_link_up(struct member *m, uint16_t node);
void member_link_down(struct member *m, uint16_t node);
void member_heard(struct member *m, uint16_t node);

/* The agreed state as known here (may be behind). Valid until the next on_change; borrowed. */
const struct cluster *member_cluster(const struct member *m);
uint16_t member_self(const struct member *m);
/* The incarnation of our space, 0: there is none (yet). */
uint32_t member_incarnation(const struct member *m);
/* The leader as known here, 0: none. */
uint16_t member_leader(const struct member *m);
/* Whether a majority answers us: what we propose can come to pass, and our space may run. */
bool member_has_quorum(const struct member *m);
/* Whether the space may run now. */
bool member_may_run(const struct member *m);
/* Until when, if nothing else happens: ms of CLOCK_BOOTTIME; 0, or UINT64_MAX without end. */
uint64_t member_until_ms(const struct member *m);
/* Whether a node is heard (ourselves: always). */
bool member_is_up(const struct member *m, uint16_t node);
/* The voters as known here. */
struct nodeset member_voters(const struct member *m);

/* Proposes a command, on whichever node leads. done runs exactly once, never within this call: status 0 or what struct cluster_effect
 * says, with its value; -ETIMEDOUT: no leader took it within 10 s, or its answer was lost (it may still be applied: commands can be
 * repeated); -ECANCELED: closing. Returns 0; -EINVAL for a command that cannot be encoded; -ENOBUFS: too many under way; -ENOMEM. */
typedef void (*member_done_fn)(void *ctx, int status, uint32_t value);
int member_propose(struct member *m, const struct cluster_cmd *cmd, member_done_fn done, void *ctx);

/* The words for a status of member_propose. */
const char *member_strerror(int status);

/* The space has been killed after on_ended: come again. */
void member_reborn(struct member *m);

/* The space has been killed for good: says so to the others, and waits until this node's vote is not needed any more; at most 3 s. done
 * runs once. */
void member_leave(struct member *m, void (*done)(void *ctx), void *ctx);

/* A new join token, valid once and for lifetime_ms. done: 0 and the token's text (borrowed), or a status as of member_propose. */
typedef void (*member_token_fn)(void *ctx, int status, const char *text);
int member_token(struct member *m, uint64_t lifetime_ms, member_token_fn done, void *ctx);

/* Stops; closed runs once, later, and m is freed by then. Proposals under way end with -ECANCELED. */
void member_close(struct member *m, void (*closed)(void *ctx), void *ctx);
