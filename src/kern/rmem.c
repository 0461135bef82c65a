#include "kern/rmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

enum { PAGE = 4096 };

int rmem_read(pid_t tid, struct raddr from, void *to, size_t n)
{
	struct iovec l = { to, n }, r = { (void *)(uintptr_t)from.v, n };
	ssize_t got = process_vm_readv(tid, &l, 1, &r, 1, 0);
	if (got < 0)
		return -errno;
	return (size_t)got == n ? 0 : -EFAULT;
}

int rmem_write(pid_t tid, struct raddr to, const void *from, size_t n)
{
	struct iovec l = { (void *)(uintptr_t)from, n }, r = { (void *)(uintptr_t)to.v, n };
	ssize_t put = process_vm_writev(tid, &l, 1, &r, 1, 0);
	if (put < 0)
		return -errno;
	return (size_t)put == n ? 0 : -EFAULT;
}

int rmem_str(pid_t tid, struct raddr from, char *to, size_t size)
{
	/* Up to the end of each page: the next one need not be mapped. */
	size_t n = 0;
	while (n < size) {
		size_t want = PAGE - ((from.v + n) & (PAGE - 1));
		if (want > size - n)
			want = size - n;
		int rc = rmem_read(tid, (struct raddr){ from.v + n }, to + n, want);
		if (rc < 0)
			return rc;
		const char *end = memchr(to + n, 0, want);
		if (end)
			return (int)(end - to);
		n += want;
	}
	return -E2BIG;
}

static int buf_room(char **buf, size_t *cap, size_t need)
{
	if (need <= *cap)
		return 0;
	size_t c = *cap ? *cap : PAGE;
	while (c < need)
		c *= 2;
	char *p = realloc(*buf, c);
	if (!p)
		return -ENOMEM;
	*buf = p;
	*cap = c;
	return 0;
}

/* One string onto the end of buf. */
static int str_append(pid_t tid, struct raddr from, char **buf, size_t *buf_n, size_t *cap, size_t limit)
{
	for (;;) {
		size_t want = PAGE - (from.v & (PAGE - 1));
		if (*buf_n + want > limit + PAGE)
			return -E2BIG;
		int rc = buf_room(buf, cap, *buf_n + want);
		if (rc < 0)
			return rc;
		rc = rmem_read(tid, from, *buf + *buf_n, want);
		if (rc < 0)
			return rc;
		const char *end = memchr(*buf + *buf_n, 0, want);
		if (end) {
			*buf_n = (size_t)(end - *buf) + 1;
			return *buf_n > limit ? -E2BIG : 0;
		}
		*buf_n += want;
		from.v += want;
	}
}

int rmem_strv(pid_t tid, struct raddr array, char **buf, size_t *buf_n, size_t limit, uint32_t *ret_n)
{
	size_t cap = *buf_n;
	uint64_t ptrs[64];
	uint32_t n = 0;

	*ret_n = 0;
	if (!array.v)
		return 0;
	for (;;) {
		/* As many pointers as the page holds, at most 64. */
		size_t k = (PAGE - (array.v & (PAGE - 1))) / sizeof ptrs[0];
		if (k > 64)
			k = 64;
		if (k == 0)
			k = 1; /* a pointer across two pages */
		int rc = rmem_read(tid, array, ptrs, k * sizeof ptrs[0]);
		if (rc < 0)
			return rc;
		for (size_t i = 0; i < k; i++) {
			if (!ptrs[i]) {
				*ret_n = n;
				return 0;
			}
			rc = str_append(tid, (struct raddr){ ptrs[i] }, buf, buf_n, &cap, limit);
			if (rc < 0)
				return rc;
			n++;
		}
		array.v += k * sizeof ptrs[0];
	}
}
