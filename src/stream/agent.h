/* The stream agent of a node: sessions with the agents of other nodes, the exporter and the importer behind them. Loop thread only.
 *
 * Happy path: agent_new; agent_peer for each member; agent_export, agent_import ...; sessions are made when something is sent.
 * Failures: a connection is lost: made again, nothing is lost; an agent is killed: the session goes on with what its keeper kept; a
 * node is dead (agent_peer_dead) or does not know the session any more: what was imported from there ends. */
#pragma once

#include <jansson.h>
#include <uv.h>

#include "base/err.h"
#include "stream/chan.h"
#include "stream/export.h"
#include "stream/import.h"
#include "stream/proto.h"

enum { AGENT_NODE_MAX = 128 };

struct agent;
struct store; /* stream/store.h */

struct agent_config {
	uv_loop_t *loop;   /* borrowed */
	uint16_t self;
	struct store *store; /* borrowed; what outlives this process */
	/* Makes the network; it asks agent_is_member who may connect. */
	int (*net)(void *ctx, struct agent *a, struct chan_net **ret, struct err *e);
	void *ctx;
};

/* On 0 the caller owns *ret. */
int agent_new(const struct agent_config *cfg, struct agent **ret, struct err *e);

/* Why the program has to end (uv_stop was called), or NULL. */
const char *agent_failed(const struct agent *a);

/* Ends everything; closed runs once. */
void agent_close(struct agent *a, void (*closed)(void *ctx), void *ctx);

uint16_t agent_self(const struct agent *a);
uint64_t agent_instance(const struct agent *a);

/* Listens at addr; once. */
int agent_listen(struct agent *a, const char *addr, struct err *e);
const char *agent_listening(const struct agent *a);

/* node is a member, at addr ("": not known yet). */
void agent_peer(struct agent *a, uint16_t node, const char *addr);
void agent_peer_dead(struct agent *a, uint16_t node);
/* Between begin and end all members are told; the others are dead. */
void agent_peers_begin(struct agent *a);
void agent_peers_end(struct agent *a);
int agent_is_member(const struct agent *a, uint16_t node);

/* What SPROTO_EXPORT wants; fd is taken in any case. done runs once, perhaps within the call. */
struct agent_export_result {
	int status;
	uint16_t home;
	struct export_info info;
	char text[SPROTO_TEXT_MAX];
};
typedef void (*agent_export_fn)(void *ctx, const struct agent_export_result *r);
void agent_export(struct agent *a, int fd, uint16_t node, const char *name, agent_export_fn done, void *ctx);

int agent_unexport(struct agent *a, uint16_t home, uint64_t id, uint16_t node);

/* done runs once, perhaps within the call; its fd is the receiver's. */
void agent_import(struct agent *a, uint16_t home, uint64_t id, const uint8_t key[static PMSG_KEY_SIZE], uint32_t flags, import_fn done,
		  void *ctx);

struct importer *agent_importer(struct agent *a);

/* NULL when out of memory. */
json_t *agent_stat(const struct agent *a);
