/* Links: one TLS 1.3 connection between each pair of nodes, carrying framed messages and calls.
 *
 * Loop thread only (libuv). A message is delivered at most once, in order per peer while a link is up; a link that goes down
 * loses what was under way: protocols above reconcile when on_up comes again. The peer's node id is what its certificate
 * says, never what a message says. The frames: transport/frame.h.
 *
 * No callback is ever run from within a links_* function: what such a call causes (a lost link, an ended call) is told on the next
 * turn of the loop. links_* functions may be called within any callback. For one node on_up and on_down alternate, and messages come
 * between them only. The link to self is always up, without on_up and on_down.
 *
 * Recipe: links_new; links_handle for each type; links_listen; links_peer_set for each member; ...; links_close. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

enum {
	NODE_MAX = 128,               /* ids are 1..NODE_MAX; 0 is nobody */
	LINK_MSG_MAX = 4 << 20,       /* bytes of one payload */
	LINK_QUEUE_MAX = 64 << 20,    /* bytes queued to one peer: then -ENOBUFS */
	LINK_CALLS_MAX = 16384,       /* calls under way to one peer (then -ENOBUFS), and of one peer here (then it gets -EDQUOT) */
	LINK_JOIN_REQ_MAX = 64 << 10, /* bytes of a request to join */
	LINK_JOIN_ANS_MAX = 1 << 20,  /* and of its answer */
};

struct links;
struct pki; /* transport/pki.h: CA, this node's key and certificate */

struct links_config {
	uv_loop_t *loop;       /* borrowed */
	const struct pki *pki; /* borrowed, outlives the links */
	uint16_t self;
	uint32_t heartbeat_ms; /* a heartbeat is sent when nothing else was for this long; 0 means 500 */
	uint32_t silence_ms;   /* a link on which nothing came for this long is lost; 0 means 10 heartbeats of the slower side */
	void *ctx;
	void (*on_up)(void *ctx, uint16_t node);                  /* link usable */
	void (*on_down)(void *ctx, uint16_t node, const char *why); /* link lost; reconnecting goes on by itself */
	void (*on_heard)(void *ctx, uint16_t node);               /* bytes of node came, heartbeats included; may be NULL */
	/* Somebody was not let in, or does not let us in: address and reason, at most one per address in 10 s. NULL: logged as a
	 * warning. */
	void (*on_refused)(void *ctx, const char *from, const char *why);
};

/* On 0 the caller owns *ret. -EINVAL: self is not the node of the certificate. */
int links_new(const struct links_config *cfg, struct links **ret, struct err *e);

/* Listens on host:port ("0.0.0.0:4840", "[::]:4840"); may be called several times. Connections that do not present a certificate
 * of the cluster's CA and a known node within 5 s, or send garbage, are closed with one log line (rate-limited per source address).
 * One source has at most 16 unfinished handshakes, all sources together 512. */
int links_listen(struct links *l, const char *addr, struct err *e);

/* The port of the last links_listen (for port 0); 0 when there was none. */
uint16_t links_port(const struct links *l);

/* A connection with ALPN "pando-join/1" carries no client certificate: it is handed to this function after the TLS handshake,
 * one request of at most 64 KiB, one answer. At most 8 at once, each for at most 10 s. See member/join; the other side is
 * join_ask (transport/join_ask.h). */
typedef struct links_join_req links_join_req;
typedef void (*links_join_fn)(void *ctx, const char *from, const uint8_t *p, size_t n, links_join_req *req);
void links_on_join(struct links *l, links_join_fn fn, void *ctx);
/* Answers (exactly once, now or later) and closes. req is gone afterwards. It may be called after links_close. */
void links_join_answer(links_join_req *req, const void *p, size_t n);

/* From now on keep a link to node at addr (host:port; a name is looked up at each attempt), or at another address than before. Of two
 * nodes the one with the higher id connects; the lower one accepts (and knocks when it has been without a link for 1 s, for peers
 * behind a wrong address). Reconnect delay 50 ms..1 s. */
int links_peer_set(struct links *l, uint16_t node, const char *addr, struct err *e);
/* No link to node any more; calls under way end with -ECONNRESET, and on_down comes if it was up. Connections from it are refused (a
 * removed member). */
void links_peer_drop(struct links *l, uint16_t node);

int links_is_up(const struct links *l, uint16_t node);

/* Bytes queued to node that the kernel has not taken; for senders that can wait. */
size_t links_queued(const struct links *l, uint16_t node);

/* Queues a message. 0, -ENOTCONN (no link now), -ENOBUFS (queue full), -EMSGSIZE, -ENOMEM. To self: delivered on the next turn
 * of the loop. p is copied. type: 100 or more. */
int links_send(struct links *l, uint16_t node, uint16_t type, const void *p, size_t n);

/* Handler of messages of one type; at most one per type. from is the certified sender (or self). p is valid during the call. Messages
 * without a handler are dropped. -ENOMEM shows as an abort: handlers are set at start. */
typedef void (*links_msg_fn)(void *ctx, uint16_t from, const uint8_t *p, size_t n);
void links_handle(struct links *l, uint16_t type, links_msg_fn fn, void *ctx);

/* Calls: a message that is answered once. done runs exactly once, never within links_call: status >= 0 and the answer's
 * payload, or -ETIMEDOUT, -ECONNRESET (link lost), -ENOSYS (peer knows no such type), -EDQUOT (too many of ours wait there),
 * -ECANCELED (links closing), or the negative status that the handler gave (with its payload). Returns 0 or as links_send (then done
 * never runs). */
typedef void (*links_done_fn)(void *ctx, int status, const uint8_t *p, size_t n);
int links_call(struct links *l, uint16_t node, uint16_t type, const void *p, size_t n, uint32_t timeout_ms, links_done_fn done,
	       void *ctx);

/* Handler of calls. It answers by links_answer, now or later, exactly once; the link may be gone by then (the answer is dropped), and
 * also l. */
struct links_call_req;
typedef void (*links_call_fn)(void *ctx, uint16_t from, const uint8_t *p, size_t n, struct links_call_req *req);
void links_handle_call(struct links *l, uint16_t type, links_call_fn fn, void *ctx);
/* More than LINK_MSG_MAX bytes are answered as -EMSGSIZE. A peer that does not take its answers loses the link. */
void links_answer(struct links_call_req *req, int32_t status, const void *p, size_t n);

/* Closes everything: what is queued is offered to the kernel once more, calls under way end with -ECANCELED, no other callback comes;
 * closed runs once (never within links_close), then l is freed. */
void links_close(struct links *l, void (*closed)(void *ctx), void *ctx);
