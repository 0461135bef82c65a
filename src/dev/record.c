/* The text form of a cluster's record: cluster.json. Written and read by root only; still, what is out of range is
 * refused. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dev/trial.h"

enum { RECORD_VERSION = 1 };

static void json_p(json_t **j)
{
	json_decref(*j);
}

static json_t *proc_json(const struct dev_proc *p)
{
	return json_pack("{s:i, s:I}", "pid", (int)p->pid, "start", (json_int_t)p->start);
}

static json_t *node_json(const struct dev_node *n)
{
	return json_pack("{s:o, s:f, s:I, s:f, s:s*, s:b}", "init", proc_json(&n->init), "cpu", n->cpu, "mem",
			 (json_int_t)n->mem, "rate_mbit", n->rate_mbit, "root", n->root, "frozen", n->frozen);
}

/* Only what differs from an untouched link, so that the record of a large cluster stays small. */
static int pairs_json(const struct trial *c, json_t *array)
{
	for (unsigned a = 1; a <= c->n; a++)
		for (unsigned b = 1; b <= c->n; b++) {
			const struct dev_pair *p = trial_pair(c, a, b);
			if (!p->cut && !(p->delay_ms > 0) && !(p->jitter_ms > 0) && !(p->loss_pct > 0))
				continue;
			if (json_array_append_new(array,
						  json_pack("{s:i, s:i, s:b, s:f, s:f, s:f}", "from", (int)a, "to",
							    (int)b, "cut", p->cut, "delay_ms", p->delay_ms, "jitter_ms",
							    p->jitter_ms, "loss_pct", p->loss_pct)) < 0)
				return -ENOMEM;
		}
	return 0;
}

char *trial_encode(const struct trial *c)
{
	_cleanup_(json_p) json_t *nodes = json_array(), *pairs = json_array();
	if (!nodes || !pairs || pairs_json(c, pairs) < 0)
		return NULL;
	for (unsigned i = 1; i <= c->n; i++)
		if (json_array_append_new(nodes, node_json(&c->node[i])) < 0)
			return NULL;
	_cleanup_(json_p) json_t *j =
	    json_pack("{s:i, s:s, s:b, s:s, s:[i,i], s:s*, s:s*, s:s*, s:o, s:O, s:O}", "version", RECORD_VERSION,
		      "name", c->name, "starting", c->starting, "lan", c->lan == DEV_LAN_USER ? "user" : "bridge",
		      "net", (int)c->net_x, (int)c->net_y, "service", c->service, "exe", c->exe, "libexec", c->libexec,
		      "lan_proc", proc_json(&c->lan_proc), "nodes", nodes, "pairs", pairs);
	return j ? json_dumps(j, JSON_INDENT(1)) : NULL;
}

static int proc_from(json_t *j, struct dev_proc *p)
{
	int pid = 0;
	json_int_t start = 0;
	if (json_unpack(j, "{s:i, s:I}", "pid", &pid, "start", &start) < 0 || pid < 0 || start < 0)
		return -EBADMSG;
	*p = (struct dev_proc){ .pid = pid, .start = (uint64_t)start };
	return 0;
}

static int string_from(const char *text, char **to)
{
	if (!text)
		return 0;
	*to = strdup(text);
	return *to ? 0 : -ENOMEM;
}

static int node_from(json_t *j, struct dev_node *n)
{
	json_t *init = NULL;
	json_int_t mem = 0;
	const char *root = NULL;
	if (json_unpack(j, "{s:o, s:F, s:I, s:F, s?s, s:b}", "init", &init, "cpu", &n->cpu, "mem", &mem, "rate_mbit",
			&n->rate_mbit, "root", &root, "frozen", &n->frozen) < 0 ||
	    mem < 0)
		return -EBADMSG;
	n->mem = (uint64_t)mem;
	int rc = proc_from(init, &n->init);
	return rc < 0 ? rc : string_from(root, &n->root);
}

static int pair_from(json_t *j, struct trial *c)
{
	int a = 0, b = 0;
	struct dev_pair p = { 0 };
	if (json_unpack(j, "{s:i, s:i, s:b, s:F, s:F, s:F}", "from", &a, "to", &b, "cut", &p.cut, "delay_ms",
			&p.delay_ms, "jitter_ms", &p.jitter_ms, "loss_pct", &p.loss_pct) < 0 ||
	    a < 1 || b < 1 || (unsigned)a > c->n || (unsigned)b > c->n)
		return -EBADMSG;
	*trial_pair(c, (unsigned)a, (unsigned)b) = p;
	return 0;
}

static int record_from(json_t *j, struct trial *c)
{
	int version = 0, x = 0, y = 0;
	const char *name = NULL, *lan = NULL, *service = NULL, *exe = NULL, *libexec = NULL;
	json_t *lan_proc = NULL, *nodes = NULL, *pairs = NULL;
	if (json_unpack(j, "{s:i, s:s, s:b, s:s, s:[i,i], s?s, s?s, s?s, s:o, s:o, s:o}", "version", &version, "name",
			&name, "starting", &c->starting, "lan", &lan, "net", &x, &y, "service", &service, "exe", &exe,
			"libexec", &libexec, "lan_proc", &lan_proc, "nodes", &nodes, "pairs", &pairs) < 0 ||
	    version != RECORD_VERSION || strcmp(name, c->name) != 0 || x < 0 || x > 255 || y < 0 || y > 255)
		return -EBADMSG;
	c->lan = strcmp(lan, "user") == 0 ? DEV_LAN_USER : DEV_LAN_BRIDGE;
	c->net_x = (unsigned)x;
	c->net_y = (unsigned)y;
	int rc = json_array_size(nodes) > DEV_NODES_MAX ? -EBADMSG : trial_set_n(c, (unsigned)json_array_size(nodes));
	if (rc < 0 || (rc = string_from(service, &c->service)) < 0 || (rc = string_from(exe, &c->exe)) < 0 ||
	    (rc = string_from(libexec, &c->libexec)) < 0 || (rc = proc_from(lan_proc, &c->lan_proc)) < 0)
		return rc;
	size_t k;
	json_t *v;
	json_array_foreach(nodes, k, v)
	{
		rc = node_from(v, &c->node[k + 1]);
		if (rc < 0)
			return rc;
	}
	json_array_foreach(pairs, k, v)
	{
		rc = pair_from(v, c);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int trial_decode(const char *text, size_t size, struct trial *c, struct err *e)
{
	_cleanup_(json_p) json_t *j = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	int rc = j ? record_from(j, c) : -EBADMSG;
	return rc == 0 ? 0 : err_set(e, rc, "%s/cluster.json cannot be used: %s", c->dir, strerror(-rc));
}
