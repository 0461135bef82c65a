/* The stream agent of this node: told who the members are. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "node/node.h"
#include "stream/client.h"

static void changed(void *ctx, int up, const char *addr)
{
	(void)ctx;
	if (up)
		log_info("stream agent: listens at %s", addr);
	else
		log_warn("stream agent: %s", addr);
}

int stream_glue_start(struct node *n, const char *addr, struct err *e)
{
	struct streams_client_config cfg = { .loop = &n->loop, .run_dir = n->run_dir, .self = n->self, .addr = addr, .ctx = n, .changed = changed };
	return streams_client_new(&cfg, &n->streams, e);
}

void stream_glue_members(struct node *n, const struct cluster *c)
{
	if (!n->streams)
		return;
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		const struct cluster_member *m = cluster_member(c, i);
		if (i == n->self)
			continue;
		if (m && cluster_is_live(m) && m->stream_addr[0] && streams_peer_up(n->streams, i, m->stream_addr) < 0)
			log_error("stream agent: no memory for node %u", i);
		else if (!m || !cluster_is_live(m))
			streams_peer_down(n->streams, i);
	}
	streams_peers_known(n->streams);
}

void stream_glue_node_dead(struct node *n, uint16_t node)
{
	if (n->streams)
		streams_peer_down(n->streams, node);
}

void stream_glue_fill(struct node *n, struct space_streams *ret)
{
	*ret = (struct space_streams){
		.ctx = n->streams,
		.export_fd = streams_export_fd,
		.unexport = streams_unexport,
		.import_fd = streams_import_fd,
		.barrier = streams_barrier,
	};
}
