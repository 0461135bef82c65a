/* The client's end of the control socket: blocking, with deadlines. Any thread, one at a time per connection.
 *
 * Recipe: ctl_client_open; ctl_client_call for each request; ctl_client_close. For a session: call "run", then poll
 * ctl_client_fd() and take what came with ctl_client_next. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"
#include "ctl/chan.h"

struct ctl_client;

/* Connects to RUN/control.sock of run_dir (NULL: $PANDO_RUN, else PANDO_RUN_DIR). -ENOENT and -ECONNREFUSED mean that no pandod
 * is there; the words say so. On 0 the caller owns *ret. */
int ctl_client_open(const char *run_dir, struct ctl_client **ret, struct err *e);

/* NULL is fine. */
void ctl_client_close(struct ctl_client *c);

int ctl_client_fd(const struct ctl_client *c);

/* Sends a request (json is borrowed), without waiting for an answer; waits at most timeout_ms for room in the socket. */
int ctl_client_send(struct ctl_client *c, json_t *json, const int *fds, size_t n_fds, int timeout_ms, struct err *e);

/* The next message, answer or event: 1 and *ret, or 0 when none came within timeout_ms (0: do not wait), or -errno (-ECONNRESET: pandod
 * is gone; -EBADMSG). The caller owns the content of *ret. */
int ctl_client_next(struct ctl_client *c, int timeout_ms, struct ctl_msg *ret, struct err *e);

/* What an answer says, for callers of ctl_client_next: 0, or -errno with its words in e; -EBADMSG when it is no answer. */
int ctl_client_outcome(const struct ctl_msg *m, struct err *e);

/* What to do with events that come before the answer: m is the callee's to fini or keep. */
typedef void (*ctl_client_event_fn)(void *ctx, struct ctl_msg *m);

/* Sends a request and waits for its answer. 0 and *ret (the caller owns its content), or -errno: that of the answer with its words
 * in e (and *ret is then the answer too, if there was one: look at ret->json), or -ETIMEDOUT, -ECONNRESET, -EBADMSG. on_event may be
 * NULL: events are then dropped. */
int ctl_client_call(struct ctl_client *c, json_t *json, const int *fds, size_t n_fds, int timeout_ms, ctl_client_event_fn on_event,
		    void *ctx, struct ctl_msg *ret, struct err *e);
