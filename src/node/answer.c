/* Requests of the control socket about the cluster: its state, nodes, settings and tokens (docs/control.md). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "node/node.h"

static int root_only(struct ctl_req *req)
{
	if (ctl_req_peer(req)->uid == 0)
		return 0;
	ctl_fail(req, -EPERM, "only root may do that");
	return -EPERM;
}

/* The load of a node per core, or NULL. */
static json_t *load_json(const struct node *n, uint16_t node)
{
	struct sched_node s;
	if (sched_node_get(n->sched, node, clock_ms(), &s) < 0 || !s.known || s.cpus <= 0)
		return NULL;
	return json_real((double)(int)(s.load / s.cpus * 100 + 0.5) / 100);
}

/* --- status --- */

static void cluster_numbers(const struct node *n, json_t *j)
{
	const struct cluster *c = member_cluster(n->member);
	int members = 0, up = 0;
	json_int_t cpus = 0;
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		const struct cluster_member *m = cluster_member(c, i);
		if (!m || m->state == MEMBER_REMOVED)
			continue;
		int is_up = member_is_up(n->member, i) && cluster_is_live(m);
		members++;
		up += is_up;
		cpus += is_up ? (json_int_t)m->cpus : 0;
	}
	(void)json_object_set_new(j, "members", json_integer(members));
	(void)json_object_set_new(j, "up", json_integer(up));
	(void)json_object_set_new(j, "cluster_cpus", json_integer(cpus));
}

static void on_status(void *ctx, struct ctl_req *req)
{
	struct node *n = ctx;
	const struct cluster *c = member_cluster(n->member);
	const struct cluster_member *me = cluster_member(c, n->self);
	const struct cluster_member *first = NULL;
	uint16_t slots[CLUSTER_SLOTS];
	struct space_counts k = { 0 };
	if (n->space)
		space_count(n->space, &k);
	for (uint16_t i = 1; i <= NODE_MAX && !first; i++)
		first = cluster_member(c, i);
	unsigned n_slots = cluster_slots(c, n->self, slots);
	int slot = n_slots > 0 ? slots[0] : n->self;
	json_t *j = json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:i, s:b, s:I, s:i, s:i, s:i, s:i, s:i, s:s, s:i, s:i}", "cluster", first ? first->name : "",
			      "cluster_id", pki_cluster_id(n->pki), "node", n->self, "name", me ? me->name : "", "version", PANDO_VERSION, "state",
			      node_phase_name(n), "leader", member_leader(n->member), "quorum", member_has_quorum(n->member), "uptime_s",
			      (json_int_t)((clock_ms() - n->start_ms) / 1000), "cpus", me ? (int)me->cpus : 0, "sessions", (int)k.sessions, "processes",
			      (int)(k.sessions + k.elsewhere + k.guests), "elsewhere", (int)k.elsewhere, "guests", (int)k.guests, "policy",
			      sched_policy_words(n->sched), "pid_first", slot * CLUSTER_SLOT_SIZE, "pid_last", (slot + 1) * CLUSTER_SLOT_SIZE - 1);
	json_t *load = load_json(n, n->self);
	if (j) {
		cluster_numbers(n, j);
		(void)json_object_set_new(j, "load", load ? load : json_real(0));
	}
	ctl_answer(req, j);
}

/* --- nodes --- */

static json_t *labels_json(const struct cluster_member *m)
{
	json_t *j = json_object();
	for (unsigned i = 0; j && i < m->n_labels; i++)
		(void)json_object_set_new(j, m->labels[i].key, json_string(m->labels[i].value));
	return j;
}

static const char *state_words(const struct node *n, const struct cluster_member *m)
{
	if (m->id == n->self)
		return node_phase_name(n);
	if (!member_is_up(n->member, m->id) || m->state == MEMBER_DEAD)
		return "down";
	if (m->state == MEMBER_JOINED)
		return "starting";
	const struct about *a = &n->about[m->id];
	if (m->state == MEMBER_DRAINING)
		return a->known && strcmp(a->state, "drained") == 0 ? "drained" : "draining";
	return a->known && strcmp(a->state, "frozen") == 0 ? "frozen" : "up";
}

static json_t *node_json(const struct node *n, const struct cluster_member *m)
{
	uint16_t slots[CLUSTER_SLOTS];
	unsigned n_slots = cluster_slots(member_cluster(n->member), m->id, slots);
	json_t *list = json_array();
	for (unsigned i = 0; list && i < n_slots; i++)
		(void)json_array_append_new(list, json_integer(slots[i]));
	const struct about *a = &n->about[m->id];
	const char *state = state_words(n, m);
	json_t *j = json_pack("{s:i, s:s, s:s, s:s, s:b, s:i, s:o, s:o, s:I}", "id", m->id, "name", m->name, "addr", m->addr, "state", state, "self",
			      m->id == n->self, "cpus", (int)m->cpus, "slots", list, "labels", labels_json(m), "mem_total_kb",
			      (json_int_t)(m->memory / 1024));
	if (!j)
		return NULL;
	struct sched_node s;
	json_t *load = load_json(n, m->id);
	if (load)
		(void)json_object_set_new(j, "load", load);
	if (load && sched_node_get(n->sched, m->id, clock_ms(), &s) == 0)
		(void)json_object_set_new(j, "mem_available_kb", json_integer((json_int_t)(s.mem_free / 1024)));
	if (a->known && strcmp(state, "down") != 0) {
		(void)json_object_set_new(j, "processes", json_integer(a->processes));
		(void)json_object_set_new(j, "kernel", json_string(a->kernel));
		(void)json_object_set_new(j, "arch", json_string(a->arch));
		(void)json_object_set_new(j, "version", json_string(a->version));
	}
	return j;
}

struct list_wait {
	struct node *n;
	struct ctl_req *req;
};

static void list_answer(void *ctx)
{
	struct list_wait *w = ctx;
	const struct cluster *c = member_cluster(w->n->member);
	json_t *list = json_array();
	for (uint16_t i = 1; list && i <= NODE_MAX; i++) {
		const struct cluster_member *m = cluster_member(c, i);
		if (m && m->state != MEMBER_REMOVED)
			(void)json_array_append_new(list, node_json(w->n, m));
	}
	ctl_answer(w->req, list ? json_pack("{s:o}", "nodes", list) : NULL);
	free(w);
}

static void on_node_list(void *ctx, struct ctl_req *req)
{
	struct node *n = ctx;
	struct list_wait *w = malloc(sizeof *w);
	if (w)
		*w = (struct list_wait){ n, req };
	if (!w || far_about_all(n, list_answer, w) < 0) {
		free(w);
		ctl_fail(req, -ENOMEM, "no memory");
	}
}

/* --- what the cluster must agree on --- */

struct proposal {
	struct node *n;
	struct ctl_req *req;
	json_t *(*answer)(struct node *n, uint16_t node);
	uint16_t node;
};

static void on_agreed(void *ctx, int status, uint32_t value)
{
	struct proposal *p = ctx;
	(void)value;
	if (status < 0)
		ctl_fail(p->req, status, "%s", member_strerror(status));
	else
		ctl_answer(p->req, p->answer ? p->answer(p->n, p->node) : json_object());
	free(p);
}

static void propose(struct node *n, struct ctl_req *req, const struct cluster_cmd *cmd, json_t *(*answer)(struct node *n, uint16_t node))
{
	struct proposal *p = malloc(sizeof *p);
	int rc = p ? 0 : -ENOMEM;
	if (p) {
		*p = (struct proposal){ n, req, answer, cmd->node };
		rc = member_propose(n->member, cmd, on_agreed, p);
	}
	if (rc < 0) {
		free(p);
		ctl_fail(req, rc, "%s", member_strerror(rc));
	}
}

/* The node of a request, or the request is answered. */
static const struct cluster_member *node_param(struct node *n, struct ctl_req *req)
{
	json_int_t id;
	if (ctl_req_int(req, "node", 1, NODE_MAX, 0, &id) < 0)
		return NULL;
	const struct cluster_member *m = cluster_member(member_cluster(n->member), (uint16_t)id);
	if (!m || m->state == MEMBER_REMOVED) {
		ctl_fail(req, -ENOENT, "there is no node %lld", (long long)id);
		return NULL;
	}
	return m;
}

struct drain_wait {
	struct node *n;
	struct ctl_req *req;
	uint16_t node;
};

static void drain_about(void *ctx)
{
	struct drain_wait *w = ctx;
	const struct about *a = &w->n->about[w->node];
	ctl_answer(w->req, json_pack("{s:i, s:i}", "node", w->node, "remaining", a->known ? (int)a->processes : 0));
	free(w);
}

static void drain_agreed(void *ctx, int status, uint32_t value)
{
	struct drain_wait *w = ctx;
	(void)value;
	if (status == 0 && far_about_all(w->n, drain_about, w) == 0)
		return;
	ctl_fail(w->req, status < 0 ? status : -ENOMEM, "%s", status < 0 ? member_strerror(status) : "no memory");
	free(w);
}

static void on_node_drain(void *ctx, struct ctl_req *req)
{
	struct node *n = ctx;
	int undo;
	const struct cluster_member *m = root_only(req) == 0 ? node_param(n, req) : NULL;
	if (!m || ctl_req_bool(req, "undo", 0, &undo) < 0)
		return;
	struct cluster_cmd cmd = { .type = CLUSTER_DRAIN, .node = m->id, .on = !undo };
	struct drain_wait *w = malloc(sizeof *w);
	int rc = w ? 0 : -ENOMEM;
	if (w) {
		*w = (struct drain_wait){ n, req, m->id };
		rc = member_propose(n->member, &cmd, drain_agreed, w);
	}
	if (rc < 0) {
		free(w);
		ctl_fail(req, rc, "%s", member_strerror(rc));
	}
}

static void remove_about(void *ctx)
{
	struct drain_wait *w = ctx;
	const struct about *a = &w->n->about[w->node];
	struct cluster_cmd cmd = { .type = CLUSTER_REMOVE, .node = w->node };
	if (a->known && a->processes > 0 && member_is_up(w->n->member, w->node))
		ctl_fail(w->req, -EBUSY, "node %u has %u processes: drain it first, or use --force", w->node, a->processes);
	else
		propose(w->n, w->req, &cmd, NULL);
	free(w);
}

static void on_node_remove(void *ctx, struct ctl_req *req)
{
	struct node *n = ctx;
	int force;
	const struct cluster_member *m = root_only(req) == 0 ? node_param(n, req) : NULL;
	if (!m || ctl_req_bool(req, "force", 0, &force) < 0)
		return;
	struct cluster_cmd cmd = { .type = CLUSTER_REMOVE, .node = m->id };
	struct drain_wait *w = force ? NULL : malloc(sizeof *w);
	if (force) {
		propose(n, req, &cmd, NULL);
		return;
	}
	n->about[m->id].known = false;
	if (w)
		*w = (struct drain_wait){ n, req, m->id };
	if (!w || far_about_all(n, remove_about, w) < 0) {
		free(w);
		ctl_fail(req, -ENOMEM, "no memory");
	}
}

/* Labels are changed one after the other: each step proposes the next change. */
struct label_work {
	struct node *n;
	struct ctl_req *req;
	uint16_t node;
	json_t *todo; /* array of [key, value] */
	size_t at;
};

static void label_step(struct label_work *w, int status);

static void label_agreed(void *ctx, int status, uint32_t value)
{
	(void)value;
	label_step(ctx, status);
}

static void label_end(struct label_work *w, int status, const char *words)
{
	const struct cluster_member *m = cluster_member(member_cluster(w->n->member), w->node);
	if (status < 0)
		ctl_fail(w->req, status, "%s", words);
	else
		ctl_answer(w->req, m ? json_pack("{s:o}", "labels", labels_json(m)) : json_object());
	json_decref(w->todo);
	free(w);
}

static void label_step(struct label_work *w, int status)
{
	struct cluster_cmd cmd = { .type = CLUSTER_LABEL, .node = w->node };
	if (status < 0) {
		label_end(w, status, status == -ENOENT ? "there is no such label" : member_strerror(status));
		return;
	}
	const json_t *one = json_array_get(w->todo, w->at++);
	if (!one) {
		label_end(w, 0, NULL);
		return;
	}
	(void)snprintf(cmd.key, sizeof cmd.key, "%s", json_string_value(json_array_get(one, 0)));
	(void)snprintf(cmd.value, sizeof cmd.value, "%s", json_string_value(json_array_get(one, 1)));
	int rc = member_propose(w->n->member, &cmd, label_agreed, w);
	if (rc < 0)
		label_end(w, rc, member_strerror(rc));
}

static int label_add(json_t *todo, const char *key, const char *value, struct err *e)
{
	if (!key || !value)
		return err_set(e, -EINVAL, "a label's name and value are text");
	int rc = cluster_label_check(key, value, e);
	return rc < 0 ? rc : json_array_append_new(todo, json_pack("[s, s]", key, value)) < 0 ? err_set(e, -ENOMEM, "no memory") : 0;
}

static void on_node_label(void *ctx, struct ctl_req *req)
{
	struct node *n = ctx;
	struct err e = { 0 };
	const char *key;
	json_t *value;
	size_t i;
	const struct cluster_member *m = root_only(req) == 0 ? node_param(n, req) : NULL;
	if (!m)
		return;
	struct label_work *w = calloc(1, sizeof *w);
	json_t *todo = json_array();
	int rc = w && todo ? 0 : err_set(&e, -ENOMEM, "no memory");
	json_object_foreach(json_object_get(ctl_req_json(req), "set"), key, value)
	{
		rc = rc < 0 ? rc : label_add(todo, key, json_string_value(value), &e);
	}
	json_array_foreach(json_object_get(ctl_req_json(req), "unset"), i, value)
	{
		rc = rc < 0 ? rc : label_add(todo, json_string_value(value), "", &e);
	}
	if (rc < 0) {
		json_decref(todo);
		free(w);
		ctl_fail(req, rc, "%s", e.text);
		return;
	}
	*w = (struct label_work){ n, req, m->id, todo, 0 };
	label_step(w, 0);
}

/* --- token --- */

struct token_wait {
	struct node *n;
	struct ctl_req *req;
	json_int_t ttl_s;
};

static void on_token_done(void *ctx, int status, const char *text)
{
	struct token_wait *w = ctx;
	const struct cluster_member *me = cluster_member(member_cluster(w->n->member), w->n->self);
	if (status < 0)
		ctl_fail(w->req, status, "%s", member_strerror(status));
	else
		ctl_answer(w->req, json_pack("{s:s, s:s, s:I}", "token", text, "addr", me ? me->addr : "", "expires_s", w->ttl_s));
	free(w);
}

static void on_token(void *ctx, struct ctl_req *req)
{
	struct node *n = ctx;
	json_int_t ttl;
	if (root_only(req) < 0 || ctl_req_int(req, "ttl_s", 1, 30 * 86400, 3600, &ttl) < 0)
		return;
	struct token_wait *w = malloc(sizeof *w);
	int rc = w ? 0 : -ENOMEM;
	if (w) {
		*w = (struct token_wait){ n, req, ttl };
		rc = member_token(n->member, (uint64_t)ttl * 1000, on_token_done, w);
	}
	if (rc < 0) {
		free(w);
		ctl_fail(req, rc, "%s", member_strerror(rc));
	}
}

/* --- settings --- */

static void on_get(void *ctx, struct ctl_req *req)
{
	struct node *n = ctx;
	const struct cluster *c = member_cluster(n->member);
	const char *name;
	if (ctl_req_str(req, "name", NULL, &name) < 0)
		return;
	if (name && !setting_find(name)) {
		ctl_fail(req, -ENOENT, "no setting is called \"%s\" (\"pando get\" shows them)", name);
		return;
	}
	json_t *list = json_array();
	for (unsigned i = 0; list && setting_at(i); i++) {
		const struct setting *s = setting_at(i);
		const char *value = cluster_setting(c, s->key);
		if (!name || strcmp(name, s->key) == 0)
			(void)json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "name", s->key, "value", value ? value : "", "default",
								    s->initial, "about", s->what));
	}
	ctl_answer(req, list ? json_pack("{s:o}", "settings", list) : NULL);
}

static void on_set(void *ctx, struct ctl_req *req)
{
	struct node *n = ctx;
	struct err e = { 0 };
	const char *name, *value;
	if (root_only(req) < 0 || ctl_req_str(req, "name", "", &name) < 0 || ctl_req_str(req, "value", "", &value) < 0)
		return;
	int rc = setting_check(name, value, &e);
	if (rc == 0 && strcmp(name, "policy") == 0 && !policy_find(value)) {
		char known[160] = "";
		for (size_t i = 0; i < policy_n; i++)
			(void)snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", policy_list[i].name);
		rc = err_set(&e, -EINVAL, "there is no policy \"%s\"; there are %s", value, known);
	}
	if (rc < 0) {
		ctl_fail(req, rc, "%s", e.text);
		return;
	}
	struct cluster_cmd cmd = { .type = CLUSTER_SETTING };
	(void)snprintf(cmd.key, sizeof cmd.key, "%s", name);
	(void)snprintf(cmd.value, sizeof cmd.value, "%s", value);
	propose(n, req, &cmd, NULL);
}

void answer_start(struct node *n)
{
	ctl_handle(n->ctl, "status", on_status, n);
	ctl_handle(n->ctl, "node-list", on_node_list, n);
	ctl_handle(n->ctl, "node-drain", on_node_drain, n);
	ctl_handle(n->ctl, "node-remove", on_node_remove, n);
	ctl_handle(n->ctl, "node-label", on_node_label, n);
	ctl_handle(n->ctl, "token", on_token, n);
	ctl_handle(n->ctl, "get", on_get, n);
	ctl_handle(n->ctl, "set", on_set, n);
}
