/* libraft's messages over the links: takes the place of the network part of its libuv input/output (raft_io), whose files stay in use.
 *
 * Why not its transport interface (raft_uv_transport), which wants byte streams: see member/raftmsg.h; and each stream would cost a
 * socket pair. Loop thread only.
 *
 * Recipe: post_new; raft_uv_init(&x.io, loop, dir, post_transport(p)); post_attach(p, &x); raft_init; raft_start; ... raft_close; when
 * that is done: post_free. */
#pragma once

#include <raft.h>
#include <raft/uv.h>

#include "base/err.h"
#include "transport/links.h"

struct post;

/* libraft's io, and how its functions find us. */
struct post_io {
	struct raft_io io; /* first */
	struct post *post;
};

/* Handles raft's messages on the links. On 0 the caller owns *ret. */
int post_new(uv_loop_t *loop, struct links *links, struct post **ret, struct err *e);

/* A transport that carries nothing, because raft_uv_init wants one. */
struct raft_uv_transport *post_transport(struct post *p);

/* Takes over send, start and close of x->io, once. x outlives the raft that uses it. */
void post_attach(struct post *p, struct post_io *x);

/* When the io is closed, or was never started; the links are still there. freed runs once, never within this call. */
void post_free(struct post *p, void (*freed)(void *ctx), void *ctx);
