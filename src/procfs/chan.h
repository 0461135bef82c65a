/* A stream of frames over a connected Unix socket on a libuv loop, with descriptors. Loop thread only.
 *
 * Frame: u32 length (of what follows, at least 1), bytes. A frame that carries descriptors is written by its own sendmsg, so that
 * they arrive with its first byte; the receiver takes them with chan_take_fds while it looks at that frame.
 * Failure modes: end of file, error, a frame over the limit or too much queued: on_closed runs once (never within a call of the
 * owner's), and the owner then calls chan_free. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct chan;

struct chan_config {
	uv_loop_t *loop;   /* borrowed */
	size_t frame_max;  /* bytes of one frame */
	size_t queue_max;  /* bytes queued for sending: more is -ENOBUFS and ends the connection */
	void *ctx;
	/* A whole frame; p is valid during the call. The callee may call chan_free. */
	void (*on_frame)(void *ctx, const uint8_t *p, size_t n);
	void (*on_closed)(void *ctx, int error); /* 0: end of file, else -errno */
};

/* Takes fd (a connected stream socket; made non-blocking) also when it fails. On 0 the caller owns *ret. */
int chan_new(const struct chan_config *cfg, int fd, struct chan **ret);

/* Queues a frame and writes what the socket takes at the end of this turn of the loop (or in chan_send_queued). p and the descriptors
 * are copied (dup). 0, -EMSGSIZE, -ENOBUFS, -ENOMEM, -EPIPE after the end. */
int chan_send(struct chan *c, const void *p, size_t n, const int *fds, size_t n_fds);

/* Writes what the socket takes now. */
void chan_send_queued(struct chan *c);

/* Moves up to n received descriptors out, in their order; returns how many. The caller owns them. */
size_t chan_take_fds(struct chan *c, int *ret_fds, size_t n);

/* Closes at once, without on_closed; NULL is fine. Safe within on_frame and on_closed. */
void chan_free(struct chan *c);
