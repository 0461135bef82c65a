/* What pandod asks of the stream agent of its node (pando-streams), without ever blocking. Loop thread only.
 *
 * The agent listens at RUN/streams.sock. Its listening socket is kept by the keeper, so that a connection made while the agent is started
 * again just waits; the client connects by itself, again and again, whichever side was restarted. Requests made meanwhile wait too.
 *
 * Recipe:
 *   streams_client_new; streams_peer_up for each other member with its stream address, streams_peers_known when all were told (else
 *     the agent does not know who has left while it or we were away); streams_peer_up and _down as the membership changes
 *   struct space_streams st = { .ctx = c, .export_fd = streams_export_fd, .unexport = streams_unexport, .import_fd = streams_import_fd,
 *     .barrier = streams_barrier };
 *
 * When the agent dies with requests under way: exports, unexports and barriers are made again, without the caller seeing anything;
 * imports end with -EAGAIN (what was granted may be used up: export it again, or do without). */
#pragma once

#include <jansson.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct streams_client;

struct streams_client_config {
	uv_loop_t *loop;      /* borrowed */
	const char *run_dir;  /* borrowed during streams_client_new */
	uint16_t self;
	const char *addr;     /* where the agent shall listen for others: numeric host:port; borrowed during streams_client_new */
	void *ctx;
	/* The agent answers (up != 0; addr: where it listens, with the real port) or does not any more (addr: why). May be NULL. */
	void (*changed)(void *ctx, int up, const char *addr);
};

/* On 0 the caller owns *ret. Also when no agent is there yet. */
int streams_client_new(const struct streams_client_config *cfg, struct streams_client **ret, struct err *e);

/* Requests under way end with -ECANCELED, within; c is freed when the loop has run on. NULL is fine. */
void streams_client_close(struct streams_client *c);

int streams_client_is_up(const struct streams_client *c);

/* node is a member, reached at addr (host:port). Again with another addr when it moves. -ENOMEM. */
int streams_peer_up(struct streams_client *c, uint16_t node, const char *addr);

/* node is dead or no member any more: its imports here end (end of file, EPIPE, EIO, POLLHUP), what was granted to it is dropped. */
void streams_peer_down(struct streams_client *c, uint16_t node);

/* All members were told by streams_peer_up. From now on the agent treats others as dead. */
void streams_peers_known(struct streams_client *c);

/* The functions of struct space_streams (space/space.h); client is the struct streams_client *. On 0 done runs exactly once, later. On
 * failure (-ENOMEM, -EMFILE) never. */

/* Grants node the use of fd's open description (borrowed: a dup is taken). When fd is itself delegated from a third node, what is
 * granted is the original: at tells where. node may be our own. */
int streams_export_fd(void *client, int fd, uint16_t node,
		      void (*done)(void *arg, int status, uint16_t at, uint64_t id, const uint8_t key[16]), void *arg);

/* Gives back a grant that node will not use. Unused ones end by themselves after a minute. */
int streams_unexport(void *client, uint16_t at, uint64_t id, uint16_t node);

/* A descriptor for what was granted to this node; on status 0 fd is the callee's. at our own node: the description itself. flags are the
 * open flags at the exporter; what counts is what the description has. */
int streams_import_fd(void *client, uint16_t at, uint64_t id, const uint8_t key[16], uint32_t flags,
		      void (*done)(void *arg, int status, int fd), void *arg);

/* Everything that was written to and closed of imported descriptors here by now is done where they are; dead homes count as done. */
int streams_barrier(void *client, void (*done)(void *arg, int status), void *arg);

/* What the agent knows, see docs: object with "node", "listening", "generation", "peers", "exports" (array), "imports" (object with array
 * "imports" and counts). stat is borrowed; NULL when status < 0. */
int streams_stat(struct streams_client *c, void (*done)(void *arg, int status, const json_t *stat), void *arg);

/* Counts for `pando status`, as of the agent's last answer; asking is done by the client itself, once in some seconds. */
struct streams_counts {
	int up;
	uint32_t exports, imports;   /* descriptions of ours used elsewhere; of others used here */
	uint32_t restarts;           /* of the agent, as far as we saw */
};
void streams_counts(const struct streams_client *c, struct streams_counts *ret);
