#include "kern/notify.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

int notify_recv(int listener, struct seccomp_notif *ret)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };
	int n = poll(&p, 1, 0);
	if (n < 0)
		return -errno;
	if (!(p.revents & POLLIN))
		return p.revents & POLLHUP ? -EPIPE : -EAGAIN; /* POLLERR only says that a signal hit us while the list was locked */
	memset(ret, 0, sizeof *ret);
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, ret) < 0 ? -errno : 0;
}

static int answer(int listener, uint64_t id, int64_t val, int error, uint32_t flags)
{
	struct seccomp_notif_resp r = { .id = id, .val = val, .error = -error, .flags = flags };
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r) < 0 ? -errno : 0;
}

int notify_continue(int listener, uint64_t id)
{
	return answer(listener, id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

int notify_return(int listener, uint64_t id, int64_t val, int error)
{
	return answer(listener, id, error ? 0 : val, error, 0);
}

int notify_valid(int listener, uint64_t id)
{
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) < 0 ? -errno : 0;
}

int notify_addfd(int listener, uint64_t id, int fd, int at, int cloexec, int finish)
{
	struct seccomp_notif_addfd a = {
		.id = id,
		.srcfd = (uint32_t)fd,
		.newfd = at >= 0 ? (uint32_t)at : 0,
		.newfd_flags = cloexec ? 02000000 /* O_CLOEXEC */ : 0,
		.flags = (at >= 0 ? SECCOMP_ADDFD_FLAG_SETFD : 0u) | (finish ? SECCOMP_ADDFD_FLAG_SEND : 0u),
	};
	int rc = ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &a);
	return rc < 0 ? -errno : rc;
}

void notify_sync(int listener)
{
	(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1ul); /* only an optimisation */
}
