#include "ctl/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

void ctl_peer_fini(struct ctl_peer *p)
{
	free(p->gids);
	p->gids = NULL;
	p->pidfd = close_fd(p->pidfd);
}

static int peer_groups(int fd, struct ctl_peer *p)
{
	socklen_t size = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0 || size == 0)
		return 0; /* none */
	if (errno != ERANGE)
		return -errno;
	p->gids = malloc(size);
	if (!p->gids)
		return -ENOMEM;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, p->gids, &size) < 0)
		return -errno;
	p->n_gids = size / sizeof(gid_t);
	return 0;
}

int ctl_peer_read(int fd, struct ctl_peer *p)
{
	struct ucred uc;
	socklen_t size = sizeof uc;
	*p = (struct ctl_peer){ .pidfd = -1 };
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &uc, &size) < 0)
		return -errno;
	p->pid = uc.pid;
	p->uid = uc.uid;
	p->gid = uc.gid;
	size = sizeof p->pidfd;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &p->pidfd, &size) < 0) {
		/* Older kernels. The number may be somebody else's by now only if the peer has ended since its connect. */
		p->pidfd = uc.pid > 0 ? (int)syscall(SYS_pidfd_open, uc.pid, 0) : -1;
	}
	return peer_groups(fd, p);
}

int ctl_peer_copy(const struct ctl_peer *from, struct ctl_peer *to)
{
	*to = *from;
	to->gids = NULL;
	to->pidfd = -1;
	if (from->n_gids > 0) {
		to->gids = malloc(from->n_gids * sizeof *to->gids);
		if (!to->gids)
			return -ENOMEM;
		memcpy(to->gids, from->gids, from->n_gids * sizeof *to->gids);
	}
	if (from->pidfd >= 0) {
		to->pidfd = fcntl(from->pidfd, F_DUPFD_CLOEXEC, 3);
		if (to->pidfd < 0) {
			int rc = -errno;
			ctl_peer_fini(to);
			return rc;
		}
	}
	return 0;
}
