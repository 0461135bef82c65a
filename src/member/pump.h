/* Byte streams of libraft carried by the links: a raft_uv_transport.
 *
 * Why streams and not messages: libraft encodes and decodes its own messages, and the structs behind them differ between the versions
 * we build against (0.15 and 0.22), which still understand each other's bytes. So each stream that libraft writes to is one end of a
 * socket pair; this module reads the other end and sends what it finds as link messages; the receiver writes it into a pair whose
 * other end its libraft reads. One stream per direction and pair of nodes. The bytes are not looked at here: libraft parses them,
 * and only members (with certificate) can send them.
 *
 * A link that goes down ends its streams; libraft then opens new ones. It finds out by writing to a closed one: **the program must
 * ignore SIGPIPE**. Loop thread only. */
#pragma once

#include <raft.h>
#include <raft/uv.h>

#include "base/err.h"
#include "transport/links.h"

struct pump;

/* Makes the transport, and handles the stream messages on links. On 0 the caller owns *ret. */
int pump_new(uv_loop_t *loop, struct links *links, struct pump **ret, struct err *e);

/* For raft_uv_init; lives as long as the pump. */
struct raft_uv_transport *pump_transport(struct pump *p);

/* The link to a node is lost: its streams end. */
void pump_down(struct pump *p, uint16_t node);

/* After libraft has closed the transport, or never used it; the links are still there. NULL is fine. */
void pump_free(struct pump *p);
