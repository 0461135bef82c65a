/* The /proc server: told what is where, and its questions carried between nodes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "keeper/client.h"
#include "node/node.h"
#include "space/features.h"
#include "wire/msg.h"

struct asked {
	struct node *n;
	uint64_t token;
};

static void on_answer(void *ctx, int status, const uint8_t *p, size_t size)
{
	struct asked *a = ctx;
	if (a->n->procfs)
		procfs_server_call_done(a->n->procfs, a->token, status < 0 ? status : 0, p, size);
	free(a);
}

static int call(void *ctx, uint16_t node, const void *p, size_t size, uint32_t timeout_ms, uint64_t token)
{
	struct node *n = ctx;
	struct asked *a = malloc(sizeof *a);
	if (!a)
		return -ENOMEM;
	*a = (struct asked){ n, token };
	int rc = links_call(n->links, node, MSG_PROCFS_REQ, p, size, timeout_ms, on_answer, a);
	if (rc < 0)
		free(a);
	return rc;
}

static void served(void *ctx, int status, const uint8_t *p, size_t size)
{
	links_answer(ctx, status, p, size);
}

static void on_req(void *ctx, uint16_t from, const uint8_t *p, size_t size, struct links_call_req *req)
{
	struct node *n = ctx;
	if (n->procfs)
		procfs_server_serve(n->procfs, from, p, size, served, req);
	else
		links_answer(req, -ECANCELED, NULL, 0);
}

/* The native /proc goes into the other one once somebody answers there. */
static void on_finished(void *ctx, int status)
{
	struct node *n = ctx;
	n->proc_is_finished = status == 0;
	if (status < 0)
		log_warn("/proc of the space is not complete: %s", strerror(-status));
}

static void finish(struct node *n)
{
	if (!n->proc_is_served || !n->space || n->proc_is_finished)
		return;
	int rc = space_proc_finish(n->space, on_finished, n);
	if (rc < 0 && rc != -ENOENT)
		log_warn("/proc of the space: %s", strerror(-rc));
}

static void on_client(void *ctx, int there, int pid)
{
	struct node *n = ctx;
	log_info("/proc server %d is %s", pid, there ? "there" : "gone");
	n->proc_is_served = there;
	finish(n);
}

int proc_glue_start(struct node *n, struct err *e)
{
	struct procfs_server_config cfg = {
		.loop = &n->loop, .run_dir = n->run_dir, .self = n->self, .ctx = n, .call = call, .on_client = on_client,
	};
	int rc = procfs_server_new(&cfg, &n->procfs, e);
	if (rc == 0)
		links_handle_call(n->links, MSG_PROCFS_REQ, on_req, n);
	return rc;
}

void proc_glue_members(struct node *n, const struct cluster *c)
{
	if (!n->procfs)
		return;
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		const struct cluster_member *m = cluster_member(c, i);
		if (m && m->state != MEMBER_REMOVED)
			(void)procfs_server_node(n->procfs, i, m->name, i == n->self || member_is_up(n->member, i));
		else
			procfs_server_node_gone(n->procfs, i);
	}
	for (uint32_t slot = 1; slot < CLUSTER_SLOTS; slot++)
		(void)procfs_server_slot(n->procfs, slot, c->slot_owner[slot]);
}

void proc_glue_node(struct node *n, uint16_t node, bool up)
{
	const struct cluster_member *m = cluster_member(member_cluster(n->member), node);
	if (m && n->procfs)
		(void)procfs_server_node(n->procfs, node, m->name, up);
}

static int journal_get(struct node *n)
{
	int fd = space_ends_get(n->space)->is_found ? keeper_take(n->keeper, "proc-journal") : -1; /* of another connection it would be poison */
	if (fd >= 0)
		return fd;
	struct err e = { 0 };
	if (procfs_journal_new(&fd, &e) < 0) {
		log_error("/proc of the space: %s", e.text);
		return -1;
	}
	(void)keeper_put(n->keeper, "proc-journal", fd); /* without it a successor starts with an empty one */
	return fd;
}

static void pid_tell(void *ctx, int32_t pid, int hidden, uint16_t node)
{
	proc_glue_pid(ctx, pid, hidden, node);
}

void proc_glue_space(struct node *n)
{
	struct err e = { 0 };
	const struct space_ends *ends = space_ends_get(n->space);
	space_each(n->space, pid_tell, n);
	features_tell(n);
	procfs_server_ready(n->procfs);
	if (ends->fuse_fd < 0)
		return;
	_cleanup_(close_p) int journal = journal_get(n);
	if (journal < 0 || procfs_server_space(n->procfs, ends->fuse_fd, ends->proc_fd, journal, &e) < 0)
		log_error("/proc of the space: %s", journal < 0 ? "no journal" : e.text);
	finish(n);
}

void proc_glue_space_gone(struct node *n)
{
	if (n->procfs)
		procfs_server_space_gone(n->procfs);
	(void)keeper_drop(n->keeper, "proc-journal");
	n->proc_is_finished = false;
}

void proc_glue_features(struct node *n, int32_t pid, uint32_t features)
{
	uint32_t flags = (features & FEATURE_LOCAL_PROC ? PROCFS_F_LOCAL_PROC : 0u) | (features & FEATURE_CLUSTER_CPUS ? PROCFS_F_CLUSTER_CPUS : 0u);
	if (n->procfs && pid > 0 && procfs_server_features(n->procfs, (uint32_t)pid, flags) < 0)
		log_warn("features of pid %d: the /proc server does not know them", pid);
}

void proc_glue_features_gone(struct node *n, int32_t pid)
{
	if (n->procfs && pid > 0)
		procfs_server_features_gone(n->procfs, (uint32_t)pid);
}

void proc_glue_pid(void *ctx, int32_t pid, int hidden, uint16_t node)
{
	struct node *n = ctx;
	if (!n->procfs || pid <= 0)
		return;
	struct procfs_pid p = { .pid = (uint32_t)pid, .kind = PROCFS_REMOTE, .node = node, .tgid = (uint32_t)pid };
	if (hidden)
		(void)procfs_server_pid(n->procfs, &p); /* without memory it is shown where its ghost is */
	else
		procfs_server_pid_gone(n->procfs, (uint32_t)pid);
}
