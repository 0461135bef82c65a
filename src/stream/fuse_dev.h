/* The raw FUSE protocol: mounting without a place in any tree, answers, notifications. Any thread. */
#pragma once

#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* Since Linux 6.6; Debian 12's headers do not have it. Bit 36 of the INIT flags. */
#define FUSE_DEV_DIRECT_IO_ALLOW_MMAP (1ull << 36)

/* Since Linux 6.9: requests can be sent again, and then have this bit in their number. */
#define FUSE_DEV_HAS_RESEND (1ull << 39)
#define FUSE_DEV_UNIQUE_RESEND (1ull << 63)

enum {
	FUSE_DEV_WRITE_MAX = 1 << 20,
	FUSE_DEV_PAGES_MAX = 256,
	FUSE_DEV_BUF_SIZE = FUSE_DEV_WRITE_MAX + (64 << 10), /* for one request */
};

/* A new FUSE file system that is attached nowhere: *ret_dev talks to the kernel (non-blocking), *ret_mnt is its root for openat.
 * It lives as long as the descriptors and files opened below; when *ret_dev is closed all users get errors. Needs CAP_SYS_ADMIN
 * and /dev/fuse. On 0 both are owned by the caller. */
int fuse_dev_mount(int *ret_dev, int *ret_mnt, struct err *e);

/* The device number of mnt, without a request to its server. -errno. */
int fuse_dev_number(int mnt, dev_t *ret);

/* Answers a request: error is 0 or -errno. -ENOENT: nobody waits for it any more; other -errno: the file system is gone. */
int fuse_dev_reply(int dev, uint64_t unique, int error, const void *p, size_t n);

/* As fuse_dev_reply with success and two pieces. */
int fuse_dev_reply2(int dev, uint64_t unique, const void *head, size_t head_n, const void *p, size_t n);

/* Wakes those who poll the file with handle kh. */
int fuse_dev_notify_poll(int dev, uint64_t kh);

/* Makes the kernel send all requests that were read and not answered again, marked. Since Linux 6.9. */
int fuse_dev_notify_resend(int dev);

/* Makes the kernel forget a name; may block while a lookup in parent is under way, so never on the thread that answers. */
int fuse_dev_notify_inval_entry(int dev, uint64_t parent, const char *name);

/* Answers INIT with what we want of what the kernel offers. *ret_has_resend says whether fuse_dev_notify_resend works. */
int fuse_dev_reply_init(int dev, uint64_t unique, const struct fuse_init_in *in, size_t in_size, int *ret_has_resend);
