/* Requests of the control socket that another node must answer, as JSON in MSG_CTL_REQ. The asking pandod has checked what its own
 * user may see; nodes of a cluster trust each other's word about users. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "node/node.h"
#include "wire/msg.h"

struct far {
	far_done_fn done;
	void *ctx;
};

static json_t *parse(const uint8_t *p, size_t n)
{
	json_t *j = json_loadb((const char *)p, n, JSON_REJECT_DUPLICATES, NULL);
	if (j && !json_is_object(j)) {
		json_decref(j);
		return NULL;
	}
	return j;
}

static void on_answer(void *ctx, int status, const uint8_t *p, size_t n)
{
	struct far *f = ctx;
	json_t *j = n > 0 ? parse(p, n) : NULL;
	if (status >= 0 && !j)
		status = -EBADMSG;
	f->done(f->ctx, status < 0 ? status : 0, j);
	json_decref(j);
	free(f);
}

int far_ask(struct node *n, uint16_t node, json_t *req, uint32_t timeout_ms, far_done_fn done, void *ctx)
{
	_cleanup_(free_p) char *text = req ? json_dumps(req, JSON_COMPACT) : NULL;
	struct far *f = malloc(sizeof *f);
	json_decref(req);
	if (!text || !f) {
		free(f);
		return -ENOMEM;
	}
	*f = (struct far){ done, ctx };
	int rc = links_call(n->links, node, MSG_CTL_REQ, text, strlen(text), timeout_ms, on_answer, f);
	if (rc < 0)
		free(f);
	return rc;
}

/* --- what we answer --- */

static json_t *about_answer(struct node *n)
{
	struct utsname u;
	struct space_counts c = { 0 };
	(void)uname(&u);
	if (n->space)
		space_count(n->space, &c);
	return json_pack("{s:s, s:s, s:s, s:i, s:s}", "kernel", u.release, "arch", u.machine, "version", PANDO_VERSION, "processes",
			 (int)(c.guests + c.elsewhere + c.sessions), "state", node_phase_name(n));
}

static void on_call(void *ctx, uint16_t from, const uint8_t *p, size_t size, struct links_call_req *req)
{
	struct node *n = ctx;
	int status = 0;
	json_t *q = parse(p, size), *a = NULL;
	const char *cmd = json_string_value(json_object_get(q, "cmd"));
	if (!cmd) {
		log_warn("node %u: bad control request, refused", from);
		status = -EBADMSG;
	} else if (strcmp(cmd, "about") == 0) {
		a = about_answer(n);
	} else if (strcmp(cmd, "ps") == 0) {
		a = far_answer_ps(n, q);
	} else if (strcmp(cmd, "process") == 0) {
		a = far_answer_process(n, q, &status);
	} else {
		status = -ENOSYS;
	}
	_cleanup_(free_p) char *text = a ? json_dumps(a, JSON_COMPACT) : NULL;
	if (status == 0 && !text)
		status = -ENOMEM;
	links_answer(req, status, text, text ? strlen(text) : 0);
	json_decref(a);
	json_decref(q);
}

/* --- what the others say of themselves --- */

static void about_done(void *ctx, int status, json_t *j)
{
	struct about *a = ctx;
	if (status < 0)
		return;
	const char *kernel = json_string_value(json_object_get(j, "kernel")), *arch = json_string_value(json_object_get(j, "arch"));
	const char *version = json_string_value(json_object_get(j, "version")), *state = json_string_value(json_object_get(j, "state"));
	json_int_t processes = json_integer_value(json_object_get(j, "processes"));
	(void)snprintf(a->kernel, sizeof a->kernel, "%s", kernel ? kernel : "");
	(void)snprintf(a->arch, sizeof a->arch, "%s", arch ? arch : "");
	(void)snprintf(a->version, sizeof a->version, "%s", version ? version : "");
	(void)snprintf(a->state, sizeof a->state, "%s", state ? state : "");
	a->processes = processes < 0 ? 0 : (uint32_t)processes;
	a->known = true;
}

struct round {
	struct node *n;
	unsigned left;
	void (*done)(void *ctx);
	void *ctx;
};

struct one {
	struct round *round;
	struct about *about;
};

static void round_step(struct round *r)
{
	if (--r->left)
		return;
	r->done(r->ctx);
	free(r);
}

static void one_done(void *ctx, int status, json_t *j)
{
	struct one *o = ctx;
	about_done(o->about, status, j);
	round_step(o->round);
	free(o);
}

int far_about_all(struct node *n, void (*done)(void *ctx), void *ctx)
{
	struct round *r = calloc(1, sizeof *r);
	if (!r)
		return -ENOMEM;
	*r = (struct round){ n, 1, done, ctx };
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		struct one *o = links_is_up(n->links, i) || i == n->self ? malloc(sizeof *o) : NULL;
		if (!o)
			continue;
		*o = (struct one){ r, &n->about[i] };
		r->left++;
		if (far_ask(n, i, json_pack("{s:s}", "cmd", "about"), 2000, one_done, o) < 0) {
			r->left--;
			free(o);
		}
	}
	round_step(r);
	return 0;
}

void far_start(struct node *n)
{
	links_handle_call(n->links, MSG_CTL_REQ, on_call, n);
}
