#include "kern/nspid.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/cleanup.h"

#define NS_GET_PID_FROM_PIDNS_ _IOR(0xb7, 0x6, int)
#define NS_GET_PID_IN_PIDNS_ _IOR(0xb7, 0x8, int)
#define NS_GET_TGID_IN_PIDNS_ _IOR(0xb7, 0x9, int)

int nspid_init(struct nspid *n, pid_t init)
{
	char path[64];
	(void)snprintf(path, sizeof path, "/proc/%d/ns/pid", init);
	n->ns_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (n->ns_fd < 0)
		return -errno;
	n->has_ioctl = ioctl(n->ns_fd, NS_GET_PID_IN_PIDNS_, (unsigned long)init) > 0;
	return 0;
}

void nspid_fini(struct nspid *n)
{
	n->ns_fd = close_fd(n->ns_fd);
}

/* The line "name:\t..." of /proc/PID/status: its last number (the innermost namespace's). */
static int status_last(pid_t outer, const char *name)
{
	char path[64], line[512];
	(void)snprintf(path, sizeof path, "/proc/%d/status", outer);
	_cleanup_(fclose_p) FILE *f = fopen(path, "re");
	if (!f)
		return -ESRCH;
	size_t n = strlen(name);
	while (fgets(line, sizeof line, f)) {
		if (strncmp(line, name, n) != 0)
			continue;
		const char *last = strrchr(line, '\t');
		const char *first = strchr(line, '\t');
		if (!last || first == last)
			return -ESRCH; /* one number only: not in an inner namespace */
		return atoi(last + 1);
	}
	return -ESRCH;
}

static int same_ns(const struct nspid *n, pid_t outer)
{
	char path[64];
	struct stat a, b;
	(void)snprintf(path, sizeof path, "/proc/%d/ns/pid", outer);
	return fstat(n->ns_fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

int nspid_tid(const struct nspid *n, pid_t outer)
{
	if (n->has_ioctl) {
		int rc = ioctl(n->ns_fd, NS_GET_PID_IN_PIDNS_, (unsigned long)outer);
		return rc > 0 ? rc : -ESRCH;
	}
	return status_last(outer, "NSpid:");
}

int nspid_tgid(const struct nspid *n, pid_t outer)
{
	if (n->has_ioctl) {
		int rc = ioctl(n->ns_fd, NS_GET_TGID_IN_PIDNS_, (unsigned long)outer);
		return rc > 0 ? rc : -ESRCH;
	}
	return status_last(outer, "NStgid:");
}

int nspid_outer(const struct nspid *n, pid_t inner)
{
	if (n->has_ioctl) {
		int rc = ioctl(n->ns_fd, NS_GET_PID_FROM_PIDNS_, (unsigned long)inner);
		return rc > 0 ? rc : -ESRCH;
	}
	_cleanup_(closedir_p) DIR *d = opendir("/proc");
	if (!d)
		return -errno;
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		pid_t outer = atoi(e->d_name);
		if (outer > 0 && same_ns(n, outer) && status_last(outer, "NSpid:") == inner)
			return outer;
	}
	return -ESRCH;
}
