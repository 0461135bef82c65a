/* Shared by the links*.c files. Not for others.
 *
 *   links.c       the object: timers, the queue to self, what is told on the next turn, closing
 *   links_conn.c  one connection: TLS up, hello, frames, heartbeat, loss
 *   links_peer.c  peers: who connects to whom and when
 *   links_call.c  calls and messages to their handlers
 *   links_join.c  requests of machines that want to join
 *
 * A connection ends by link_conn_lose, which may be called anywhere: it takes it out of everything at once and puts it on l->lost; on_down
 * and the ends of its calls are told by links_settle, from the loop. Its memory goes when both that and the closing of its socket are
 * done, so within a callback of the connection its memory is always there. */
#pragma once

#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

#include "transport/addr.h"
#include "transport/deadline.h"
#include "transport/frame.h"
#include "transport/gate.h"
#include "transport/links.h"
#include "transport/listen.h"
#include "transport/pki.h"
#include "transport/tls.h"

enum {
	LINK_HANDSHAKE_MS = 5000, /* from the first packet to the hello */
	LINK_CONNECT_MS = 1500,   /* of that, for TCP: a lost SYN is tried once more, then we begin again */
	LINK_JOIN_MS = 10000,
	LINK_JOINS = 8,
	LINK_DELAY_MIN_MS = 50,
	LINK_DELAY_MAX_MS = 1000,
	LINK_KNOCK_MS = 1000,
	LINK_PER_SOURCE = 16,
	LINK_HALF_OPEN = 512,
	LINK_HEARTBEAT_MS = 500,
	LINK_SILENCE_BEATS = 10,
	LINK_ANSWER_EXTRA = 8 << 20, /* answers may go this much over LINK_QUEUE_MAX, then the link is lost */
};

enum conn_state {
	CONN_LOOKUP,   /* a name is being looked up */
	CONN_CONNECT,  /* TCP and TLS */
	CONN_HELLO,    /* certified; hellos are exchanged */
	CONN_UP,
	CONN_JOIN,     /* a machine that wants to join: its request is awaited */
	CONN_ASKED,    /* ... is being answered */
	CONN_ANSWERED, /* ... the answer is on its way */
	CONN_LOST,
};

struct lookup;
struct call;

struct conn {
	struct conn *prev, *next;             /* l->conns */
	struct conn *dirty_prev, *dirty_next; /* l->dirty */
	struct conn *lost_next;               /* l->lost */
	struct links *l;
	struct tls *t;
	unsigned state;        /* enum conn_state */
	int dialer;            /* we connected */
	uint16_t node;         /* whom we want, or the certified one; 0: not known yet */
	char from[ADDR_HOST_SIZE + 16];
	struct gate_source *source; /* while the handshake is unfinished */
	struct deadline timer;
	uint64_t begun_ms, sent_ms, heard_ms;
	uint32_t silence_ms;
	struct frame_in in;
	struct lookup *lookup;
	int dirty;
	uint64_t flush_turn;
	struct call *calls;    /* uthash by id */
	struct links_call_req *reqs;
	unsigned n_reqs;
	links_join_req *join;
	int is_join;
	int was_up, settled, closed;
	char why[256];
};

struct peer {
	struct links *l;
	uint16_t node;
	char host[ADDR_HOST_SIZE];
	uint16_t port;
	char addr[ADDR_HOST_SIZE + 16];
	struct conn *use;  /* the link */
	struct conn *dial; /* an attempt of ours */
	struct deadline timer;
	uint32_t delay_ms;
	unsigned tries;
};

struct call {
	UT_hash_handle hh;
	uint64_t id;
	struct links *l;
	struct conn *c; /* NULL: to self */
	struct deadline timer;
	links_done_fn done;
	void *ctx;
};

struct links_call_req {
	struct links_call_req *prev, *next; /* c->reqs or l->self_reqs */
	struct links *l;                    /* NULL: closed meanwhile */
	struct conn *c;                     /* NULL: lost meanwhile, or self */
	int self;
	uint64_t id;
};

struct handler {
	links_msg_fn msg;
	void *msg_ctx;
	links_call_fn call;
	void *call_ctx;
};

/* A frame to self. */
struct local {
	struct local *next;
	uint16_t type;
	uint64_t call;
	size_t n;
	uint8_t p[];
};

struct link_listener {
	struct link_listener *next;
	struct links *l;
	struct listener *ls;
};

struct links {
	struct links_config cfg;
	SSL_CTX *server, *client; /* owned */
	struct gate *gate;        /* owned */
	uv_timer_t timer;
	uv_prepare_t prepare;
	uv_idle_t idle;
	struct deadlines deadlines;
	uint64_t armed_ms; /* when timer fires; UINT64_MAX: not set */
	uint64_t turn;
	unsigned n_open;   /* handles, connections, lookups: closing is done at 0 */
	struct link_listener *listeners;
	struct peer *peers[NODE_MAX + 1];
	struct conn *conns, *dirty, *lost;
	struct local *local, *local_last;
	size_t local_n; /* bytes */
	struct handler *handlers;
	size_t n_handlers;
	uint64_t call_id;
	struct call *self_calls;
	struct links_call_req *self_reqs;
	links_join_fn join_fn;
	void *join_ctx;
	unsigned n_joins;
	int settling, closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

#define CONTAINER(p, type, member) ((type *)(void *)((char *)(p) - offsetof(type, member)))

/* ---- links.c ---- */

/* Sets a deadline after_ms from now. -ENOMEM. */
int links_after(struct links *l, struct deadline *d, uint64_t after_ms);

/* Runs links_settle and the queue to self on the next turn. */
void links_kick(struct links *l);

/* Tells what was lost. From the loop only, with no callback of ours under way. */
void links_settle(struct links *l);

/* Tells (by on_refused or the log) that who is at sa was not let in; rate-limited. */
void links_refused(struct links *l, const struct sockaddr *sa, const char *from, const char *why);

/* One of n_open is done. */
void links_release(struct links *l);

/* Queues a frame to self; head and p are its payload. -ENOMEM, -ENOBUFS (unless must). */
int links_local(struct links *l, uint16_t type, uint64_t call, const void *head, size_t head_n, const void *p, size_t n, int must);

/* ---- links_conn.c ---- */

int link_conn_new(struct links *l, int dialer, struct conn **ret);
void link_conn_move(struct conn *c, enum conn_state to);

/* A listener has a connection. */
void link_conn_accept(void *ctx, uv_stream_t *stream);

/* Queues a frame of head and p, limit for the queue given. -ENOBUFS, -ENOTCONN (it may have been lost just now). */
int link_conn_send(struct conn *c, uint16_t type, uint64_t call, const void *head, size_t head_n, const void *p, size_t n, size_t limit);

/* The connection is over. */
void link_conn_lose(struct conn *c, const char *why);

/* The same, and it is told that and why somebody was not let in. */
void link_conn_refuse(struct conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Both what was to be told of it is told, and its socket is closed: frees it. */
void link_conn_settled(struct conn *c);

/* ---- links_peer.c ---- */

struct peer *link_peer_of(const struct links *l, uint16_t node);
void link_peer_free(struct peer *p);

/* The link with node, when it is up. */
struct conn *link_of(const struct links *l, uint16_t node);

/* A connection of the peer was lost, or its peer is new: tries again later. */
void link_peer_retry(struct peer *p);
void link_peer_lost(struct peer *p, struct conn *c);

/* Whether an accepted connection of this peer, which has said hello, becomes the link; the others of the peer are then closed. */
int link_peer_takes(struct peer *p, struct conn *c);

void link_lookup_cancel(struct conn *c);

/* ---- links_call.c ---- */

/* Gives a frame of the node from (c NULL: self) to its handler. The connection may be lost afterwards. */
void link_call_dispatch(struct links *l, struct conn *c, uint16_t from, const struct frame *fr);

/* Ends all calls of a table. */
void link_calls_end(struct links *l, struct call **calls, int status);

/* Nobody waits for the answers any more. */
void link_call_reqs_forget(struct conn *c);
void link_call_reqs_forget_self(struct links *l);

/* ---- links_join.c ---- */

void link_join_open(struct conn *c);
void link_join_frame(struct conn *c, const struct frame *fr);
void link_join_lost(struct conn *c);
