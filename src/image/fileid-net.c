/* Network file systems by device number, from /proc/self/mountinfo: two nodes that mount the same source by the same
 * name have the same files there. Read again when poll says that the mounts changed. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/cleanup.h"
#include "image/fileid-int.h"

enum { NET_MAX = 256 };

struct net_dev {
	uint32_t major, minor;
	uint64_t key;
};

struct fileid_net {
	int fd; /* owned; of mountinfo, for poll */
	int read_once;
	size_t n;
	struct net_dev dev[NET_MAX];
};

static int is_network(const char *type)
{
	static const char *const types[] = { "nfs",    "nfs4",        "cifs",       "smb3", "ceph",   "fuse.glusterfs",
					     "lustre", "gfs2",        "ocfs2",      "gpfs", "beegfs", "orangefs",
					     "afs",    "fuse.cephfs", "fuse.sshfs", "pvfs2" };
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (strcmp(type, types[i]) == 0)
			return 1;
	return 0;
}

struct fileid_net *fileid_net_new(void)
{
	struct fileid_net *n = calloc(1, sizeof *n);
	if (n)
		n->fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	return n;
}

struct fileid_net *fileid_net_free(struct fileid_net *n)
{
	if (n) {
		(void)close_fd(n->fd);
		free(n);
	}
	return NULL;
}

static void mounts_read(struct fileid_net *n)
{
	_cleanup_(fclose_p) FILE *f = fopen("/proc/self/mountinfo", "re");
	_cleanup_(free_p) char *line = NULL;
	size_t cap = 0;
	n->n = 0;
	while (f && n->n < NET_MAX && getline(&line, &cap, f) > 0) {
		/* 36 35 0:50 /root /point options - nfs4 server:/export rw,... */
		char type[64], source[1024];
		struct net_dev d;
		const char *dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*s %*s %u:%u", &d.major, &d.minor) != 2 ||
		    sscanf(dash + 3, "%63s %1023s", type, source) != 2 || !is_network(type))
			continue;
		if (strcmp(type, "nfs4") == 0)
			type[3] = 0; /* one server by two versions of the protocol */
		d.key = XXH3_64bits_withSeed(source, strlen(source), XXH3_64bits(type, strlen(type))) | 1;
		n->dev[n->n++] = d;
	}
}

uint64_t fileid_net_of(struct fileid_net *n, uint32_t dev_major, uint32_t dev_minor)
{
	struct pollfd p = { .fd = n->fd, .events = POLLPRI };
	if (!n->read_once || (n->fd >= 0 && poll(&p, 1, 0) > 0)) {
		mounts_read(n);
		n->read_once = 1;
	}
	for (size_t i = 0; i < n->n; i++)
		if (n->dev[i].major == dev_major && n->dev[i].minor == dev_minor)
			return n->dev[i].key;
	return 0;
}
