/* --lan bridge: see switch.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dev/lanimpl.h"
#include "dev/nl.h"
#include "dev/proc.h"
#include "dev/switch.h"

static void port_name(unsigned i, char ret[static 16])
{
	(void)snprintf(ret, 16, "p%u", i);
}

/* A netlink socket in the switch's namespace. */
static int switch_nl(const struct trial *c, int *ret_fd, int *ret_netns, struct err *e)
{
	_cleanup_(close_p) int ns = -1, fd = -1;
	int rc = proc_netns(&c->lan_proc, &ns, e);
	if (rc < 0)
		return err_wrap(e, rc, "the switch of \"%s\"", c->name);
	rc = nl_open(ns, &fd);
	if (rc < 0)
		return err_set(e, rc, "rtnetlink socket: %s", strerror(-rc));
	*ret_fd = take_fd(&fd);
	if (ret_netns)
		*ret_netns = take_fd(&ns);
	return 0;
}

int bridge_setup(const struct trial *c, struct err *e)
{
	_cleanup_(close_p) int fd = -1;
	int rc = switch_nl(c, &fd, NULL, e);
	if (rc < 0)
		return rc;
	rc = nl_bridge_add(fd, "br0");
	return rc == 0
		   ? 0
		   : err_set(e, rc, "make a bridge: %s%s", strerror(-rc), rc == -EOPNOTSUPP ? " (try --lan user)" : "");
}

/* The port's bridge: br0, or that of its side where cuts are made by bridges (there are others then). */
static int port_master(const struct trial *c, unsigned i, int nl_fd, const char *port)
{
	unsigned class[DEV_NODES_MAX + 1];
	char bridge[16];
	int n = switch_classes(c, class);
	(void)snprintf(bridge, sizeof bridge, "br%u", n > 0 ? class[i] : 0);
	int rc = nl_master(nl_fd, port, bridge);
	return rc == -ENODEV ? nl_master(nl_fd, port, "br0") : rc;
}

int bridge_plug(const struct trial *c, unsigned i, int netns_fd, struct err *e)
{
	_cleanup_(close_p) int fd = -1;
	int rc = switch_nl(c, &fd, NULL, e);
	if (rc < 0)
		return rc;
	char port[16];
	uint8_t mac[6];
	port_name(i, port);
	switch_mac(c, i, mac);
	rc = nl_veth_add(fd, port, "eth0", netns_fd, mac);
	if (rc == 0)
		rc = port_master(c, i, fd, port);
	if (rc == 0)
		rc = nl_up(fd, port, 1);
	if (rc < 0)
		return err_set(e, rc, "connect node %u: %s%s", i, strerror(-rc),
			       rc == -EOPNOTSUPP ? " (no veth: try --lan user)" : "");
	return 0;
}

int bridge_unplug(const struct trial *c, unsigned i, struct err *e)
{
	_cleanup_(close_p) int fd = -1;
	int rc = switch_nl(c, &fd, NULL, e);
	if (rc < 0)
		return rc;
	char port[16];
	port_name(i, port);
	rc = nl_del(fd, port);
	return rc == 0 ? 0 : err_set(e, rc, "disconnect node %u: %s", i, strerror(-rc));
}

char *switch_nft_text(const struct trial *c)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);
	if (!f)
		return NULL;
	/* One transaction: declared, so that deleting it cannot fail, deleted, and made anew. */
	(void)fputs("table bridge pando\ndelete table bridge pando\ntable bridge pando {\n\tset cut {\n\t\ttype ifname "
		    ". ifname\n",
		    f);
	int any = 0;
	for (unsigned a = 1; a <= c->n; a++)
		for (unsigned b = 1; b <= c->n; b++)
			if (a != b && trial_pair(c, a, b)->cut) {
				(void)fprintf(f, "%s\"p%u\" . \"p%u\"", any ? ", " : "\t\telements = { ", a, b);
				any = 1;
			}
	(void)fprintf(f,
		      "%s\t}\n\tchain forward {\n\t\ttype filter hook forward priority 0; policy accept;\n"
		      "\t\tiifname . oifname @cut drop\n\t}\n}\n",
		      any ? " }\n" : "");
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

int switch_classes(const struct trial *c, unsigned ret[static DEV_NODES_MAX + 1])
{
	unsigned n = 0;
	for (unsigned i = 1; i <= c->n; i++) {
		unsigned k = 1;
		while (k < i && (trial_pair(c, i, k)->cut || trial_pair(c, k, i)->cut))
			k++;
		ret[i] = k < i ? ret[k] : n++;
	}
	for (unsigned a = 1; a <= c->n; a++)
		for (unsigned b = 1; b <= c->n; b++)
			if (a != b && (ret[a] != ret[b]) != (trial_pair(c, a, b)->cut != 0))
				return -EOPNOTSUPP;
	return (int)n;
}

/* Without nft: one bridge per side of the partition. */
static int cut_by_bridges(const struct trial *c, int nl_fd, const struct err *nft_error, struct err *e)
{
	unsigned class[DEV_NODES_MAX + 1];
	int n = switch_classes(c, class);
	if (n < 0)
		return err_set(
		    e, n, "this cut needs nft for bridges, which cannot be used here (%.100s); --lan user can do it",
		    nft_error->text);
	for (unsigned i = 1; i <= c->n; i++) {
		char port[16], bridge[16];
		(void)snprintf(bridge, sizeof bridge, "br%u", class[i]);
		port_name(i, port);
		int rc = class[i] ? nl_bridge_add(nl_fd, bridge) : 0;
		if (rc < 0 && rc != -EEXIST)
			return err_set(e, rc, "make %s: %s", bridge, strerror(-rc));
		rc = nl_master(nl_fd, port, bridge);
		if (rc < 0 && rc != -ENODEV) /* a node that is off has no port */
			return err_set(e, rc, "move %s to %s: %s", port, bridge, strerror(-rc));
	}
	return 0;
}

int bridge_apply_pairs(const struct trial *c, struct err *e)
{
	for (unsigned a = 1; a <= c->n; a++)
		for (unsigned b = 1; b <= c->n; b++) {
			const struct dev_pair *p = trial_pair(c, a, b);
			if (p->delay_ms > 0 || p->jitter_ms > 0 || p->loss_pct > 0)
				return err_set(e, -EOPNOTSUPP,
					       "delay, jitter and loss need a cluster started with --lan user");
		}
	_cleanup_(close_p) int ns = -1, fd = -1;
	_cleanup_(free_p) char *text = switch_nft_text(c);
	int rc = text ? switch_nl(c, &fd, &ns, e) : err_set(e, -ENOMEM, "out of memory");
	if (rc < 0)
		return rc;
	char *argv[] = { (char[]){ "nft" }, (char[]){ "-f" }, (char[]){ "-" }, NULL };
	struct err nft_error = { .text = "switched off" };
	const char *use = getenv("PANDO_DEV_NFT"); /* "no": for tests of the other way */
	rc = use && strcmp(use, "no") == 0 ? -EOPNOTSUPP : proc_run(ns, argv, text, &nft_error);
	return rc == 0 ? 0 : cut_by_bridges(c, fd, &nft_error, e);
}

static int queue_set(int netns_fd, char *device, double mbit, struct err *e)
{
	char rate[32], burst[32];
	if (!(mbit > 0)) {
		char *argv[] = { (char[]){ "tc" },
				 (char[]){ "qdisc" },
				 (char[]){ "del" },
				 (char[]){ "dev" },
				 device,
				 (char[]){ "root" },
				 NULL };
		(void)proc_run(netns_fd, argv, NULL, NULL); /* fails when there is none */
		return 0;
	}
	/* 10 ms of traffic at once, but at least one large frame: less does not reach the rate. */
	double bytes = mbit * 1e6 / 8 / 100;
	(void)snprintf(rate, sizeof rate, "%.0fbit", mbit * 1e6);
	(void)snprintf(burst, sizeof burst, "%.0f", bytes < 16384 ? 16384 : bytes);
	char *argv[] = { (char[]){ "tc" },
			 (char[]){ "qdisc" },
			 (char[]){ "replace" },
			 (char[]){ "dev" },
			 device,
			 (char[]){ "root" },
			 (char[]){ "tbf" },
			 (char[]){ "rate" },
			 rate,
			 (char[]){ "burst" },
			 burst,
			 (char[]){ "latency" },
			 (char[]){ "100ms" },
			 NULL };
	return proc_run(netns_fd, argv, NULL, e);
}

int bridge_apply_rate(const struct trial *c, unsigned i, struct err *e)
{
	_cleanup_(close_p) int switch_ns = -1, node_ns = -1;
	char port[16];
	port_name(i, port);
	int rc = proc_netns(&c->lan_proc, &switch_ns, e);
	if (rc == 0)
		rc = proc_netns(&c->node[i].init, &node_ns, e);
	if (rc == 0)
		rc = queue_set(switch_ns, port, c->node[i].rate_mbit, e);
	if (rc == 0)
		rc = queue_set(node_ns, (char[]){ "eth0" }, c->node[i].rate_mbit, e);
	return rc == 0 ? 0 : err_wrap(e, rc, "rate of node %u", i);
}
