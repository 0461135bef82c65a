#include "procfs/cred.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

void cred_put(struct wr *w, const struct cred *c)
{
	wr_u32(w, c->uid);
	wr_u32(w, c->gid);
	wr_u64(w, c->caps);
	wr_u32(w, c->n_groups);
	for (uint32_t i = 0; i < c->n_groups; i++)
		wr_u32(w, c->groups[i]);
}

void cred_get(struct rd *r, struct cred *ret)
{
	ret->uid = rd_u32(r);
	ret->gid = rd_u32(r);
	ret->caps = rd_u64(r);
	ret->n_groups = rd_count(r, CRED_GROUPS_MAX, 4);
	for (uint32_t i = 0; i < ret->n_groups; i++)
		ret->groups[i] = rd_u32(r);
}

/* The text behind "\nkey" (a tab or blanks may follow), or NULL. */
static const char *status_field(const char *text, const char *key)
{
	const char *p = strstr(text, key);
	return p ? p + strlen(key) : NULL;
}

void cred_parse_status(const char *text, struct cred *c)
{
	const char *p = status_field(text, "\nCapEff:");
	c->caps = p ? strtoull(p, NULL, 16) : 0;

	c->n_groups = 0;
	p = status_field(text, "\nGroups:");
	while (p && c->n_groups < CRED_GROUPS_MAX) {
		while (*p == ' ' || *p == '\t')
			p++;
		if (*p < '0' || *p > '9')
			break;
		char *end;
		c->groups[c->n_groups++] = (uint32_t)strtoul(p, &end, 10);
		p = end;
	}
}

static int same_userns(int procfd, pid_t tid)
{
	char path[64];
	struct stat a, b;
	(void)snprintf(path, sizeof(path), "%d/ns/user", (int)tid); /* fits */
	return fstatat(procfd, path, &a, 0) == 0 && fstatat(procfd, "1/ns/user", &b, 0) == 0 && a.st_ino == b.st_ino;
}

void cred_of(int procfd, pid_t tid, uint32_t uid, uint32_t gid, struct cred *ret)
{
	*ret = (struct cred){ .uid = uid, .gid = gid };
	if (tid <= 0) {
		ret->caps = uid == 0 ? CRED_CAPS_ALL : 0;
		return;
	}
	char path[64], text[4096];
	(void)snprintf(path, sizeof(path), "%d/status", (int)tid); /* fits */
	_cleanup_(close_p) int fd = openat(procfd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return;
	text[n] = 0;
	cred_parse_status(text, ret);
	if (ret->caps && !same_userns(procfd, tid))
		ret->caps = 0;
}

static int caps_get(struct __user_cap_data_struct d[static 2])
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	return syscall(SYS_capget, &h, d) < 0 ? -errno : 0;
}

/* Sets the effective capabilities of this thread to mask, as far as they are permitted. */
static int caps_limit(uint64_t mask)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];
	int rc = caps_get(d);
	if (rc < 0)
		return rc;
	d[0].effective = d[0].permitted & (uint32_t)mask;
	d[1].effective = d[1].permitted & (uint32_t)(mask >> 32);
	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

/* glibc's setgroups changes all threads; the system call changes this one. */
static int groups_set(size_t n, const uint32_t *g)
{
	return syscall(SYS_setgroups, n, g) < 0 ? -errno : 0;
}

int cred_enter(const struct cred *c)
{
	int rc = groups_set(c->n_groups, c->groups);
	if (rc < 0)
		return rc;
	(void)setfsgid(c->gid); /* these two never report failure: asked for below */
	(void)setfsuid(c->uid);
	rc = caps_limit(c->caps);
	if (rc < 0 || (uint32_t)setfsuid((uid_t)-1) != c->uid || (uint32_t)setfsgid((gid_t)-1) != c->gid) {
		cred_leave();
		return rc < 0 ? rc : -EPERM;
	}
	return 0;
}

void cred_leave(void)
{
	int rc = caps_limit(CRED_CAPS_ALL);
	uid_t uid = geteuid();
	gid_t gid = getegid();
	(void)setfsuid(uid); /* asked for below */
	(void)setfsgid(gid);
	if (rc < 0 || (uid_t)setfsuid((uid_t)-1) != uid || (gid_t)setfsgid((gid_t)-1) != gid || groups_set(0, NULL) < 0)
		abort();
	/* Giving up uid 0 dropped the capabilities over files, coming back to it raised them again only as far as they were permitted
	 * to setfsuid: set all, once more. */
	if (caps_limit(CRED_CAPS_ALL) < 0)
		abort();
}
