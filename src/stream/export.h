/* The exporter: real open descriptions of this node that processes of other nodes use. Loop thread only.
 *
 * Never blocks: pipes and the like are read and written with RWF_NOWAIT and wait in epoll; files are done in a thread pool; what can
 * neither be tried nor polled (terminals, locks) in threads of its own. Requests of one description are served in their order, as
 * far as possible: a read takes something out of a pipe only when it is answered with it.
 *
 * Happy path: exporter_add (a reference for a node) -> xsess_message(ATTACH) by that node (a handle) -> READ, WRITE, ... ->
 * RELEASE; the description is closed when neither unused references nor handles are left.
 * Failures: a session that dies (xsess_free) takes its handles and waiting requests along; a node that is dead
 * (exporter_node_dead) also its unused references; a reference nobody uses expires (exporter_tick). */
#pragma once

#include <jansson.h>
#include <uv.h>

#include "base/err.h"
#include "stream/pmsg.h"
#include "stream/sess.h"
#include "stream/store.h"
#include "stream/work.h"

struct exporter;
struct xsess;

struct exporter_config {
	uv_loop_t *loop;   /* borrowed */
	struct work *work; /* borrowed, outlives the exporter */
	struct store *store; /* borrowed, outlives the exporter */
	uint16_t self;
	/* Sends an answer to the importer behind a session (p = its ctx); what is queued to it and not acknowledged. */
	int (*send)(void *p, const struct pmsg *m);
	/* The same in two steps, as in sess.h. */
	int (*frame_new)(void *p, const struct pmsg *m, struct sess_frame **ret);
	void (*frame_send)(void *p, struct sess_frame *f);
	void (*frame_free)(void *p, struct sess_frame *f);
	size_t (*backlog)(void *p);
	/* The session sent something impossible: to be ended (not from within this call). */
	void (*broken)(void *p, const char *why);
};

/* What EXPORT answers. */
struct export_info {
	uint64_t id;
	uint8_t key[PMSG_KEY_SIZE];
	uint32_t kind, oflags;
	char name[PMSG_NAME_MAX];
};

/* With the descriptions that the store and the keeper have. */
int exporter_new(const struct exporter_config *cfg, struct exporter **ret, struct err *e);

/* All sessions of the store are there again: descriptions that none of them uses are given up. */
void exporter_tidy(struct exporter *x);

/* All sessions must be freed. Ends when the threads are done: closed runs once on the loop. */
void exporter_close(struct exporter *x, void (*closed)(void *ctx), void *ctx);

/* Holds the open description of fd with one more unused reference for node. name: its link text for the importers, "" to
 * take what /proc says here. fd is taken on 0. -EOPNOTSUPP for sockets, directories, epoll and other kinds that cannot be used
 * through a stand-in (e says which); -EMFILE, -ENOMEM. */
int exporter_add(struct exporter *x, int fd, uint16_t node, const char *name, struct export_info *ret, struct err *e);

/* Gives one unused reference of node back. -ENOENT when there is none. */
int exporter_unref(struct exporter *x, uint64_t id, uint16_t node);

/* Uses up one reference of our own node: a new descriptor of the real description. -EACCES for a wrong id or key. */
int exporter_take_local(struct exporter *x, uint64_t id, const uint8_t key[static PMSG_KEY_SIZE], int *ret_fd, uint32_t *ret_kind);

/* node is dead: its unused references are dropped (its sessions are the caller's to free). */
void exporter_node_dead(struct exporter *x, uint16_t node);

/* Gives up expired references. */
void exporter_tick(struct exporter *x, uint64_t now_ms);

/* An array of objects: id, kind, name, handles, ...; NULL when out of memory. The caller owns it. */
json_t *exporter_stat(const struct exporter *x);

/* One importer's session. id: its number; is_restored: with the handles and unacknowledged answers that the store has of it. */
int xsess_new(struct exporter *x, uint16_t node, uint64_t id, int is_restored, void *p, struct xsess **ret);

/* The session starts anew with its handles: what is under way waits to be asked for again, until RESYNCED. */
void xsess_restart(struct xsess *s);

/* Something that was sent and not acknowledged before xsess_restart: f is taken. */
void xsess_unacked(struct xsess *s, struct sess_frame *f);
void xsess_message(struct xsess *s, const struct pmsg *m);
/* The importer acknowledged something: reads that waited for room may go on. */
void xsess_acked(struct xsess *s);
void xsess_free(struct xsess *s); /* NULL is fine */
