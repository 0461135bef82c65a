/* The raft log: libraft with its files in a directory, its bytes over the links (member/post.h), and a state machine given as
 * callbacks. Loop thread only; callbacks come from the loop, apply and done also from within engine_propose and engine_change when
 * this node is the only voter.
 *
 * Recipe: engine_new; engine_tick every 50 ms; engine_propose on the leader; engine_close. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "member/nodeset.h"
#include "member/roles.h"
#include "transport/links.h"
#include "wire/wr.h"

struct engine;

/* What an applied command gives to whoever proposed it. */
struct engine_result {
	int32_t outcome;
	uint32_t value;
};

struct engine_config {
	uv_loop_t *loop;     /* borrowed */
	struct links *links; /* borrowed */
	const char *dir;     /* made (0700) if missing; its parent must exist */
	uint16_t self;
	bool bootstrap; /* a new group of which this node is the only voter; the directory must be empty */
	void *ctx;
	/* A committed command, in order. */
	struct engine_result (*apply)(void *ctx, const uint8_t *p, size_t n);
	/* Appends the whole state. */
	void (*snapshot)(void *ctx, struct wr *w);
	/* Replaces the state. 0 or -errno: the engine then fails. */
	int (*restore)(void *ctx, const uint8_t *p, size_t n);
};

/* What raft knows here. */
struct engine_state {
	uint64_t term;
	uint16_t leader; /* 0: not known */
	bool leads;      /* this node is the leader and has applied all that was committed before it led */
	bool failed;     /* libraft has given up (an input/output error): close and start again */
	bool changing;   /* a change of the group is under way */
	struct roles_group group;
};

/* Opens the log and starts. -EBADMSG: files damaged; -EEXIST: bootstrap of a log that exists. On 0 the caller owns *ret. */
int engine_new(const struct engine_config *cfg, struct engine **ret, struct err *e);

/* Time goes on: notices elections. */
void engine_tick(struct engine *g);

void engine_state(const struct engine *g, struct engine_state *ret);

/* Proposes a command (copied). done runs exactly once: 0 and what apply gave; or -EAGAIN: leadership was lost, it may still come to be
 * applied; -ECANCELED: closing. Returns 0; -EAGAIN: not the leader; -ENOMEM, -EIO: then done does not run. */
typedef void (*engine_done_fn)(void *ctx, int status, struct engine_result result);
int engine_propose(struct engine *g, const uint8_t *p, size_t n, engine_done_fn done, void *ctx);

/* Starts a change of the group on the leader. 0; -EBUSY: one is under way; -EAGAIN: not the leader; or another -errno. How it ends
 * is seen in engine_state. */
int engine_change(struct engine *g, enum roles_step step, uint16_t node);

/* Asks another voter to lead; nothing happens if there is none. */
void engine_yield(struct engine *g);

/* Why it failed, in words. */
const char *engine_error(const struct engine *g);

/* Stops; closed runs once, later, and g is freed by then. */
void engine_close(struct engine *g, void (*closed)(void *ctx), void *ctx);
