/* --lan user: orders to pando-dev-lan (lan.c). */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "dev/lanimpl.h"
#include "dev/nl.h"

enum { ANSWER_S = 5 };

static struct sockaddr_un lan_addr(const struct trial *c)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	(void)snprintf(a.sun_path, sizeof a.sun_path, "%s/lan.sock", c->dir);
	return a;
}

int userlan_listen(const struct trial *c, int *ret_fd, struct err *e)
{
	_cleanup_(close_p) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = lan_addr(c);
	(void)unlink(a.sun_path); /* of an earlier switch, if any */
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 8) < 0)
		return err_set(e, -errno, "%s: %m", a.sun_path);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int lan_connect(const struct trial *c, int *ret_fd, struct err *e)
{
	_cleanup_(close_p) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = lan_addr(c);
	struct timeval tv = { .tv_sec = ANSWER_S };
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) < 0 ||
	    connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
		return err_set(e, -errno, "the switch of \"%s\" (%s): %m", c->name, a.sun_path);
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Sends one order, with a descriptor if pass_fd >= 0, and takes the answer. */
static int lan_order(int sock, const char *text, int pass_fd, struct err *e)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
	char copy[128], answer[200];
	(void)snprintf(copy, sizeof copy, "%s", text);
	struct iovec iov = { .iov_base = copy, .iov_len = strlen(copy) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (pass_fd >= 0) {
		m.msg_control = control;
		m.msg_controllen = sizeof control;
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &pass_fd, sizeof(int));
	}
	if (sendmsg(sock, &m, MSG_NOSIGNAL) < 0)
		return err_set(e, -errno, "order to the switch: %m");
	ssize_t n = recv(sock, answer, sizeof answer - 1, 0);
	if (n <= 0)
		return err_set(e, n < 0 ? -errno : -EPIPE, "the switch does not answer");
	answer[n] = 0;
	return strcmp(answer, "ok") == 0 ? 0 : err_set(e, -EINVAL, "the switch refuses \"%s\": %s", text, answer);
}

static int tap_open(int netns_fd, int *ret_fd, struct err *e)
{
	_cleanup_(close_p) int fd = -1;
	int rc = nl_open_file(netns_fd, "/dev/net/tun", &fd);
	if (rc < 0)
		return err_set(e, rc, "/dev/net/tun: %s", strerror(-rc));
	struct ifreq r = { .ifr_name = "eth0", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	if (ioctl(fd, TUNSETIFF, &r) < 0)
		return err_set(e, -errno, "make a tap interface: %m");
	/* Let the kernel hand over large segments whole: they pass to another kernel interface as they are. */
	if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)) < 0)
		return err_set(e, -errno, "offloads of a tap interface: %m");
	*ret_fd = take_fd(&fd);
	return 0;
}

int userlan_plug(const struct trial *c, unsigned i, int netns_fd, struct err *e)
{
	_cleanup_(close_p) int sock = -1, tap = -1, nl = -1;
	uint8_t mac[6];
	switch_mac(c, i, mac);
	int rc = lan_connect(c, &sock, e);
	if (rc == 0)
		rc = tap_open(netns_fd, &tap, e);
	if (rc < 0)
		return err_wrap(e, rc, "connect node %u", i);
	if ((rc = nl_open(netns_fd, &nl)) < 0 || (rc = nl_mac(nl, "eth0", mac)) < 0)
		return err_set(e, rc, "address of node %u: %s", i, strerror(-rc));
	char text[64];
	(void)snprintf(text, sizeof text, "port %u", i);
	return lan_order(sock, text, tap, e);
}

int userlan_unplug(const struct trial *c, unsigned i, struct err *e)
{
	_cleanup_(close_p) int sock = -1;
	char text[64];
	(void)snprintf(text, sizeof text, "off %u", i);
	int rc = lan_connect(c, &sock, e);
	return rc < 0 ? rc : lan_order(sock, text, -1, e);
}

int userlan_apply_pairs(const struct trial *c, struct err *e)
{
	_cleanup_(close_p) int sock = -1;
	int rc = lan_connect(c, &sock, e);
	for (unsigned a = 1; rc == 0 && a <= c->n; a++)
		for (unsigned b = 1; rc == 0 && b <= c->n; b++) {
			const struct dev_pair *p = trial_pair(c, a, b);
			char text[128];
			if (a == b)
				continue;
			(void)snprintf(text, sizeof text, "pair %u %u %.0f %.0f %.0f %d", a, b, p->delay_ms * 1000,
				       p->jitter_ms * 1000, p->loss_pct * 10000, p->cut);
			rc = lan_order(sock, text, -1, e);
		}
	return rc;
}

int userlan_apply_rate(const struct trial *c, unsigned i, struct err *e)
{
	_cleanup_(close_p) int sock = -1;
	char text[64];
	(void)snprintf(text, sizeof text, "rate %u %.0f", i, c->node[i].rate_mbit * 1e6);
	int rc = lan_connect(c, &sock, e);
	return rc < 0 ? rc : lan_order(sock, text, -1, e);
}
