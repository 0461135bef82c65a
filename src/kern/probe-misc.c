/* Probes of memory, network and the rest. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h> /* before the kernel's headers, which then leave its names alone */

#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/landlock.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/tcp.h>
#include <linux/userfaultfd.h>
#include <linux/veth.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/probe-int.h"

enum { STEP_MS = 2000 };

/* --- memory: a write after write-protection is found by a scan --- */

/* linux/userfaultfd.h and linux/fs.h of 6.7 */
#define UFFD_WP_ASYNC (UINT64_C(1) << 15)
#define UFFD_WP_UNPOPULATED (UINT64_C(1) << 13)
struct pm_scan_6_7 {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct page_region_6_7 {
	uint64_t start, end, categories;
};
#define PAGEMAP_SCAN_6_7 _IOWR('f', 16, struct pm_scan_6_7)
#define PAGE_IS_WRITTEN_BIT (UINT64_C(1) << 1)

static int uffd_open(uint64_t features, int *ret_fd)
{
	_cleanup_(close_p) int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	if (ioctl(fd, UFFDIO_API, &api) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

static int scan_works(const char *mem, size_t page)
{
	struct page_region_6_7 v[4] = { 0 };
	struct pm_scan_6_7 s = {
		.size = sizeof s,
		.start = (uint64_t)(uintptr_t)mem,
		.end = (uint64_t)(uintptr_t)mem + 4 * page,
		.vec = (uint64_t)(uintptr_t)v,
		.vec_len = 4,
		.category_mask = PAGE_IS_WRITTEN_BIT,
		.return_mask = PAGE_IS_WRITTEN_BIT,
	};
	_cleanup_(close_p) int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int n = ioctl(fd, PAGEMAP_SCAN_6_7, &s);
	if (n < 0)
		return -errno;
	return n == 1 && v[0].start == s.start + 2 * page && v[0].end == s.start + 3 * page ? 0 : -EPROTO;
}

static int wp_async_arm(int fd, char *mem, size_t page)
{
	struct uffdio_register reg = { .range = { .start = (uint64_t)(uintptr_t)mem, .len = 4 * page },
				       .mode = UFFDIO_REGISTER_MODE_WP };
	struct uffdio_writeprotect wp = { .range = reg.range, .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	if (ioctl(fd, UFFDIO_REGISTER, &reg) < 0 || ioctl(fd, UFFDIO_WRITEPROTECT, &wp) < 0)
		return -errno;
	return 0;
}

void probe_memory(struct kern_has *has)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	_cleanup_(close_p) int plain = -1;
	_cleanup_(close_p) int async = -1;
	probe_set(has, &has->uffd, uffd_open(0, &plain));

	char *mem = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int rc = mem == MAP_FAILED ? -errno : 0;
	if (!rc) {
		memset(mem, 1, 4 * page);
		rc = uffd_open(UFFD_WP_ASYNC | UFFD_WP_UNPOPULATED, &async);
	}
	if (!rc)
		rc = wp_async_arm(async, mem, page);
	if (!rc)
		*(volatile char *)(mem + 2 * page) = 2; /* waits for ever, until killed, if it were not asynchronous */
	probe_set(has, &has->uffd_wp_async, rc);
	probe_set(has, &has->pagemap_scan, rc ? rc : scan_works(mem, page));
}

/* --- network, in a namespace of its own --- */

struct nl {
	union {
		uint8_t bytes[2048];
		struct nlmsghdr align;
	} u;
	size_t n, msg; /* bytes used, start of the current message */
};

static void *nl_put(struct nl *b, const void *p, size_t size)
{
	uint8_t *at = b->u.bytes + b->n;
	memset(at, 0, NLMSG_ALIGN(size));
	if (p)
		memcpy(at, p, size);
	b->n += NLMSG_ALIGN(size);
	uint32_t len = (uint32_t)(b->n - b->msg);
	memcpy(b->u.bytes + b->msg, &len, sizeof len); /* nlmsg_len is its first member */
	return at;
}

static void nl_begin(struct nl *b, uint16_t type, uint16_t flags, const void *body, size_t size)
{
	struct nlmsghdr h = { .nlmsg_type = type, .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags), .nlmsg_seq = 1 };
	b->msg = b->n;
	(void)nl_put(b, &h, sizeof h);
	(void)nl_put(b, body, size);
}

static void nl_attr(struct nl *b, uint16_t type, const void *p, size_t size)
{
	struct nlattr a = { .nla_len = (uint16_t)(sizeof a + size), .nla_type = type };
	uint8_t both[256] = { 0 };
	memcpy(both, &a, sizeof a);
	memcpy(both + sizeof a, p, size);
	(void)nl_put(b, both, sizeof a + size);
}

static size_t nl_nest(struct nl *b, uint16_t type)
{
	size_t at = b->n;
	struct nlattr a = { .nla_len = sizeof a, .nla_type = (uint16_t)(type | NLA_F_NESTED) };
	(void)nl_put(b, &a, sizeof a);
	return at;
}

static void nl_end(struct nl *b, size_t nest)
{
	uint16_t len = (uint16_t)(b->n - nest);
	memcpy(b->u.bytes + nest, &len, sizeof len); /* nla_len is its first member */
}

/* Sends, and reads answers until one message was acknowledged (n_acks of them) or refused. */
static int nl_talk(int proto, const struct nl *b, int n_acks)
{
	_cleanup_(close_p) int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, proto);
	if (s < 0)
		return -errno;
	struct sockaddr_nl to = { .nl_family = AF_NETLINK };
	if (sendto(s, b->u.bytes, b->n, 0, (const struct sockaddr *)&to, sizeof to) < 0)
		return -errno;
	while (n_acks > 0) {
		struct nl in = { .n = 0 };
		struct pollfd p = { .fd = s, .events = POLLIN };
		if (poll(&p, 1, STEP_MS) != 1)
			return -ETIMEDOUT;
		ssize_t n = recv(s, in.u.bytes, sizeof in.u.bytes, 0);
		if (n < 0)
			return -errno;
		for (size_t at = 0; at + sizeof(struct nlmsghdr) + sizeof(int) <= (size_t)n;) {
			struct nlmsghdr h;
			int error;
			memcpy(&h, in.u.bytes + at, sizeof h);
			memcpy(&error, in.u.bytes + at + sizeof h, sizeof error);
			if (h.nlmsg_type == NLMSG_ERROR && error)
				return error;
			if (h.nlmsg_type == NLMSG_ERROR)
				n_acks--;
			if (h.nlmsg_len < sizeof h)
				return -EPROTO;
			at += NLMSG_ALIGN(h.nlmsg_len);
		}
	}
	return 0;
}

static int link_add(const char *kind, const char *name)
{
	struct nl b = { .n = 0 };
	struct ifinfomsg info = { .ifi_family = AF_UNSPEC };
	nl_begin(&b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &info, sizeof info);
	nl_attr(&b, IFLA_IFNAME, name, strlen(name) + 1);
	size_t li = nl_nest(&b, IFLA_LINKINFO);
	nl_attr(&b, IFLA_INFO_KIND, kind, strlen(kind));
	nl_end(&b, li);
	return nl_talk(NETLINK_ROUTE, &b, 1);
}

static int nft_bridge_works(void)
{
	struct nl b = { .n = 0 };
	struct nfgenmsg batch = { .res_id = htons(NFNL_SUBSYS_NFTABLES) }, bridge = { .nfgen_family = NFPROTO_BRIDGE };
	uint32_t hook = htonl(NF_INET_FORWARD), prio = htonl(0);
	nl_begin(&b, NFNL_MSG_BATCH_BEGIN, 0, &batch, sizeof batch);
	nl_begin(&b, (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_ACK, &bridge, sizeof bridge);
	nl_attr(&b, NFTA_TABLE_NAME, "t", 2);
	nl_begin(&b, (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_ACK, &bridge, sizeof bridge);
	nl_attr(&b, NFTA_CHAIN_TABLE, "t", 2);
	nl_attr(&b, NFTA_CHAIN_NAME, "c", 2);
	size_t h = nl_nest(&b, NFTA_CHAIN_HOOK);
	nl_attr(&b, NFTA_HOOK_HOOKNUM, &hook, sizeof hook);
	nl_attr(&b, NFTA_HOOK_PRIORITY, &prio, sizeof prio);
	nl_end(&b, h);
	nl_attr(&b, NFTA_CHAIN_TYPE, "filter", 7);
	nl_begin(&b, NFNL_MSG_BATCH_END, 0, &batch, sizeof batch);
	return nl_talk(NETLINK_NETFILTER, &b, 2);
}

static int tun_works(void)
{
	_cleanup_(close_p) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	(void)strcpy(r.ifr_name, "t0");
	return ioctl(fd, TUNSETIFF, &r) < 0 ? -errno : 0;
}

void probe_net(struct kern_has *has)
{
	int rc = unshare(CLONE_NEWNET) < 0 ? -errno : 0;
	probe_set(has, &has->tun, rc ? rc : tun_works());
	probe_set(has, &has->nft_bridge, rc ? rc : nft_bridge_works());
	if (!rc)
		rc = link_add("bridge", "b0");
	probe_set(has, &has->veth, rc ? rc : link_add("veth", "v0"));
}

/* --- the rest --- */

/* In repair mode a connection is made and closed without a packet. */
static int tcp_repair_works(void)
{
	_cleanup_(close_p) int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1, seq = 12345, q = 2 /* TCP_SEND_QUEUE */;
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in to = a;
	to.sin_port = htons(1);
	if (s < 0 || setsockopt(s, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) < 0 ||
	    setsockopt(s, IPPROTO_TCP, TCP_REPAIR_QUEUE, &q, sizeof q) < 0 ||
	    setsockopt(s, IPPROTO_TCP, TCP_QUEUE_SEQ, &seq, sizeof seq) < 0 ||
	    bind(s, (const struct sockaddr *)&a, sizeof a) < 0 ||
	    connect(s, (const struct sockaddr *)&to, sizeof to) < 0)
		return -errno;
	int got = 0;
	socklen_t n = sizeof got;
	if (getsockopt(s, IPPROTO_TCP, TCP_QUEUE_SEQ, &got, &n) < 0)
		return -errno;
	return got == seq + 1 || got == seq ? 0 : -EPROTO;
}

static int landlock_works(void)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = LANDLOCK_ACCESS_FS_WRITE_FILE };
	_cleanup_(close_p) int set = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
	if (set < 0)
		return -errno;
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (syscall(SYS_landlock_restrict_self, set, 0) < 0)
		return -errno;
	_cleanup_(close_p) int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	return fd < 0 && errno == EACCES ? 0 : -EPROTO;
}

static int io_uring_works(void)
{
	char params[120] = { 0 }; /* struct io_uring_params */
	_cleanup_(close_p) int fd = (int)syscall(SYS_io_uring_setup, 1, params);
	return fd < 0 ? -errno : 0;
}

static int psi_works(void)
{
	char line[128];
	int rc = probe_read_at(AT_FDCWD, "/proc/pressure/cpu", line, sizeof line);
	return rc ? rc : strncmp(line, "some ", 5) == 0 ? 0 : -EPROTO;
}

void probe_rest(struct kern_has *has)
{
	probe_set(has, &has->psi, psi_works());
	probe_set(has, &has->tcp_repair, tcp_repair_works());
	probe_set(has, &has->io_uring, io_uring_works());
	probe_set(has, &has->landlock, landlock_works()); /* last: it restricts us */
}
