#include "dev/switch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "dev/lanimpl.h"
#include "dev/leash.h"
#include "dev/proc.h"

enum { READY_MS = 10000 };

void switch_mac(const struct trial *c, unsigned i, uint8_t ret[static 6])
{
	const uint8_t mac[6] = {
		0x02, 'P', (uint8_t)c->net_x, (uint8_t)c->net_y, 0, (uint8_t)i
	}; /* 0x02: given locally */
	memcpy(ret, mac, 6);
}

int switch_hold_main(int leash_fd)
{
	char word[16];
	(void)prctl(PR_SET_NAME, "pando-switch");
	if (send(leash_fd, "ready", 5, MSG_NOSIGNAL) < 0)
		return 1;
	ssize_t n;
	while ((n = recv(leash_fd, word, sizeof word, 0)) < 0 && errno == EINTR)
		;
	if (n != 4 || memcmp(word, "stay", 4) != 0)
		return 1;
	(void)close(leash_fd);
	for (;;)
		(void)pause();
}

__attribute__((noreturn)) static void switch_child(const struct trial *c, const struct cg *cg, int leash,
						   int listener)
{
	struct err e = { .text = "" };
	char a[16], b[16], program[4200];
	int rc = cg_join(cg, c->name, CG_LAN, 0, &e);
	if (rc == 0 && c->lan == DEV_LAN_BRIDGE && unshare(CLONE_NEWNET) < 0)
		rc = err_set(&e, -errno, "new network namespace: %m");
	if (rc == 0) {
		int keep[] = { leash, listener };
		int log_fd = openat(c->dir_fd, "lan.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		rc = leash_detach(log_fd, keep, listener >= 0 ? 2 : 1);
		if (rc < 0)
			(void)err_set(&e, rc, "start: %s", strerror(-rc));
	}
	if (rc == 0) {
		(void)snprintf(a, sizeof a, "%d", c->lan == DEV_LAN_BRIDGE ? leash : listener);
		(void)snprintf(b, sizeof b, "%d", leash);
		char n[16];
		(void)snprintf(n, sizeof n, "%u", c->n);
		if (c->lan == DEV_LAN_BRIDGE) {
			(void)execl("/proc/self/exe", "pando", "dev", "--switch", a, c->name, (char *)NULL);
			(void)err_set(&e, -errno, "run pando: %m");
		} else {
			(void)snprintf(program, sizeof program, "%s/pando-dev-lan", c->libexec);
			(void)execl(program, program, n, a, b, (char *)NULL);
			(void)err_set(&e, -errno, "run %s: %m", program);
		}
	}
	char words[sizeof e.text + 4];
	(void)snprintf(words, sizeof words, "no: %s", e.text);
	(void)send(leash, words, strlen(words), MSG_NOSIGNAL); /* if nobody listens, nobody need know */
	_exit(1);
}

int switch_start(struct trial *c, const struct cg *cg, int *ret_leash, struct err *e)
{
	_cleanup_(close_p) int ours = -1, theirs = -1, listener = -1;
	int rc = leash_new(&ours, &theirs, e);
	if (rc == 0 && c->lan == DEV_LAN_USER)
		rc = userlan_listen(c, &listener, e);
	if (rc < 0)
		return rc;
	pid_t pid = fork();
	if (pid == 0)
		switch_child(c, cg, theirs, listener);
	if (pid < 0)
		return err_set(e, -errno, "fork: %m");
	theirs = close_fd(theirs);
	rc = leash_ready(ours, READY_MS, "the switch", e);
	if (rc == 0 && (rc = proc_identify(pid, &c->lan_proc)) < 0)
		rc = err_set(e, rc, "the switch has ended");
	if (rc == 0 && c->lan == DEV_LAN_BRIDGE)
		rc = bridge_setup(c, e);
	if (rc < 0)
		return rc; /* closing the leash ends it */
	*ret_leash = take_fd(&ours);
	return 0;
}

int switch_plug(const struct trial *c, unsigned i, int netns_fd, struct err *e)
{
	return c->lan == DEV_LAN_BRIDGE ? bridge_plug(c, i, netns_fd, e) : userlan_plug(c, i, netns_fd, e);
}

int switch_unplug(const struct trial *c, unsigned i, struct err *e)
{
	return c->lan == DEV_LAN_BRIDGE ? bridge_unplug(c, i, e) : userlan_unplug(c, i, e);
}

int switch_apply_pairs(const struct trial *c, struct err *e)
{
	return c->lan == DEV_LAN_BRIDGE ? bridge_apply_pairs(c, e) : userlan_apply_pairs(c, e);
}

int switch_apply_rate(const struct trial *c, unsigned i, struct err *e)
{
	return c->lan == DEV_LAN_BRIDGE ? bridge_apply_rate(c, i, e) : userlan_apply_rate(c, i, e);
}
