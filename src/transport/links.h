/* Links: one TLS 1.3 connection between each pair of nodes, carrying framed messages and calls.
 *
 * Loop thread only (libuv). A message is delivered at most once, in order per peer while a link is up; a link that goes down
 * loses what was under way: protocols above reconcile when on_up comes again. The peer's node id is what its certificate
 * says, never what a message says. Frame: u32 length, u16 type, u64 call id (0 = none), payload (docs/protocol.md).
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
};

struct links;
struct pki; /* transport/pki.h: CA, this node's key and certificate */

struct links_config {
	uv_loop_t *loop;      /* borrowed */
	const struct pki *pki; /* borrowed, outlives the links */
	uint16_t self;
	uint32_t heartbeat_ms; /* a heartbeat is sent when nothing else was for this long; 0 means 500 */
	void *ctx;
	void (*on_up)(void *ctx, uint16_t node);                  /* link usable */
	void (*on_down)(void *ctx, uint16_t node, const char *why); /* link lost; reconnecting goes on by itself */
	void (*on_heard)(void *ctx, uint16_t node);               /* any valid frame of node, heartbeats included; may be NULL */
};

/* On 0 the caller owns *ret. */
int links_new(const struct links_config *cfg, struct links **ret, struct err *e);

/* Listens on host:port ("0.0.0.0:4840", "[::]:4840"). Connections that do not present a certificate of the cluster's CA
 * within 5 s, or send garbage, are closed with one log line (rate-limited per source address). */
int links_listen(struct links *l, const char *addr, struct err *e);

/* A connection with ALPN "pando-join/1" carries no client certificate: it is handed to this function after the TLS handshake,
 * one request of at most 64 KiB, one answer. At most 8 at once, each for at most 10 s. See member/join. */
typedef struct links_join_req links_join_req;
typedef void (*links_join_fn)(void *ctx, const char *from, const uint8_t *p, size_t n, links_join_req *req);
void links_on_join(struct links *l, links_join_fn fn, void *ctx);
/* Answers (exactly once, now or later) and closes. req is gone afterwards. */
void links_join_answer(links_join_req *req, const void *p, size_t n);

/* From now on keep a link to node at addr (host:port). Of two nodes the one with the higher id connects; the lower one accepts
 * (and knocks when it has been without a link for 1 s, for peers behind a wrong address). Reconnect delay 50 ms..1 s. */
int links_peer_set(struct links *l, uint16_t node, const char *addr, struct err *e);
/* No link to node any more; calls under way end with -ECONNRESET. Connections from it are refused (a removed member). */
void links_peer_drop(struct links *l, uint16_t node);

int links_is_up(const struct links *l, uint16_t node);

/* Queues a message. 0, -ENOTCONN (no link now), -ENOBUFS (queue full), -EMSGSIZE, -ENOMEM. To self: delivered on the next turn
 * of the loop. p is copied. */
int links_send(struct links *l, uint16_t node, uint16_t type, const void *p, size_t n);

/* Handler of messages of one type; at most one per type. from is the certified sender (or self). p is valid during the call. */
typedef void (*links_msg_fn)(void *ctx, uint16_t from, const uint8_t *p, size_t n);
void links_handle(struct links *l, uint16_t type, links_msg_fn fn, void *ctx);

/* Calls: a message that is answered once. done runs exactly once, never within links_call: status >= 0 and the answer's
 * payload, or -ETIMEDOUT, -ECONNRESET (link lost), -ENOSYS (peer knows no such type), -ECANCELED (links closing), or the negative
 * status that the handler gave. Returns 0 or as links_send (then done never runs). */
typedef void (*links_done_fn)(void *ctx, int status, const uint8_t *p, size_t n);
int links_call(struct links *l, uint16_t node, uint16_t type, const void *p, size_t n, uint32_t timeout_ms, links_done_fn done,
	       void *ctx);

/* Handler of calls. It answers by links_answer, now or later, exactly once; the link may be gone by then (the answer is dropped). */
struct links_call_req;
typedef void (*links_call_fn)(void *ctx, uint16_t from, const uint8_t *p, size_t n, struct links_call_req *req);
void links_handle_call(struct links *l, uint16_t type, links_call_fn fn, void *ctx);
void links_answer(struct links_call_req *req, int32_t status, const void *p, size_t n);

/* Closes everything; closed runs once, then l is freed. */
void links_close(struct links *l, void (*closed)(void *ctx), void *ctx);
