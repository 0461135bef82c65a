/* Frames of a link: bytes in, frames out. Pure: no I/O. Loop thread of its user.
 *
 *   u32 size       bytes of payload, at most the limit of the state and type
 *   u16 type       1..99: FRAME_* below; 100..: wire/msg.h
 *   u64 call       0: a message. Else: a call, that is answered once by a FRAME_ANSWER with the same number; numbers are chosen by
 *                  the caller and mean nothing on another connection
 *   payload
 *
 *   FRAME_HELLO      the first frame of each side, the connecting side first. u16 version (1), u16 node (must be the certified
 *                    one), u32 heartbeat_ms: at least so often this side sends something
 *   FRAME_HEARTBEAT  empty
 *   FRAME_ANSWER     i32 status, the rest is the answer's payload
 *   FRAME_BYE        text (utf-8, at most 200 bytes): why the sender closes now
 *   FRAME_JOIN       only with ALPN pando-join/1: the request (first frame of the client) or the answer (only frame of the server) */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "wire/rd.h"
#include "wire/wr.h"

enum {
	FRAME_HELLO = 1,
	FRAME_HEARTBEAT = 2,
	FRAME_ANSWER = 3,
	FRAME_BYE = 4,
	FRAME_JOIN = 5,
	FRAME_TYPE_USER = 100, /* smallest type that is not the transport's */

	FRAME_HEAD = 14,
	FRAME_BYE_MAX = 200,
	FRAME_FIRST_MAX = 256, /* before the hello no frame is longer */
};

struct frame {
	uint16_t type;
	uint64_t call;
	const uint8_t *p; /* borrowed: valid during the callback */
	size_t n;
};

/* Writes the head of a frame with n bytes of payload. */
void frame_head(uint8_t ret[static FRAME_HEAD], uint16_t type, uint64_t call, uint32_t n);

/* The decoder. An empty one needs no call: struct frame_in f = { .max = FRAME_FIRST_MAX }; max may change between frames. */
struct frame_in {
	size_t max;    /* largest payload accepted */
	uint8_t *p;    /* owned: a frame that is not complete yet, with its head */
	size_t n, cap; /* bytes in p */
	int bad;       /* a frame was bad: nothing more is taken */
};

void frame_in_fini(struct frame_in *f);

/* Takes n bytes; calls fn for each complete frame, in order. What fn returns other than 0 ends the feeding and is returned; then f
 * takes nothing more. fn may change f->max. 0; -EMSGSIZE: a frame is longer than f->max; -ENOMEM. Never calls fn again after it
 * returned non-zero, so fn may have closed the connection, but not have called frame_in_fini. */
typedef int (*frame_in_fn)(void *ctx, const struct frame *fr);
int frame_in_feed(struct frame_in *f, const uint8_t *p, size_t n, frame_in_fn fn, void *ctx);

/* Whether a frame is begun and not complete. */
int frame_in_is_partial(const struct frame_in *f);

struct frame_hello {
	uint16_t version;
	uint16_t node;
	uint32_t heartbeat_ms;
};

enum { FRAME_HELLO_VERSION = 1, FRAME_HELLO_SIZE = 8, FRAME_HEARTBEAT_MIN_MS = 10, FRAME_HEARTBEAT_MAX_MS = 60000 };

void frame_hello_encode(struct wr *w, const struct frame_hello *h);

/* -EPROTONOSUPPORT: another version (h->version says which, the rest is not known); -EBADMSG: anything else wrong. */
int frame_hello_decode(const uint8_t *p, size_t n, struct frame_hello *ret);

/* Copies foreign text for a log line: at most size - 1 bytes, everything but printable ASCII becomes '?'. */
void frame_text(const uint8_t *p, size_t n, char *ret, size_t size);
