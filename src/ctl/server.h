/* The control socket of pandod: requests of local users, answers and events (docs/control.md). Loop thread only.
 *
 * Happy path: a client connects, sends a line, the handler of its "cmd" runs with a request object, and answers it, now or later. A
 * handler that needs the connection afterwards (a session) keeps ctl_req_conn() and sends events on it until its on_close runs.
 * Failure modes: garbage, over-long lines, too many requests or descriptors, clients that do not read: answered where possible, and
 * closed; over the limits of a user: answered EAGAIN and closed. A request whose connection is gone is still answered by its
 * handler; the answer is then dropped.
 *
 * Recipe: ctl_server_new; ctl_handle for each command; ...; ctl_server_close. */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"

struct ctl_server;
struct ctl_conn; /* valid until its on_close has returned (or, without one, within handlers only) */
struct ctl_req;  /* valid until answered */

/* Who is at the other end, from the kernel, as of its connect(2). */
struct ctl_peer {
	pid_t pid; /* in this process's pid namespace; 0 when not visible there */
	uid_t uid; /* effective */
	gid_t gid;
	gid_t *gids; /* supplementary groups; borrowed */
	size_t n_gids;
	int pidfd; /* borrowed; -1 when the kernel gives none for sockets (before 6.5) and the process was gone already. With it
	            * the caller can tell that pid still is that process. */
};

/* Listens on path (mode 0666; what was there before is replaced at once, without a moment in which there is no socket). On 0 the
 * caller owns *ret. */
int ctl_server_new(uv_loop_t *loop, const char *path, struct ctl_server **ret, struct err *e);

/* Limits of connections; 0 keeps the default (1024 for a user, 4096 in all). */
void ctl_server_limits(struct ctl_server *s, unsigned per_user, unsigned total);

/* How long a message may take from its first byte to its last; 0 keeps the default (10 s). */
void ctl_server_patience(struct ctl_server *s, unsigned unfinished_ms);

/* Handler of one command, at most one each; name is borrowed (a literal). */
typedef void (*ctl_fn)(void *ctx, struct ctl_req *req);
void ctl_handle(struct ctl_server *s, const char *name, ctl_fn fn, void *ctx);

/* Closes all connections (their on_close run) and the socket (its name is removed if it is still this server's). closed runs once, on a later turn of the
 * loop; s is gone then. Requests still unanswered must be answered all the same, before or after. */
void ctl_server_close(struct ctl_server *s, void (*closed)(void *ctx), void *ctx);

/* The request: its JSON object (borrowed from the request), the peer, the connection (NULL when it is gone). */
json_t *ctl_req_json(const struct ctl_req *req);
const struct ctl_peer *ctl_req_peer(const struct ctl_req *req);
struct ctl_conn *ctl_req_conn(const struct ctl_req *req);

/* Its descriptors: how many, and moving number i out (the caller owns it; -1 when taken already or out of range). What is not
 * taken is closed with the request. */
size_t ctl_req_n_fds(const struct ctl_req *req);
int ctl_req_take_fd(struct ctl_req *req, size_t i);

/* Answers, exactly once; req is gone afterwards. json is an object (json_object() for none) and is taken over; "ok" and "id" are set
 * here. NULL, what a failed json_pack gives, is answered as ENOMEM. The fds are duplicated, the caller keeps its own. An answer that
 * cannot be sent closes the connection. */
void ctl_answer(struct ctl_req *req, json_t *json);
void ctl_answer_fds(struct ctl_req *req, json_t *json, const int *fds, size_t n_fds);

/* Answers with a failure: code is -errno or errno, the words as for printf. ctl_fail_at adds the key "at" (a literal). */
void ctl_fail(struct ctl_req *req, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void ctl_fail_at(struct ctl_req *req, int code, const char *at, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Parameters of a request, for handlers: the value, or fail the request with EINVAL and words that name the key, and return -EINVAL (req
 * is gone then). Absent keys give the default. */
int ctl_req_int(struct ctl_req *req, const char *key, json_int_t min, json_int_t max, json_int_t def, json_int_t *ret);
int ctl_req_bool(struct ctl_req *req, const char *key, int def, int *ret);
/* *ret is borrowed from the request, def when absent. */
int ctl_req_str(struct ctl_req *req, const char *key, const char *def, const char **ret);

/* Sends an event: json (taken over) must have the key "event"; fds as for ctl_answer_fds. 0 or -errno (-ENOBUFS: the client does
 * not read; the connection is then closed on a later turn of the loop). */
int ctl_event(struct ctl_conn *conn, json_t *json, const int *fds, size_t n_fds);

/* Bytes that wait to be sent: a handler with a long answer sends the next part when this is small. */
size_t ctl_conn_queued(const struct ctl_conn *conn);
const struct ctl_peer *ctl_conn_peer(const struct ctl_conn *conn);

/* fn runs once, when the connection has ended (also by ctl_conn_close and ctl_server_close); NULL takes it back. One per connection. */
void ctl_conn_on_close(struct ctl_conn *conn, void (*fn)(void *ctx, struct ctl_conn *conn), void *ctx);

/* Ends the connection on a later turn of the loop, after what is queued has been sent (at most 5 s). */
void ctl_conn_close(struct ctl_conn *conn);
