/* doctor: what this machine and the cluster have, and what follows from what they lack. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "node/node.h"

struct doctor {
	struct node *n;
	struct ctl_req *req;
	json_t *checks;
};

static void add(json_t *checks, const char *name, const char *level, const char *detail, const char *consequence)
{
	(void)json_array_append_new(checks, json_pack("{s:s, s:s, s:s, s:s}", "name", name, "level", level, "detail", detail, "consequence",
						      strcmp(level, "ok") == 0 ? "" : consequence));
}

static void kernel_checks(const struct node *n, json_t *checks)
{
	for (size_t i = 0; i < probe_n; i++) {
		const struct probe_item *item = &probe_list[i];
		bool there = probe_present(&n->has, item);
		add(checks, item->name, there ? "ok" : item->needed ? "fail" : "warn", there ? "present" : strerror(-probe_why(&n->has, item)),
		    item->without);
	}
}

static void cluster_checks(struct node *n, json_t *checks)
{
	char text[160];
	const struct cluster *c = member_cluster(n->member);
	struct nodeset voters = member_voters(n->member);
	unsigned count = nodeset_count(&voters);
	add(checks, "majority", member_has_quorum(n->member) ? "ok" : "fail", member_has_quorum(n->member) ? "answers" : "is not heard",
	    "this node's space stands still until it is");
	(void)snprintf(text, sizeof text, "%u node%s vote", count, count == 1 ? "" : "s");
	add(checks, "voters", count >= 3 ? "ok" : "warn", text, "with fewer than three the loss of one can stop the cluster");
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		const struct cluster_member *m = cluster_member(c, i);
		if (!m || i == n->self || !cluster_is_live(m))
			continue;
		char name[32];
		(void)snprintf(name, sizeof name, "node %u", i);
		const struct about *a = &n->about[i];
		if (!member_is_up(n->member, i))
			add(checks, name, "warn", "does not answer", "nothing is placed on it");
		else if (a->known && strcmp(a->version, PANDO_VERSION) != 0)
			add(checks, name, "warn", "has another version of pando", "it may not understand what this one says");
		else
			add(checks, name, "ok", a->known ? a->kernel : "answers", "");
	}
	if (!cluster_setting(c, "shared-tmp")[0])
		add(checks, "/tmp", "warn", "each node's own, unless the tree below it is shared",
		    "programs that leave files in /tmp for others run on one node; \"pando set shared-tmp DIR\" names a directory on the shared tree");
}

static void answer(void *ctx)
{
	struct doctor *d = ctx;
	cluster_checks(d->n, d->checks);
	ctl_answer(d->req, json_pack("{s:o}", "checks", d->checks));
	free(d);
}

static void on_doctor(void *ctx, struct ctl_req *req)
{
	struct node *n = ctx;
	struct doctor *d = calloc(1, sizeof *d);
	json_t *checks = json_array();
	if (!d || !checks) {
		free(d);
		json_decref(checks);
		ctl_fail(req, -ENOMEM, "no memory");
		return;
	}
	*d = (struct doctor){ n, req, checks };
	kernel_checks(n, checks);
	if (far_about_all(n, answer, d) < 0) {
		free(d);
		json_decref(checks);
		ctl_fail(req, -ENOMEM, "no memory");
	}
}

void doctor_start(struct node *n)
{
	ctl_handle(n->ctl, "doctor", on_doctor, n);
}
