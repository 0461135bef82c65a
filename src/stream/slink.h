/* A session (sess.h) and the connection that carries it at the moment, if any. Loop thread only.
 *
 * Happy path: slink_new; slink_use(channel) after the greeting; slink_send and on_msg; the channel is lost: slink keeps what was
 * not acknowledged; slink_use(next channel). Failures: the other side breaks the protocol or knows another state of the session:
 * on_broken, after which the session is of no use and its owner frees it. */
#pragma once

#include "stream/chan.h"
#include "stream/pmsg.h"
#include "stream/sess.h"

/* Collects bytes into frames. */
struct frames {
	uint8_t *p; /* owned */
	size_t n, cap;
};

/* Feeds bytes; fn gets each complete frame (body without the head) and returns < 0 to stop, which is passed up (f may then be
 * gone: it is not touched again). -EBADMSG for a bad head or length, -ENOMEM. */
typedef int (*frames_fn)(void *ctx, const struct sess_head *h, struct rd *body);
int frames_feed(struct frames *f, const uint8_t *p, size_t n, frames_fn fn, void *ctx);
void frames_fini(struct frames *f);

/* For greetings: adds bytes; when the first frame is complete, decodes it (borrowed from f) and says in *ret_used where it ends within
 * f->p. 0, 1 (more is needed), -EBADMSG, -ENOMEM. max is a limit for the frame. */
int frames_first(struct frames *f, const uint8_t *p, size_t n, size_t max, struct pmsg *ret, size_t *ret_used);

/* Collects the sends of one turn of the loop into one write. One per agent. */
struct slink_group;
int slink_group_new(uv_loop_t *loop, struct slink_group **ret);
void slink_group_close(struct slink_group *g); /* g is freed when the loop has run on; its links must be freed before */

struct slink_cb {
	void *ctx;
	void (*on_msg)(void *ctx, const struct pmsg *m);      /* a sequenced message, each once */
	void (*on_acked)(void *ctx);                          /* the other side took something: slink_backlog is smaller */
	void (*on_lost)(void *ctx, const char *why);          /* the channel is gone, the session waits for another */
	void (*on_broken)(void *ctx, int err, const char *why); /* last callback; the owner calls slink_free now or later */
};

struct slink;
/* id: of the session. store: where frames are kept, NULL: they die with the process. */
int slink_new(struct slink_group *g, const struct slink_cb *cb, uint64_t id, struct store *store, struct slink **ret);
void slink_free(struct slink *l); /* may be called from within its callbacks */

/* Queues m (m->data is copied), now or for the next connection. -ENOMEM, -EINVAL. */
int slink_send(struct slink *l, const struct pmsg *m);

/* In two steps, see sess.h. */
int slink_frame_new(const struct slink *l, const struct pmsg *m, struct sess_frame **ret);
void slink_frame_send(struct slink *l, struct sess_frame *f);
void slink_frame_free(const struct slink *l, struct sess_frame *f);

/* Closes the channel; numbers start anew. As sess_restart. */
void slink_restart(struct slink *l, void (*fn)(void *ctx, struct sess_frame *f), void *ctx);

/* Bytes sent or queued and not acknowledged. */
size_t slink_backlog(const struct slink *l);

/* The last seq received, for the greeting. */
uint64_t slink_received(const struct slink *l);

/* Continues the session on c (taken in any case; a present channel is closed), after a greeting in which the other side said
 * that it has everything up to peer_has; hello, when not NULL, is written first.
 * -EPROTO when the sessions do not fit together. */
int slink_use(struct slink *l, struct chan *c, uint64_t peer_has, const struct pmsg *hello);

/* Bytes that came with the greeting's, behind it. */
void slink_feed(struct slink *l, const uint8_t *p, size_t n);

/* Closes the present channel, if any; on_lost is not called. */
void slink_cut(struct slink *l);

int slink_is_up(const struct slink *l);

/* To be called some times per second: pings an idle channel, closes one that was silent for silent_ms (then on_lost). */
void slink_tick(struct slink *l, uint64_t now_ms, uint32_t silent_ms);
