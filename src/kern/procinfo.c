#include "kern/procinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

static ssize_t file_read(pid_t tid, const char *name, char *buf, size_t size)
{
	char path[64];
	(void)snprintf(path, sizeof path, "/proc/%d/%s", tid, name);
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	size_t n = 0;
	for (;;) {
		ssize_t k = read(fd, buf + n, size - 1 - n);
		if (k < 0)
			return -errno;
		if (k == 0 || n + (size_t)k == size - 1) {
			n += (size_t)k;
			break;
		}
		n += (size_t)k;
	}
	buf[n] = 0;
	return (ssize_t)n;
}

int procinfo_stat(pid_t tid, struct procinfo *ret)
{
	char buf[1024];
	ssize_t n = file_read(tid, "stat", buf, sizeof buf);
	if (n < 0)
		return (int)n;
	const char *p = strrchr(buf, ')'); /* the name may contain anything, also ')' */
	if (!p)
		return -EBADMSG;
	unsigned long long start;
	int got = sscanf(p + 1, " %c %d %d %d %d %d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %ld %*d %*d %llu", &ret->state, &ret->ppid,
			 &ret->pgid, &ret->sid, &ret->tty_nr, &ret->tpgid, &ret->nice, &start);
	if (got != 8)
		return -EBADMSG;
	ret->start_ticks = start;
	return 0;
}

static void groups_parse(struct procinfo *ret, const char *p)
{
	ret->n_groups = 0;
	while (ret->n_groups < PROCINFO_GROUPS) {
		char *end;
		unsigned long v = strtoul(p, &end, 10);
		if (end == p)
			return;
		ret->groups[ret->n_groups++] = (uint32_t)v;
		p = end;
	}
}

static void ids_parse(uint32_t ids[4], const char *p)
{
	for (int i = 0; i < 4; i++) {
		char *end;
		ids[i] = (uint32_t)strtoul(p, &end, 10);
		p = end;
	}
}

static uint32_t levels_count(const char *p)
{
	uint32_t n = 0;
	for (; *p; p++)
		n += *p == '\t';
	return n + 1;
}

static void status_line(struct procinfo *ret, const char *key, const char *val)
{
	const struct {
		const char *key;
		uint64_t *mask;
	} masks[] = {
		{ "SigPnd", &ret->sig_pending },     { "ShdPnd", &ret->sig_shared },    { "SigBlk", &ret->sig_blocked },
		{ "SigIgn", &ret->sig_ignored },     { "SigCgt", &ret->sig_caught },    { "CapInh", &ret->cap_inheritable },
		{ "CapPrm", &ret->cap_permitted },   { "CapEff", &ret->cap_effective }, { "CapBnd", &ret->cap_bounding },
		{ "CapAmb", &ret->cap_ambient },
	};
	for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++) {
		if (strcmp(key, masks[i].key) == 0) {
			*masks[i].mask = strtoull(val, NULL, 16);
			return;
		}
	}
	if (strcmp(key, "Tgid") == 0)
		ret->tgid = atoi(val);
	else if (strcmp(key, "TracerPid") == 0)
		ret->tracer = atoi(val);
	else if (strcmp(key, "Umask") == 0)
		ret->umask = (uint32_t)strtoul(val, NULL, 8);
	else if (strcmp(key, "Threads") == 0)
		ret->n_threads = (uint32_t)strtoul(val, NULL, 10);
	else if (strcmp(key, "Uid") == 0)
		ids_parse(ret->uid, val);
	else if (strcmp(key, "Gid") == 0)
		ids_parse(ret->gid, val);
	else if (strcmp(key, "Groups") == 0)
		groups_parse(ret, val);
	else if (strcmp(key, "NoNewPrivs") == 0)
		ret->no_new_privs = (uint32_t)strtoul(val, NULL, 10);
	else if (strcmp(key, "Seccomp_filters") == 0)
		ret->seccomp_filters = (uint32_t)strtoul(val, NULL, 10);
	else if (strcmp(key, "NSpid") == 0)
		ret->ns_levels = levels_count(val);
}

int procinfo_read(pid_t tid, struct procinfo *ret)
{
	memset(ret, 0, sizeof *ret);
	int rc = procinfo_stat(tid, ret);
	if (rc < 0)
		return rc;

	char buf[16384];
	ssize_t n = file_read(tid, "status", buf, sizeof buf);
	if (n < 0)
		return (int)n;
	char *save = NULL;
	for (char *line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *colon = strchr(line, ':');
		if (!colon)
			continue;
		*colon = 0;
		char *val = colon + 1;
		while (*val == '\t' || *val == ' ')
			val++;
		status_line(ret, line, val);
	}
	return ret->tgid > 0 ? 0 : -EBADMSG;
}

int procinfo_link(pid_t tid, const char *what, char *ret, size_t size)
{
	char path[96];
	(void)snprintf(path, sizeof path, "/proc/%d/%s", tid, what);
	ssize_t n = readlink(path, ret, size);
	if (n < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	if ((size_t)n >= size)
		return -ENAMETOOLONG;
	ret[n] = 0;
	return (int)n;
}

int procinfo_same_ns(pid_t a, pid_t b, const char *ns)
{
	char pa[64], pb[64];
	struct stat sa, sb;
	(void)snprintf(pa, sizeof pa, "/proc/%d/ns/%s", a, ns);
	(void)snprintf(pb, sizeof pb, "/proc/%d/ns/%s", b, ns);
	if (stat(pa, &sa) < 0 || stat(pb, &sb) < 0)
		return -errno;
	return sa.st_ino == sb.st_ino && sa.st_dev == sb.st_dev;
}
