/* deps: ctl base */
/* One end of the control socket: the input is what the other end sends, cut by its first byte; now and then with descriptors. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ctl/chan.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Sends one piece; byte 0xfe as its first means: with as many descriptors as the second says. */
static int piece(int fd, const uint8_t *p, size_t n)
{
	int fds[200];
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof fds)];
	} ctl = {};
	size_t n_fds = 0;
	if (n > 2 && p[0] == 0xfe) {
		n_fds = p[1] % 200;
		p += 2;
		n -= 2;
	}
	uint8_t copy[256];
	memcpy(copy, p, n);
	struct iovec iov = { copy, n };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (n_fds > 0) {
		for (size_t i = 0; i < n_fds; i++)
			fds[i] = fd;
		mh.msg_control = ctl.buf;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(cm), fds, sizeof(int) * n_fds);
	}
	return sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -1 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	int fds[2];
	if (n < 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return 0;
	struct chan c;
	if (chan_init(&c, fds[0], CTL_REQUEST_MAX) < 0)
		abort();
	size_t step = p[0] ? p[0] : 1;
	int rc = 0;
	for (size_t at = 1; at < n && rc >= 0; at += step) {
		if (piece(fds[1], p + at, n - at < step ? n - at : step) < 0)
			break;
		while (rc >= 0 && (rc = chan_fill(&c)) == 0) {
			struct ctl_msg m = {};
			while ((rc = chan_next(&c, &m)) > 0) {
				if (!json_is_object(m.json))
					abort();
				ctl_msg_fini(&m);
			}
		}
		if (rc == -EAGAIN)
			rc = 0;
	}
	chan_fini(&c);
	(void)close(fds[1]);
	return 0;
}
