/* The keeper's side of the socket pair of one program: requests are done in the order of their coming, at once.
 *
 * Happy path: conn_open; conn_step whenever conn_events of it come true; conn_close when the program has ended, after a last conn_step
 * with drain set: what it said before it died counts.
 * Failures: a message that is none (told once per connection, thrown away); an answer that the program does not read (it is kept, and
 * nothing more is read until it can be sent); no room for a descriptor (told at the next sync). Main thread. */
#pragma once

#include <stdint.h>

#include "keeper/proto.h"
#include "keeper/store.h"
#include "wire/wr.h"

struct conn_ops {
	/* The program's space, init 0: none. Status of the answer. */
	int (*on_space)(void *ctx, const struct keeper_request *r);
	void (*on_ready)(void *ctx);
};

struct conn {
	int sock;            /* owned; -1: closed */
	const char *who;     /* borrowed; for the log */
	struct store *store; /* borrowed */
	const struct conn_ops *ops;
	void *ctx;
	int refused;         /* a put since the last sync was */
	int is_told;         /* a bad message was logged */
	/* An answer that is being given. */
	int is_answering;
	uint32_t seq;
	int is_last;               /* nothing comes after out */
	char prefix[KEEPER_NAME_SIZE];
	const struct kept_fd *at;  /* EACH: the last name in out */
	struct wr out;             /* owned; not sent yet; empty: to be made */
	int out_fds[KEEPER_BATCH]; /* borrowed from the store */
	unsigned n_out_fds;
};

/* Makes the pair. On 0 the caller owns *ret_theirs (close-on-exec), and conn_close is to be called. */
int conn_open(struct conn *c, const char *who, struct store *store, const struct conn_ops *ops, void *ctx, int *ret_theirs);

/* What to poll c->sock for. */
short conn_events(const struct conn *c);

/* Does what can be done without waiting; drain: all that has been said, else a fair part of it. A connection that the program has
 * closed is closed. */
void conn_step(struct conn *c, int drain);

void conn_close(struct conn *c);
