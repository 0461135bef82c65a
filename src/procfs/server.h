/* pandod's side of the /proc server: listens on RUN/procfs.sock, tells the server (a program of its own, pando-procfs) what is
 * where, and carries the questions of one node's server to another's. Loop thread only (libuv). Everything told here is kept, so that
 * a server that is started again gets it all; nothing here blocks, and without a server all calls still work.
 *
 * Recipe:
 *   procfs_server_new;                    listens from here on; only uid 0 is served
 *   procfs_server_node for each member, also for itself; again whenever a link goes up or down; procfs_server_node_gone
 *   procfs_server_slot for each slot of pids whose owner is not the node of its number
 *   procfs_server_pid for each ghost, placeholder, tid or pid that is occupied or known here and whose body is elsewhere;
 *     procfs_server_pid_gone when it ends or the body comes here: before the ghost is let go or the body runs (procfs_server_flush)
 *   procfs_server_ready;                  the table is worth reading: before that a server that connects gets none
 *   procfs_server_space(fuse, proc, journal): when pid 1 of the space has done stub/procmount.h step 1, and after each restart of
 *     pandod with what the keeper kept: /dev/fuse, the native procfs, and the journal (procfs_journal_new, once per mount)
 *   cfg.call is called: links_call(l, node, MSG_PROCFS_REQ, p, n, timeout_ms, done, ...), and its done calls
 *     procfs_server_call_done(s, token, status, p, n)
 *   links_handle_call(l, MSG_PROCFS_REQ, ...): procfs_server_serve(s, from, p, n, done, req), and done calls links_answer
 *   procfs_server_close */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "procfs/journal.h"
#include "procfs/table.h"

struct procfs_server;

struct procfs_server_config {
	uv_loop_t *loop;     /* borrowed */
	const char *run_dir; /* borrowed during the call of new */
	uint16_t self;
	void *ctx;
	/* Asks another node: p is valid during the call; it is answered by procfs_server_call_done(token), also much later, at most
	 * once; within the call only by returning -errno. */
	int (*call)(void *ctx, uint16_t node, const void *p, size_t n, uint32_t timeout_ms, uint64_t token);
	/* A server came (1) or went (0); may be NULL. pid is its process. */
	void (*on_client)(void *ctx, int there, int pid);
};

/* On 0 the caller owns *ret and RUN/procfs.sock is listening. */
int procfs_server_new(const struct procfs_server_config *cfg, struct procfs_server **ret, struct err *e);

/* The space's /proc: all three descriptors are copied (dup) and stay the caller's. Replaces the one before. */
int procfs_server_space(struct procfs_server *s, int fuse_fd, int proc_fd, int journal_fd, struct err *e);
/* There is no space any more: the copies are closed. */
void procfs_server_space_gone(struct procfs_server *s);

void procfs_server_ready(struct procfs_server *s);

/* Members, this node too. -EINVAL for a bad id or name. */
int procfs_server_node(struct procfs_server *s, uint16_t node, const char *name, int up);
void procfs_server_node_gone(struct procfs_server *s, uint16_t node);
int procfs_server_slot(struct procfs_server *s, uint32_t slot, uint16_t node);

/* Adds or replaces a pid whose body is not here. -EINVAL, -ENOMEM. */
int procfs_server_pid(struct procfs_server *s, const struct procfs_pid *p);
void procfs_server_pid_gone(struct procfs_server *s, uint32_t pid);

/* Features (enum procfs_feature) of all processes, and of those (tgid) that differ. */
void procfs_server_features_default(struct procfs_server *s, uint32_t flags);
int procfs_server_features(struct procfs_server *s, uint32_t pid, uint32_t flags);
void procfs_server_features_gone(struct procfs_server *s, uint32_t pid);

/* Hands what was told to the server now, not at the end of this turn of the loop. */
void procfs_server_flush(struct procfs_server *s);

/* The answer to cfg.call. status: 0 with p, or -errno. Unknown tokens (the server that asked is gone) are ignored. */
void procfs_server_call_done(struct procfs_server *s, uint64_t token, int status, const void *p, size_t n);

/* Another node's server asks ours. done runs exactly once, not within this call (but when memory is short): status 0 with the answer (valid during done), or
 * -errno: -EAGAIN no server is connected, -ETIMEDOUT it did not answer in 5 s, -EDQUOT too many questions of that node are under
 * way, -ECANCELED closing. */
typedef void (*procfs_served_fn)(void *ctx, int status, const uint8_t *p, size_t n);
void procfs_server_serve(struct procfs_server *s, uint16_t from, const void *p, size_t n, procfs_served_fn done, void *ctx);

/* Ends everything; closed (may be NULL) runs once, then s is freed. */
void procfs_server_close(struct procfs_server *s, void (*closed)(void *ctx), void *ctx);
