/* What there is, for people and for programs. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "dev/cg.h"
#include "dev/node.h"
#include "dev/ops.h"
#include "dev/proc.h"

static void json_p(json_t **j)
{
	json_decref(*j);
}

static const char *node_state(const struct dev_node *n)
{
	if (n->init.pid == 0)
		return "off";
	return !proc_alive(&n->init) ? "dead" : n->frozen ? "frozen" : "up";
}

static unsigned nodes_on(const struct trial *c)
{
	unsigned on = 0;
	for (unsigned i = 1; i <= c->n; i++)
		on += proc_alive(&c->node[i].init) ? 1u : 0u;
	return on;
}

static const char *trial_state(const struct trial *c)
{
	if (c->starting || c->n == 0)
		return trial_busy(c->name) ? "starting" : "interrupted";
	if (!proc_alive(&c->lan_proc))
		return "broken"; /* no switch: the machine was started anew, or somebody killed it */
	return "up";
}

/* pid, runs and last status of the node's service. */
static json_t *service_json(const struct trial *c, unsigned i)
{
	char path[64], text[256];
	int pid = 0, runs = 0, status = 0;
	(void)snprintf(path, sizeof path, "node-%u/service.json", i);
	ssize_t n = file_read(c->dir_fd, path, text, sizeof text);
	_cleanup_(json_p) json_t *j = n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;
	if (!j || json_unpack(j, "{s:i, s:i, s:i}", "pid", &pid, "runs", &runs, "last_status", &status) < 0)
		return json_null();
	return json_pack("{s:b, s:i, s:i, s:i}", "running", pid > 0 && proc_alive(&c->node[i].init), "pid", pid, "runs",
			 runs, "last_status", status);
}

static json_t *node_json(const struct trial *c, const struct cg *cg, unsigned i)
{
	const struct dev_node *n = &c->node[i];
	uint64_t cpu_ns, mem;
	char addr[16], log[256], name[16];
	trial_addr(c, i, addr);
	node_path(c, i, "service.log", log);
	(void)snprintf(name, sizeof name, "node%u", i);
	cg_usage(cg, c->name, i, &cpu_ns, &mem);
	return json_pack("{s:i, s:s, s:s, s:s, s:i, s:f, s:f, s:I, s:I, s:f, s:s?, s:s, s:o}", "node", (int)i, "state",
			 node_state(n), "name", name, "addr", addr, "pid", (int)n->init.pid, "cpu", n->cpu,
			 "cpu_used_s", (double)cpu_ns / 1e9, "mem", (json_int_t)n->mem, "mem_used", (json_int_t)mem,
			 "rate_mbit", n->rate_mbit, "root", n->root, "log", log, "service", service_json(c, i));
}

static json_t *pairs_json(const struct trial *c)
{
	json_t *array = json_array();
	for (unsigned a = 1; array && a <= c->n; a++)
		for (unsigned b = 1; b <= c->n; b++) {
			const struct dev_pair *p = trial_pair(c, a, b);
			if (p->cut || p->delay_ms > 0 || p->jitter_ms > 0 || p->loss_pct > 0)
				(void)json_array_append_new(array, json_pack("{s:i, s:i, s:b, s:f, s:f, s:f}", "from",
									     (int)a, "to", (int)b, "cut", p->cut,
									     "delay_ms", p->delay_ms, "jitter_ms",
									     p->jitter_ms, "loss_pct", p->loss_pct));
		}
	return array;
}

static json_t *trial_json(const struct trial *c, const struct cg *cg)
{
	json_t *nodes = json_array();
	for (unsigned i = 1; nodes && i <= c->n; i++)
		(void)json_array_append_new(nodes, node_json(c, cg, i));
	char net[32];
	(void)snprintf(net, sizeof net, "10.%u.%u.0/24", c->net_x & 255, c->net_y & 255);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?, s:i, s:o, s:o}", "name", c->name, "state", trial_state(c),
			 "lan", c->lan == DEV_LAN_USER ? "user" : "bridge", "net", net, "dir", c->dir, "service",
			 c->service, "lan_pid", (int)c->lan_proc.pid, "nodes", nodes, "links", pairs_json(c));
}

static int json_print(json_t *j, struct err *e)
{
	if (!j || json_dumpf(j, stdout, JSON_INDENT(1)) < 0 || printf("\n") < 0)
		return err_set(e, -EIO, "cannot write the status");
	return 0;
}

static void size_text(uint64_t bytes, char ret[static 16])
{
	(void)snprintf(ret, 16, "%.0fM", (double)bytes / (1 << 20));
}

static void service_text(const struct trial *c, unsigned i, char ret[static 64])
{
	_cleanup_(json_p) json_t *j = service_json(c, i);
	int running = 0, pid = 0, runs = 0, status = 0;
	if (json_unpack(j, "{s:b, s:i, s:i, s:i}", "running", &running, "pid", &pid, "runs", &runs, "last_status",
			&status) < 0)
		(void)snprintf(ret, 64, "-");
	else if (running)
		(void)snprintf(ret, 64, runs > 1 ? "pid %d, start %d" : "pid %d", pid, runs);
	else if (WIFSIGNALED(status))
		(void)snprintf(ret, 64, "ended by signal %d", WTERMSIG(status));
	else
		(void)snprintf(ret, 64, "ended with %d", WEXITSTATUS(status));
}

static void node_print(const struct trial *c, const struct cg *cg, unsigned i)
{
	const struct dev_node *n = &c->node[i];
	uint64_t cpu_ns, mem;
	char addr[16], used[16], limit[16] = "-", rate[24] = "-", cpu[24] = "-", service[64];
	trial_addr(c, i, addr);
	cg_usage(cg, c->name, i, &cpu_ns, &mem);
	size_text(mem, used);
	if (n->mem)
		size_text(n->mem, limit);
	if (n->rate_mbit > 0)
		(void)snprintf(rate, sizeof rate, "%g Mbit/s", n->rate_mbit);
	if (n->cpu > 0)
		(void)snprintf(cpu, sizeof cpu, "%g", n->cpu);
	service_text(c, i, service);
	(void)printf("%4u  %-7s %-15s %8d  %5s %8.1f s  %6s %6s  %-12s %s\n", i, node_state(n), addr, (int)n->init.pid,
		     cpu, (double)cpu_ns / 1e9, used, limit, rate, service);
}

static void links_print(const struct trial *c)
{
	for (unsigned a = 1; a <= c->n; a++)
		for (unsigned b = 1; b <= c->n; b++) {
			const struct dev_pair *p = trial_pair(c, a, b), *q = trial_pair(c, b, a);
			int same = memcmp(p, q, sizeof *p) == 0;
			if (a == b || (same && b < a))
				continue;
			const char *arrow = same ? "-" : ">";
			if (p->cut)
				(void)printf("link %u%s%u: cut\n", a, arrow, b);
			if (p->delay_ms > 0 || p->jitter_ms > 0)
				(void)printf("link %u%s%u: %g ms delay each way, %g ms jitter\n", a, arrow, b,
					     p->delay_ms, p->jitter_ms);
			if (p->loss_pct > 0)
				(void)printf("link %u%s%u: %g %% lost\n", a, arrow, b, p->loss_pct);
		}
}

int dev_status(const char *name, int json, struct err *e)
{
	_cleanup_(trial_free_p) struct trial *c = NULL;
	struct cg cg;
	int rc = trial_name_check(name, e);
	if (rc == 0)
		rc = trial_load(name, -1, &c, e);
	if (rc == 0)
		rc = cg_find(&cg, e);
	if (rc < 0)
		return rc;
	if (json) {
		_cleanup_(json_p) json_t *j = trial_json(c, &cg);
		return json_print(j, e);
	}
	(void)printf("%s: %s, %u of %u nodes on, lan %s, 10.%u.%u.0/24, %s\n", name, trial_state(c), nodes_on(c),
		     c->n, c->lan == DEV_LAN_USER ? "user" : "bridge", c->net_x, c->net_y, c->dir);
	(void)printf("NODE  STATE   ADDRESS              PID    CPU   CPU TIME  MEMORY  LIMIT  LINK         SERVICE\n");
	for (unsigned i = 1; i <= c->n; i++)
		node_print(c, &cg, i);
	links_print(c);
	return 0;
}

struct listing {
	json_t *array; /* owned; NULL: text */
	unsigned n;
};

static void list_one(void *ctx, const char *name)
{
	struct listing *l = ctx;
	_cleanup_(trial_free_p) struct trial *c = NULL;
	struct err e = { .text = "" };
	int rc = trial_load(name, -1, &c, &e);
	const char *state = c && rc == 0         ? trial_state(c)
			    : trial_busy(name) ? "starting"
			    : rc == -EPERM       ? "strange"
						 : "interrupted";
	unsigned n = c ? c->n : 0, on = c ? nodes_on(c) : 0;
	const char *lan = c && c->lan == DEV_LAN_USER ? "user" : "bridge";
	if (l->array)
		(void)json_array_append_new(l->array, json_pack("{s:s, s:s, s:i, s:i, s:s}", "name", name, "state",
								state, "nodes", (int)n, "on", (int)on, "lan", lan));
	else {
		if (l->n == 0)
			(void)printf("%-20s %-12s %5s %5s  LAN\n", "NAME", "STATE", "NODES", "ON");
		(void)printf("%-20s %-12s %5u %5u  %s\n", name, state, n, on, lan);
	}
	l->n++;
}

int dev_list(int json, struct err *e)
{
	struct listing l = { .array = json ? json_array() : NULL };
	int rc = trial_each(list_one, &l, e);
	if (rc == 0 && json)
		rc = json_print(l.array, e);
	json_decref(l.array);
	return rc;
}
