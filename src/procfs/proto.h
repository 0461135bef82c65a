/* What pandod and its own /proc server say to each other on RUN/procfs.sock: a stream of frames (procfs/chan.h), each a u8 type
 * and the fields below. Both are programs of one installation, but a pandod that was upgraded in place may meet an older server:
 * hence the version. The server is always the one that connects; it repeats that when pandod was gone.
 *
 *   /proc server                             pandod
 *   HELLO version           ->
 *                           <-  SPACE self, with three descriptors: /dev/fuse, native procfs, journal (once there is a space)
 *                           <-  RESET, then NODE, SLOT, PIDS, FEATURES..., SYNCED: the whole table replaces the one before
 *                           <-  NODE, NODE_GONE, SLOT, PIDS, PIDS_GONE, FEATURES, FEATURES_GONE: increments, in order
 *   REQ id, node, timeout   ->  to the /proc server of another node
 *                           <-  REPLY id, status
 *                           <-  SERVE id, from: a request of another node
 *   SERVED id, status       ->                                                                                                  */
#pragma once

#include <stdint.h>

#include "procfs/table.h"
#include "wire/rd.h"
#include "wire/wr.h"

enum {
	PROTO_VERSION = 1,
	PROTO_FRAME_MAX = (4 << 20) + 64,
	PROTO_PIDS_MAX = 4096, /* of one frame */
	PROTO_FDS = 3,
};

enum proto_fd { PROTO_FD_FUSE, PROTO_FD_PROC, PROTO_FD_JOURNAL };

enum proto_type {
	PROTO_HELLO = 1,
	PROTO_SPACE,
	PROTO_RESET,
	PROTO_SYNCED,
	PROTO_NODE,
	PROTO_NODE_GONE,
	PROTO_SLOT,
	PROTO_PIDS,
	PROTO_PIDS_GONE,
	PROTO_FEATURES,
	PROTO_FEATURES_GONE,
	PROTO_REQ,
	PROTO_REPLY,
	PROTO_SERVE,
	PROTO_SERVED,
};

/* REQ, REPLY, SERVE and SERVED have one form: what is not used is 0. */
struct proto_call {
	uint64_t id;
	uint16_t node;       /* REQ: to whom, SERVE: from whom */
	uint32_t timeout_ms; /* REQ */
	int32_t status;      /* REPLY, SERVED: 0, or -errno when there is no answer */
	const uint8_t *p;    /* borrowed */
	size_t n;
};

/* Writers append one whole frame payload, the type included. */
void proto_hello_put(struct wr *w);
void proto_space_put(struct wr *w, uint16_t self);
void proto_plain_put(struct wr *w, uint8_t type); /* RESET, SYNCED */
void proto_node_put(struct wr *w, uint16_t node, const char *name, int up); /* name == NULL: NODE_GONE */
void proto_slot_put(struct wr *w, uint32_t slot, uint16_t node);
void proto_pids_put(struct wr *w, const struct procfs_pid *p, size_t n);
void proto_pids_gone_put(struct wr *w, const uint32_t *pids, size_t n);
void proto_features_put(struct wr *w, uint32_t pid, uint32_t flags); /* pid 0: the default of all */
void proto_features_gone_put(struct wr *w, uint32_t pid);
void proto_call_put(struct wr *w, uint8_t type, const struct proto_call *c);

/* Readers: r is behind the type. 0 or -EBADMSG. */
int proto_hello_get(struct rd *r, uint16_t *ret_version);
int proto_space_get(struct rd *r, uint16_t *ret_self);
int proto_call_get(struct rd *r, struct proto_call *ret);
/* Applies one of NODE, NODE_GONE, SLOT, PIDS, PIDS_GONE, FEATURES, FEATURES_GONE to t. 0, -EBADMSG (t may be changed in part: the
 * caller gives the connection up), -ENOMEM, -EOPNOTSUPP for another type. */
int proto_table_get(uint8_t type, struct rd *r, struct table *t);
