/* What a machine says of itself when it becomes a node: name, addresses, CPUs, memory. Single-threaded. */
#pragma once

#include "member/cluster.h"
#include "member/member.h"

enum { IDENTITY_PORT = 4840 }; /* streams: the next one */

struct identity {
	char name[CLUSTER_NAME_SIZE];
	char addr[CLUSTER_ADDR_SIZE];
	char stream_addr[CLUSTER_ADDR_SIZE];
	struct member_identity self; /* borrows from the above: not to be copied */
};

/* Fills *ret in. name NULL: the host name. addr NULL: the address of the default route or, without one, of the first interface that is
 * up and not loopback; with `ask` it is left to the member that is asked, which sees from where we come. addr and stream_addr may lack
 * the port. -EINVAL: what was given cannot be used; -EADDRNOTAVAIL: this machine has no address. Words in e; *ret is then unset. */
int identity_make(const char *name, const char *addr, const char *stream_addr, int ask, struct identity *ret, struct err *e);

/* "host:port" from what a user wrote: "host", "host:port", "v6", "[v6]", "[v6]:port"; a port that is missing is `port`. -EINVAL with words. */
int identity_addr(const char *text, unsigned port, char ret[static CLUSTER_ADDR_SIZE], struct err *e);

/* CPUs and bytes of memory that this process may use: what the machine has, its affinity, and the limits of its control groups. */
unsigned identity_cpus(void);
uint64_t identity_memory(void);
