/* The importer: files of a FUSE file system of this agent, each standing for an open description of another node. Loop thread.
 *
 * Happy path: importer_import -> ATTACH to the home -> a name and a node in the file system -> opened in the pool (the open comes
 * back to us as a request) -> the descriptor goes to the caller. The kernel's requests become messages to the home, its answers
 * become replies. Last close -> RELEASE to the home.
 * Failures: the home is dead (importer_peer_dead): pending and later requests are answered as the kernel answers when the other
 * side of such a file is gone: end of file and EPIPE for pipes, EIO else. The agent is killed: its successor takes the file system over
 * from the keeper and nobody notices; without a keeper the kernel answers ENOTCONN. */
#pragma once

#include <jansson.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"
#include "stream/pmsg.h"
#include "stream/proto.h"
#include "stream/work.h"

struct importer;

struct importer_config {
	uv_loop_t *loop;   /* borrowed */
	struct work *work; /* borrowed, outlives the importer */
	struct store *store; /* borrowed, outlives the importer */
	uint64_t generation; /* of this agent among those of the store, from 1 */
	void *ctx;
	/* Queues m for the agent of node; the connection is made when there is none. -EHOSTUNREACH: no such node or it is dead. */
	int (*send)(void *ctx, uint16_t node, const struct pmsg *m);
	int (*is_connected)(void *ctx, uint16_t node);
	/* It cannot go on: the file system or a process of ours is gone. Nothing is lost when this program ends now. */
	void (*failed)(void *ctx, const char *why);
};

/* Mounts, or takes over what the agent before us had. On 0 owned by the caller. */
int importer_new(const struct importer_config *cfg, struct importer **ret, struct err *e);

/* Ends the file system: all users get errors. closed runs once, when nothing is under way any more. */
void importer_close(struct importer *im, void (*closed)(void *ctx), void *ctx);

/* A sequenced message of the home node; -EPROTO: it makes no sense, the session is to be ended. */
int importer_message(struct importer *im, uint16_t node, const struct pmsg *m);

/* The session to node goes on, but numbers start anew: its home or we have been started again. Sends again what is wanted. */
void importer_resync(struct importer *im, uint16_t node);

/* Whether anything is imported from node. */
int importer_has(const struct importer *im, uint16_t node);

/* The session to node is over: everything imported from there is dead. */
void importer_peer_dead(struct importer *im, uint16_t node);

/* Imports what node granted to us. done runs once, not within the call: fd is the receiver's. */
struct import_result {
	int status;    /* 0 or -errno */
	int fd;
	uint64_t id;   /* of the import, for barriers */
	uint32_t kind; /* enum stream_kind */
};
typedef void (*import_fn)(void *ctx, const struct import_result *r);
int importer_import(struct importer *im, uint16_t node, uint64_t id, const uint8_t key[static PMSG_KEY_SIZE], uint32_t flags,
		    import_fn done, void *ctx);

/* Whether fd is one of our files. */
int importer_is_ours(const struct importer *im, int fd);

/* Asks the home of fd (one of our files; borrowed until done) for a reference for node. */
struct regrant_result {
	int status;
	uint16_t home;
	uint64_t id;
	uint8_t key[PMSG_KEY_SIZE];
	uint32_t kind, oflags;
	char name[PMSG_NAME_MAX];
};
typedef void (*regrant_fn)(void *ctx, const struct regrant_result *r);
int importer_regrant(struct importer *im, int fd, uint16_t node, regrant_fn done, void *ctx);

/* Gives such a reference back. -ENOENT when nothing of that description is imported here any more (it expires by itself). */
int importer_ungrant(struct importer *im, uint16_t home, uint64_t id, uint16_t node);

/* Does m->op (enum sproto_desc_op) to the real description of fd (borrowed until done). value is >= 0 or -errno. */
typedef void (*desc_fn)(void *ctx, int64_t value);
int importer_desc(struct importer *im, int fd, const struct sproto_msg *m, desc_fn done, void *ctx);

/* done runs when all that our users have done by now has taken effect at the homes of these imports (n_ids 0: of all). May run
 * within the call. */
int importer_barrier(struct importer *im, const uint64_t *ids, uint32_t n_ids, void (*done)(void *ctx, int status), void *ctx);

/* An object; NULL when out of memory. */
json_t *importer_stat(const struct importer *im);
