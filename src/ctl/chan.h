/* One end of a control connection: JSON objects, one a line, with descriptors, both ways, on a non-blocking stream socket.
 *
 * Used by the server and by the client; knows nothing of requests and answers. The bytes are foreign: whatever breaks the rules of
 * docs/control.md ends in a negative result, and the connection is then of no more use. Not thread-safe: one user at a time.
 *
 * Recipe: chan_init; on POLLIN chan_fill, then chan_next until it gives 0; chan_put, then chan_flush until it gives 0 (on POLLOUT);
 * chan_fini. */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CTL_REQUEST_MAX = 64 << 10, /* bytes of a request, the line feed included */
	CTL_LINE_MAX = 1 << 20,     /* bytes of an answer or event */
	CTL_FDS_MAX = 1024,         /* descriptors of one message */
	CTL_QUEUE_MAX = 16 << 20,   /* bytes waiting to be sent on one connection */
};

/* A message. ctl_msg_fini closes what is left. */
struct ctl_msg {
	json_t *json; /* owned; always an object */
	int *fds;     /* owned, each a descriptor (close-on-exec) or -1 when taken */
	size_t n_fds;
	size_t n_bytes; /* length of its line */
};

void ctl_msg_fini(struct ctl_msg *m);

/* A JSON string of at most max of n bytes that need not be UTF-8 (a command line, a name): control characters and what is not UTF-8 become
 * '?'. NULL without memory. */
json_t *ctl_json_text(const char *bytes, size_t n, size_t max);

struct chan_out; /* a line on its way */

struct chan {
	int fd;         /* owned */
	size_t in_max;  /* longest line that is accepted */
	char *in;       /* owned: bytes not yet taken, from in_at to in_n */
	size_t in_at, in_n, in_cap;
	size_t in_seen; /* bytes after in_at known to hold no line feed */
	int *fds;       /* owned: descriptors not yet claimed */
	size_t n_fds, fds_cap;
	struct chan_out *out; /* owned list */
	size_t out_n;   /* bytes in it */
	int eof;        /* the peer will send no more */
};

/* Takes fd over and makes it non-blocking and close-on-exec. in_max: CTL_REQUEST_MAX for a server, CTL_LINE_MAX for a client. */
int chan_init(struct chan *c, int fd, size_t in_max);

/* Closes and frees everything; c may be half built or all zeros with fd -1. */
void chan_fini(struct chan *c);

enum { CHAN_EOF = 1 };

/* Reads what is there, at most 64 KiB. 0 when something came, -EAGAIN when nothing is there, CHAN_EOF at the end of the stream,
 * else -errno (-ECONNRESET, -EBADMSG: too many descriptors, -ENOMEM). */
int chan_fill(struct chan *c);

/* Takes the next whole message out. 1 and *ret (caller owns its content), or 0 when there is none yet. -EMSGSIZE: line too long;
 * -EBADMSG: not one JSON object, or descriptors missing or left over. */
int chan_next(struct chan *c, struct ctl_msg *ret);

/* Bytes that are held for unfinished messages; a descriptor counts as 64. */
size_t chan_held(const struct chan *c);

/* Queues a message; json is borrowed; the descriptors are duplicated, the caller keeps its own. "fds" is set by this function.
 * -EMSGSIZE: longer than CTL_LINE_MAX or more than CTL_FDS_MAX descriptors; -ENOBUFS: more than CTL_QUEUE_MAX would wait;
 * -EMFILE, -ENOMEM. Nothing is queued then. */
int chan_put(struct chan *c, json_t *json, const int *fds, size_t n_fds);

enum { CHAN_MORE = 1 };

/* Sends what the socket takes. 0: all sent, CHAN_MORE: wait for POLLOUT, < 0: the connection is dead (-EPIPE, -ECONNRESET). */
int chan_flush(struct chan *c);
