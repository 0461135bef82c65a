#include "dev/nl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { MSG_MAX = 1024, ANSWER_MAX = 8192 };

/* A request that is being built: always far below MSG_MAX, which put() asserts by doing nothing past it. */
struct msg {
	_Alignas(struct nlmsghdr) uint8_t b[MSG_MAX];
	size_t n;
};

static void *put(struct msg *m, const void *p, size_t size)
{
	size_t padded = NLMSG_ALIGN(size);
	if (m->n + padded > MSG_MAX)
		abort(); /* a name is at most 15 bytes: cannot be */
	uint8_t *at = m->b + m->n;
	memset(at, 0, padded);
	if (p)
		memcpy(at, p, size);
	m->n += padded;
	return at;
}

static void begin(struct msg *m, uint16_t type, uint16_t flags, const void *body, size_t size)
{
	m->n = 0;
	struct nlmsghdr h = { .nlmsg_type = type,
			      .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags),
			      .nlmsg_seq = 1 };
	(void)put(m, &h, sizeof h);
	(void)put(m, body, size);
}

static void attr(struct msg *m, uint16_t type, const void *p, size_t size)
{
	struct rtattr a = { .rta_type = type, .rta_len = (uint16_t)(RTA_LENGTH(0) + size) };
	size_t at = m->n;
	(void)put(m, &a, sizeof a);
	if (size)
		(void)put(m, p, size);
	m->n = at + RTA_ALIGN(a.rta_len);
}

static void attr_string(struct msg *m, uint16_t type, const char *s)
{
	attr(m, type, s, strlen(s) + 1);
}

static void attr_u32(struct msg *m, uint16_t type, uint32_t v)
{
	attr(m, type, &v, sizeof v);
}

/* Opens a nested attribute; nest_end gives it its length. */
static size_t nest(struct msg *m, uint16_t type)
{
	size_t at = m->n;
	attr(m, type, NULL, 0);
	return at;
}

static void nest_end(struct msg *m, size_t at)
{
	uint16_t len = (uint16_t)(m->n - at);
	memcpy(m->b + at, &len, sizeof len); /* rta_len is the first member */
}

/* Sends the request and takes the kernel's verdict. */
static int ask(int fd, struct msg *m)
{
	uint32_t len = (uint32_t)m->n;
	memcpy(m->b, &len, sizeof len); /* nlmsg_len is the first member */
	if (send(fd, m->b, m->n, 0) < 0)
		return -errno;
	_Alignas(struct nlmsghdr) uint8_t b[ANSWER_MAX];
	ssize_t n = recv(fd, b, sizeof b, 0);
	if (n < 0)
		return -errno;
	struct nlmsghdr h;
	int error;
	if ((size_t)n < sizeof h + sizeof error)
		return -EBADMSG;
	memcpy(&h, b, sizeof h);
	if (h.nlmsg_type != NLMSG_ERROR)
		return -EBADMSG;
	memcpy(&error, b + sizeof h, sizeof error);
	return error;
}

/* Does fn in another network namespace and comes back. */
static int in_netns(int netns_fd, int (*fn)(const char *path), const char *path, int *ret_fd)
{
	_cleanup_(close_p) int own = netns_fd < 0 ? -1 : open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (netns_fd >= 0 && own < 0)
		return -errno;
	if (netns_fd >= 0 && setns(netns_fd, CLONE_NEWNET) < 0)
		return -errno;
	int fd = fn(path);
	if (own >= 0 && setns(own, CLONE_NEWNET) < 0)
		abort(); /* whatever came next would go to the wrong network */
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

static int open_netlink(const char *unused)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		return -errno;
	struct timeval tv = { .tv_sec = 10 };
	int one = 1;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv,
			 sizeof tv); /* the kernel answers at once; this is only a deadline */
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one,
			 sizeof one); /* a short answer; a long one is read too */
	return fd;
}

static int open_path(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int nl_open(int netns_fd, int *ret_fd)
{
	return in_netns(netns_fd, open_netlink, NULL, ret_fd);
}

int nl_open_file(int netns_fd, const char *path, int *ret_fd)
{
	return in_netns(netns_fd, open_path, path, ret_fd);
}

int nl_bridge_add(int fd, const char *name)
{
	struct msg m;
	struct ifinfomsg body = { .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof body);
	attr_string(&m, IFLA_IFNAME, name);
	size_t info = nest(&m, IFLA_LINKINFO);
	attr_string(&m, IFLA_INFO_KIND, "bridge");
	size_t data = nest(&m, IFLA_INFO_DATA);
	uint8_t off = 0;
	attr_u32(&m, IFLA_BR_STP_STATE, 0);
	attr(&m, IFLA_BR_MCAST_SNOOPING, &off, sizeof off);
	nest_end(&m, data);
	nest_end(&m, info);
	return ask(fd, &m);
}

int nl_veth_add(int fd, const char *name, const char *peer_name, int peer_netns_fd, const uint8_t peer_mac[static 6])
{
	struct msg m;
	struct ifinfomsg body = { 0 };
	begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof body);
	attr_string(&m, IFLA_IFNAME, name);
	size_t info = nest(&m, IFLA_LINKINFO);
	attr_string(&m, IFLA_INFO_KIND, "veth");
	size_t data = nest(&m, IFLA_INFO_DATA);
	size_t peer = nest(&m, VETH_INFO_PEER);
	(void)put(&m, &body, sizeof body);
	attr_string(&m, IFLA_IFNAME, peer_name);
	attr(&m, IFLA_ADDRESS, peer_mac, 6);
	attr_u32(&m, IFLA_NET_NS_FD, (uint32_t)peer_netns_fd);
	nest_end(&m, peer);
	nest_end(&m, data);
	nest_end(&m, info);
	return ask(fd, &m);
}

static void link_begin(struct msg *m, uint16_t type, const struct ifinfomsg *body, const char *name)
{
	begin(m, type, 0, body, sizeof *body);
	attr_string(m, IFLA_IFNAME, name);
}

int nl_up(int fd, const char *name, int up)
{
	struct msg m;
	struct ifinfomsg body = { .ifi_flags = up ? IFF_UP : 0, .ifi_change = IFF_UP };
	link_begin(&m, RTM_NEWLINK, &body, name);
	return ask(fd, &m);
}

int nl_mac(int fd, const char *name, const uint8_t mac[static 6])
{
	struct msg m;
	struct ifinfomsg body = { 0 };
	link_begin(&m, RTM_NEWLINK, &body, name);
	attr(&m, IFLA_ADDRESS, mac, 6);
	return ask(fd, &m);
}

/* Any socket knows the interfaces of its namespace. */
static int index_of(int fd, const char *name, int *ret)
{
	struct ifreq r = { 0 };
	if (strlen(name) >= sizeof r.ifr_name)
		return -EINVAL;
	strcpy(r.ifr_name, name);
	if (ioctl(fd, SIOCGIFINDEX, &r) < 0)
		return -errno;
	*ret = r.ifr_ifindex;
	return 0;
}

int nl_master(int fd, const char *name, const char *bridge)
{
	struct msg m;
	struct ifinfomsg body = { 0 };
	int index;
	int rc = index_of(fd, bridge, &index);
	if (rc < 0)
		return rc;
	link_begin(&m, RTM_NEWLINK, &body, name);
	attr_u32(&m, IFLA_MASTER, (uint32_t)index);
	return ask(fd, &m);
}

int nl_del(int fd, const char *name)
{
	struct msg m;
	struct ifinfomsg body = { 0 };
	link_begin(&m, RTM_DELLINK, &body, name);
	int rc = ask(fd, &m);
	return rc == -ENODEV ? 0 : rc;
}

int nl_addr4(int fd, const char *name, const char *addr, unsigned prefix)
{
	struct in_addr a;
	int index;
	if (inet_pton(AF_INET, addr, &a) != 1)
		return -EINVAL;
	int rc = index_of(fd, name, &index);
	if (rc < 0)
		return rc;
	struct msg m;
	struct ifaddrmsg body = { .ifa_family = AF_INET,
				  .ifa_prefixlen = (uint8_t)prefix,
				  .ifa_index = (uint32_t)index };
	begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof body);
	attr(&m, IFA_LOCAL, &a, sizeof a);
	attr(&m, IFA_ADDRESS, &a, sizeof a);
	struct in_addr broadcast = { .s_addr = a.s_addr | htonl(prefix >= 32 ? 0 : 0xffffffffu >> prefix) };
	attr(&m, IFA_BROADCAST, &broadcast, sizeof broadcast);
	return ask(fd, &m);
}
