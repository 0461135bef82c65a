/* A session between two agents: frames that survive a lost connection, each delivered exactly once and in order.
 * Pure: no I/O, no clock. One side of one session; the other side has its own. Loop thread.
 *
 * Recipe: sess_queue for each message; while (the connection takes more and (f = sess_next())) write f->p, f->n;
 * for each frame that came: sess_take. New connection: exchange sess_rx_last, then sess_rewind with what the other side said. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "stream/pmsg.h"

struct store;

struct sess_frame {
	struct sess_frame *next;
	uint64_t owner; /* session id */
	uint64_t seq;   /* 0: not queued */
	size_t n;
	uint8_t p[]; /* the frame with its length field */
};

struct sess {
	uint64_t owner;                /* set by the user after sess_init */
	struct store *store;           /* borrowed: frames are kept there; NULL: in plain memory */
	uint64_t tx_seq;               /* last seq given out */
	uint64_t tx_acked;             /* last seq that the other side has */
	uint64_t rx_seq;               /* last seq taken */
	uint64_t rx_told;              /* last ack that we sent */
	struct sess_frame *head;       /* owned: not acknowledged, oldest first */
	struct sess_frame **tail;
	struct sess_frame *next;       /* borrowed: first that this connection has not carried */
	size_t bytes;                  /* of the frames kept */
};

void sess_init(struct sess *s);
void sess_fini(struct sess *s);

/* Numbers and keeps m. -EINVAL (not a sequenced type, too long), -ENOMEM. */
int sess_queue(struct sess *s, const struct pmsg *m);

/* The same in two steps, for frames that wait: a frame of m, and queueing it (it is the session's then). */
int sess_frame_new(const struct sess *s, const struct pmsg *m, struct sess_frame **ret);
void sess_frame_queue(struct sess *s, struct sess_frame *f);
void sess_frame_free(const struct sess *s, struct sess_frame *f); /* NULL is fine */

/* Type and request number of a frame. */
uint16_t sess_frame_type(const struct sess_frame *f);
uint64_t sess_frame_req(const struct sess_frame *f);

/* Numbers start anew in both directions. What was not acknowledged goes to fn (the frame is its), in order; fn NULL: freed. */
void sess_restart(struct sess *s, void (*fn)(void *ctx, struct sess_frame *f), void *ctx);

/* Writes a frame of the connection itself (HELLO, WELCOME, ACK, PING) with the present ack to w. */
int sess_control(struct sess *s, struct wr *w, const struct pmsg *m);

/* The next frame to write on this connection, with the present ack put in; NULL when all were. Borrowed until sess_take or
 * sess_rewind. */
const struct sess_frame *sess_next(struct sess *s);

/* Whether the other side has not yet been told of something received. */
int sess_owes_ack(const struct sess *s);

/* The head of a frame without its length field; sess_head reads it. -EBADMSG. */
struct sess_head {
	uint16_t type;
	uint64_t seq, ack;
};
int sess_head(struct rd *r, struct sess_head *ret);

enum { SESS_DUPLICATE = 1 };

/* Takes note of a frame that came: drops what it acknowledges. 0: handle it; SESS_DUPLICATE: it was handled before;
 * -EPROTO: out of order or an impossible ack (the session is beyond repair). */
int sess_take(struct sess *s, const struct sess_head *h);

/* A new connection: the other side has everything up to peer_has; sending starts after it. -EPROTO when that is impossible. */
int sess_rewind(struct sess *s, uint64_t peer_has);
