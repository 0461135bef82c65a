#include "stream/fuse_dev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"

static int config(int ctx, const char *key, const char *value)
{
	int cmd = value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
	return fsconfig(ctx, (unsigned)cmd, key, value, 0) < 0 ? -errno : 0;
}

int fuse_dev_mount(int *ret_dev, int *ret_mnt, struct err *e)
{
	_cleanup_(close_p) int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (dev < 0)
		return err_set(e, -errno, "open /dev/fuse: %m");
	_cleanup_(close_p) int ctx = fsopen("fuse", FSOPEN_CLOEXEC);
	if (ctx < 0)
		return err_set(e, -errno, "fsopen fuse: %m");
	char fd[16];
	(void)snprintf(fd, sizeof fd, "%d", dev);
	const struct {
		const char *key, *value;
	} opts[] = { { "source", "pando" },   { "fd", fd },
		     { "rootmode", "40555" }, { "user_id", "0" },
		     { "group_id", "0" },     { "allow_other", NULL },
		     /* The kernel checks modes and owners when a program opens /proc/self/fd/N again. */
		     { "default_permissions", NULL } };
	for (size_t i = 0; i < sizeof opts / sizeof *opts; i++) {
		int rc = config(ctx, opts[i].key, opts[i].value);
		if (rc < 0)
			return err_set(e, rc, "fuse option %s: %s", opts[i].key, strerror(-rc));
	}
	if (fsconfig(ctx, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_set(e, -errno, "create the fuse file system: %m");
	int mnt = fsmount(ctx, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	if (mnt < 0)
		return err_set(e, -errno, "fsmount fuse: %m");
	*ret_mnt = mnt;
	*ret_dev = take_fd(&dev);
	return 0;
}

int fuse_dev_number(int mnt, dev_t *ret)
{
	struct statx sx;
	/* DONT_SYNC: what the kernel made up for the root at the mount is enough, and nobody serves requests yet. */
	if (statx(mnt, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &sx) < 0)
		return -errno;
	*ret = makedev(sx.stx_dev_major, sx.stx_dev_minor);
	return 0;
}

static int send_iov(int dev, struct fuse_out_header *h, struct iovec *v, int n)
{
	size_t len = 0;
	v[0] = (struct iovec){ .iov_base = h, .iov_len = sizeof *h };
	for (int i = 0; i < n; i++)
		len += v[i].iov_len;
	h->len = (uint32_t)len;
	ssize_t rc;
	do
		rc = writev(dev, v, n);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

/* A request that was sent again is known to the kernel by its number with the mark only; callers need not know which one was. */
static int send_reply(int dev, struct fuse_out_header *h, struct iovec *v, int n)
{
	int rc = send_iov(dev, h, v, n);
	if (rc != -ENOENT)
		return rc;
	h->unique |= FUSE_DEV_UNIQUE_RESEND;
	return send_iov(dev, h, v, n);
}

static struct iovec piece(const void *p, size_t n)
{
	union {
		const void *in;
		void *out;
	} u = { .in = p }; /* writev does not write to it */
	return (struct iovec){ .iov_base = u.out, .iov_len = n };
}

int fuse_dev_reply(int dev, uint64_t unique, int error, const void *p, size_t n)
{
	struct fuse_out_header h = { .unique = unique, .error = error };
	struct iovec v[2] = { [1] = piece(p, n) };
	return send_reply(dev, &h, v, error ? 1 : 2);
}

int fuse_dev_reply2(int dev, uint64_t unique, const void *head, size_t head_n, const void *p, size_t n)
{
	struct fuse_out_header h = { .unique = unique };
	struct iovec v[3] = { [1] = piece(head, head_n), [2] = piece(p, n) };
	return send_reply(dev, &h, v, 3);
}

int fuse_dev_notify_poll(int dev, uint64_t kh)
{
	struct fuse_out_header h = { .error = FUSE_NOTIFY_POLL };
	struct fuse_notify_poll_wakeup_out out = { .kh = kh };
	struct iovec v[2] = { [1] = piece(&out, sizeof out) };
	return send_iov(dev, &h, v, 2);
}

int fuse_dev_notify_resend(int dev)
{
	enum { NOTIFY_RESEND = 7 }; /* not in Debian 12's headers */
	struct fuse_out_header h = { .error = NOTIFY_RESEND };
	struct iovec v[1];
	return send_iov(dev, &h, v, 1);
}

int fuse_dev_notify_inval_entry(int dev, uint64_t parent, const char *name)
{
	struct fuse_out_header h = { .error = FUSE_NOTIFY_INVAL_ENTRY };
	struct fuse_notify_inval_entry_out out = { .parent = parent, .namelen = (uint32_t)strlen(name) };
	struct iovec v[3] = { [1] = piece(&out, sizeof out), [2] = piece(name, strlen(name) + 1) };
	return send_iov(dev, &h, v, 3);
}

int fuse_dev_reply_init(int dev, uint64_t unique, const struct fuse_init_in *in, size_t in_size, int *ret_has_resend)
{
	*ret_has_resend = 0;
	if (in->major != FUSE_KERNEL_VERSION || in->minor < 31 || in_size < offsetof(struct fuse_init_in, flags2))
		return fuse_dev_reply(dev, unique, -EPROTO, NULL, 0);
	uint64_t offered = in->flags;
	if (in->flags & FUSE_INIT_EXT && in_size >= offsetof(struct fuse_init_in, unused))
		offered |= (uint64_t)in->flags2 << 32;
	uint64_t want = offered & (FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_FLOCK_LOCKS | FUSE_AUTO_INVAL_DATA |
				   FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_INIT_EXT | FUSE_DEV_DIRECT_IO_ALLOW_MMAP | FUSE_DEV_HAS_RESEND);
	*ret_has_resend = (offered & FUSE_DEV_HAS_RESEND) != 0;
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = in->max_readahead,
		.flags = (uint32_t)want,
		.flags2 = (uint32_t)(want >> 32),
		.max_background = UINT16_MAX, /* a release must never queue behind blocked reads */
		.congestion_threshold = UINT16_MAX,
		.max_write = FUSE_DEV_WRITE_MAX,
		.time_gran = 1,
		.max_pages = FUSE_DEV_PAGES_MAX,
	};
	return fuse_dev_reply(dev, unique, 0, &out, sizeof out);
}
