/* Inside of member/: shared by the member*.c files. */
#pragma once

#include <uv.h>

#include "member/cluster.h"
#include "member/engine.h"
#include "member/lease_file.h"
#include "member/member.h"
#include "member/pulse.h"

enum {
	MEMBER_TICK_MS = 50,
	MEMBER_PROPOSALS_MAX = 1024,
	MEMBER_PROPOSE_MS = 10000,    /* then -ETIMEDOUT */
	MEMBER_CALL_MS = 3000,        /* one try at a leader elsewhere */
	MEMBER_RETRY_MS = 100,        /* between tries */
	MEMBER_DEATHS_MAX = 2 * NODE_MAX,
	MEMBER_LEAVE_MS = 3000,       /* for others to do without our vote */
	MEMBER_DROP_MS = 4000,        /* a removed member may still be told: more than MEMBER_LEAVE_MS */
};

/* What the own space is at. */
enum space_state {
	SPACE_WANTED,  /* no space: a new incarnation is being asked for */
	SPACE_LIVE,
	SPACE_ENDED,   /* to be killed: waits for member_reborn */
	SPACE_LEAVING, /* killed for good: the others are being told */
	SPACE_GONE,    /* they know; or we are no member any more */
};

struct proposal;
struct join_wait;

struct member {
	struct member_config cfg;
	char *state_dir;  /* owned */
	char *lease_path; /* owned */
	char *addr, *stream_addr; /* owned */
	struct engine *engine;
	struct engine_state raft; /* as of the last look */
	struct pulse pulse;
	struct lease_file *lease_file; /* NULL: none */

	struct cluster applied; /* the state machine */
	struct cluster *shown;  /* owned: what member_cluster shows: as applied when the loop turned last; at first what the state directory knew */

	enum space_state space;
	uint64_t up_nonce;
	uint32_t ended_incarnation; /* of the space that has ended and of which the others are to be told */
	bool up_busy, gone_busy;
	uint64_t space_retry_ms;
	bool removed_told;
	bool error_told;

	/* To be told on the next turn of the loop: apply comes from deep inside libraft. */
	bool ended;
	enum member_end ended_why;
	unsigned n_deaths;
	struct {
		uint16_t node;
		uint32_t incarnation;
	} deaths[MEMBER_DEATHS_MAX];

	char peers[NODE_MAX + 1][CLUSTER_ADDR_SIZE]; /* what links_peer_set was told */
	uint64_t removed_ms[NODE_MAX + 1];           /* when it was seen to be removed */
	uint64_t roles_retry_ms;

	struct proposal *proposals; /* list */
	unsigned n_proposals;
	struct join_wait *joins; /* list */

	void (*left)(void *ctx);
	void *left_ctx;
	uint64_t left_until_ms; /* 0: not waiting for our vote to be taken */

	uv_timer_t tick, freeze;
	uv_async_t later;
	uv_work_t save;
	bool saving, save_again;
	bool closing;
	unsigned n_open; /* handles, engine and work that are not closed yet */
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* member.c: closing is done when nothing is open any more. */
void member_closed_maybe(struct member *m);

/* member_save.c: writes what is shown to the state directory. */
void member_save(struct member *m);

/* member_propose.c */
void member_proposals_init(struct member *m);         /* handles calls of others */
void member_proposals_tick(struct member *m, uint64_t now_ms);
void member_proposals_cancel(struct member *m);

/* member_join.c */
void member_joins_init(struct member *m);  /* takes requests to join, if there is a pki */
void member_joins_tick(struct member *m, uint64_t now_ms);
void member_joins_cancel(struct member *m);

/* member_state.c: the file "cluster" of the state directory, whole and synced. */
int member_state_store(const char *state_dir, const void *p, size_t n, struct err *e);
