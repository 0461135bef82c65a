/* The network between the nodes of a trial cluster.
 *
 * --lan bridge: a kernel bridge in a network namespace of its own, with one veth port "pI" per node; the namespace
 * lives as long as a holder process. Cuts are an nft set of port pairs; where the kernel has no nft for bridges, the
 * ports are distributed over several bridges instead (which can do every partition, but not "1 and 2 see each other no
 * more, both still see 3"). Rates are tbf queues.
 * --lan user: pando-dev-lan, which also does delay, jitter and loss, and needs only /dev/net/tun.
 * Whichever it is, the node's interface is eth0 with a fixed address; nothing is made in the machine's own network
 * namespace.
 *
 * Recipe: switch_start; switch_plug for each node; switch_apply...; leash_stay. Single-threaded programs only. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "dev/cg.h"
#include "dev/trial.h"

/* Starts the switch; c->lan_proc is set. It ends by itself when *ret_leash (owned by the caller) closes before
 * leash_stay. */
int switch_start(struct trial *c, const struct cg *cg, int *ret_leash, struct err *e);

/* Connects node i, whose network namespace is given: eth0 is there afterwards, not yet up. */
int switch_plug(const struct trial *c, unsigned i, int netns_fd, struct err *e);

/* Pulls the plug: nothing that node i sends from now on arrives anywhere. One that is not plugged in is fine. */
int switch_unplug(const struct trial *c, unsigned i, struct err *e);

/* Makes the switch do what the pairs and nodes of the record say: cuts, delays, losses / the rate of node i. */
int switch_apply_pairs(const struct trial *c, struct err *e);
int switch_apply_rate(const struct trial *c, unsigned i, struct err *e);

/* The hardware address of node i. */
void switch_mac(const struct trial *c, unsigned i, uint8_t ret[static 6]);

/* The hidden program that holds the namespace of a bridge: runs until it is killed. Returns the exit status. */
int switch_hold_main(int leash_fd);

/* The text for nft that cuts what the record says. NULL when there is no memory. The caller frees it. */
char *switch_nft_text(const struct trial *c);

/* Distributes the nodes over bridges so that two are on the same one exactly if they are not cut: ret[i] is the bridge
 * (from 0) of node i, by its lowest node. Returns the number of bridges, or -EOPNOTSUPP when no distribution does it.
 */
int switch_classes(const struct trial *c, unsigned ret[static DEV_NODES_MAX + 1]);
