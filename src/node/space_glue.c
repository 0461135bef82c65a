/* The space's life, and what it asks of the rest of the daemon. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "keeper/client.h"
#include "node/node.h"

/* The space's clocks show this much at the cluster's birth, so that a node whose clock is behind does not get a negative one. */
enum { CLOCK_HEAD_MS = 86400 * 1000 };

/* --- what only pandod knows --- */

static int node_up(void *ctx, uint16_t node)
{
	const struct node *n = ctx;
	return member_is_up(n->member, node);
}

/* The space has one host name on all nodes: that of the member with the lowest number. */
static void hostname_choose(struct node *n, const struct cluster *c)
{
	(void)gethostname(n->hostname, sizeof n->hostname - 1);
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		const struct cluster_member *m = cluster_member(c, i);
		if (m && m->state != MEMBER_REMOVED) {
			(void)snprintf(n->hostname, sizeof n->hostname, "%s", m->name);
			return;
		}
	}
}

static void layout_fill(struct node *n, struct space_layout *l)
{
	const struct cluster *c = member_cluster(n->member);
	const char *tmp = cluster_setting(c, "shared-tmp");
	hostname_choose(n, c);
	(void)snprintf(n->shared_tmp, sizeof n->shared_tmp, "%s", tmp ? tmp : "");
	uint16_t slots[CLUSTER_SLOTS];
	*l = (struct space_layout){
		.slot = cluster_slots(c, n->self, slots) > 0 ? slots[0] : n->self,
		.libexec = n->libexec,
		.hostname = n->hostname,
		.shared_tmp = n->shared_tmp[0] ? n->shared_tmp : NULL,
		.epoch_ns = ((int64_t)c->created_ms - CLOCK_HEAD_MS) * 1000000,
		.use_fuse = n->has.fuse,
	};
}

static int root_open(struct node *n, struct err *e)
{
	char path[64];
	(void)snprintf(path, sizeof path, "/proc/%d/root", space_ends_get(n->space)->init);
	n->root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (n->root_fd < 0)
		return err_set(e, -errno, "%s: %m", path);
	int rc = nspid_init(&n->ns, space_ends_get(n->space)->init);
	return rc < 0 ? err_set(e, rc, "numbers of the space: %s", strerror(-rc)) : 0;
}

static void keeper_tell(struct node *n)
{
	const struct space_ends *ends = space_ends_get(n->space);
	char lease[PATHS_MAX];
	(void)snprintf(lease, sizeof lease, "%s/lease", n->run_dir);
	int rc = keeper_space(n->keeper, ends, lease);
	if (rc < 0)
		log_warn("the keeper does not watch over the space: %s", strerror(-rc));
}

void node_space_start(struct node *n)
{
	struct err e = { 0 };
	struct space_config cfg = {
		.loop = &n->loop,
		.links = n->links,
		.self = n->self,
		.keep = { n->keeper, keeper_put, keeper_drop, keeper_take, keeper_each },
		.ctx = n,
		.place = placement_place,
		.files = placement_files,
		.files_check = placement_files_check,
		.placed = placement_placed,
		.unplaced = placement_unplaced,
		.ended = placement_ended,
		.features = features_pack,
		.arrived = features_arrived,
		.pid_changed = proc_glue_pid,
		.node_up = node_up,
	};
	layout_fill(n, &cfg.layout);
	stream_glue_fill(n, &cfg.streams);
	int rc = space_new(&cfg, &n->space, &e);
	if (rc == 0)
		rc = root_open(n, &e);
	if (rc < 0) {
		log_error("the space: %s", e.text);
		exit(1); /* the keeper starts us again, more slowly each time */
	}
	keeper_tell(n);
	proc_glue_space(n);
	if (space_ends_get(n->space)->is_found)
		sessions_find(n);
	log_notice("the space runs, pids %u to %u", (unsigned)cfg.layout.slot * CLUSTER_SLOT_SIZE,
		   (unsigned)cfg.layout.slot * CLUSTER_SLOT_SIZE + CLUSTER_SLOT_SIZE - 1);
}

void node_space_end(struct node *n)
{
	if (!n->space)
		return;
	sessions_end(n);
	proc_glue_space_gone(n);
	space_wipe(take_ptr(n->space));
	(void)keeper_space(n->keeper, NULL, NULL);
	n->root_fd = close_fd(n->root_fd);
	nspid_fini(&n->ns);
	placement_forget(n);
}

void node_space_freeze(struct node *n, bool frozen)
{
	struct err e = { 0 };
	if (n->space && space_freeze(space_ends_get(n->space), frozen, &e) < 0)
		log_error("the space cannot be %s: %s", frozen ? "stopped" : "continued", e.text);
}
