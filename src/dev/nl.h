/* Network links by rtnetlink, in any network namespace. All return 0 or -errno. Single-threaded programs only.
 *
 * Recipe: nl_open for a namespace; the rest on that socket; close. */
#pragma once

#include <stdint.h>

/* Opens a socket of the given type in the network namespace netns_fd (-1: ours); the caller's own namespace is as
 * before when this returns (if it could not be restored the program ends). On 0 the caller owns *ret_fd. */
int nl_open(int netns_fd, int *ret_fd);

/* Opens path in the network namespace: for /dev/net/tun, whose interfaces come up where it was opened. */
int nl_open_file(int netns_fd, const char *path, int *ret_fd);

/* A bridge without spanning tree, so its ports forward at once. */
int nl_bridge_add(int fd, const char *name);

/* A veth pair: name here, peer_name with the given address in the namespace peer_netns_fd. */
int nl_veth_add(int fd, const char *name, const char *peer_name, int peer_netns_fd, const uint8_t peer_mac[static 6]);

/* Brings it up or down. */
int nl_up(int fd, const char *name, int up);

/* Sets its hardware address. */
int nl_mac(int fd, const char *name, const uint8_t mac[static 6]);

/* Makes it a port of the bridge. */
int nl_master(int fd, const char *name, const char *bridge);

/* Deletes it; one that is not there is fine. */
int nl_del(int fd, const char *name);

/* Gives it an IPv4 address ("10.1.2.3") and the route to its network. */
int nl_addr4(int fd, const char *name, const char *addr, unsigned prefix);
