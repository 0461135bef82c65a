/* One node of a trial cluster: starting it and pulling its plug. Single-threaded programs only.
 *
 * A node is a process tree below its own pid 1 (init.h) in its own net, mount, pid, uts, ipc, cgroup and time
 * namespaces and cgroups; all of these go when the processes go, so nothing but the node's directory (its disk) is left
 * then.
 *
 * Recipe: node_spawn for each (they set themselves up side by side), node_connect for each, node_ready for each;
 * node_say "start" runs the service; node_say "stay" lets go of the leash. Closing the leash before that ends the node.
 */
#pragma once

#include "base/err.h"
#include "dev/cg.h"
#include "dev/trial.h"

/* Makes the cgroups, the directory and the first process of node i; c->node[i].init is set. The record must have been
 * saved. On 0 the caller owns *ret_leash. */
int node_spawn(struct trial *c, const struct cg *cg, unsigned i, int *ret_leash, struct err *e);

/* Plugs it into the switch. */
int node_connect(const struct trial *c, unsigned i, int leash, struct err *e);

/* Waits until it is set up: file systems, address, limits (but for the CPUs, which would only slow the start). */
int node_ready(const struct trial *c, unsigned i, int leash, struct err *e);

/* Sends the node's pid 1 a word: "start" or "stay". */
int node_say(unsigned i, int leash, const char *word, struct err *e);

/* Pulls the plug: off the network first (no FIN, no RST gets out), then everything killed at once. Waits for the end;
 * the node's cgroups are removed, c->node[i].init is none afterwards. One that is off is fine. */
int node_kill(struct trial *c, const struct cg *cg, unsigned i, struct err *e);

/* Path of something of node i below the cluster's directory: "DIR/node-I/what". */
void node_path(const struct trial *c, unsigned i, const char *what, char ret[static 256]);
