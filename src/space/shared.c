#include "space/shared.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

int shared_map(int fd, struct shared **ret, struct err *e)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "process table: fstat: %m");
	if (st.st_size != (off_t)sizeof(struct shared))
		return err_set(e, -EINVAL, "process table: %lld bytes, this build has %zu", (long long)st.st_size, sizeof(struct shared));
	struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (s == MAP_FAILED)
		return err_set(e, -errno, "process table: mmap: %m");
	if (s->magic != SHARED_MAGIC || s->size != sizeof *s) {
		(void)munmap(s, sizeof *s);
		return err_set(e, -EINVAL, "process table: of another build");
	}
	*ret = s;
	return 0;
}

int shared_create(int *ret_fd, struct err *e)
{
	_cleanup_(close_p) int fd = memfd_create("pando-table", MFD_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "process table: memfd_create: %m");
	if (ftruncate(fd, (off_t)sizeof(struct shared)) < 0)
		return err_set(e, -errno, "process table: ftruncate: %m");
	const uint32_t head[2] = { SHARED_MAGIC, sizeof(struct shared) };
	if (pwrite(fd, head, sizeof head, 0) != (ssize_t)sizeof head)
		return err_set(e, -EIO, "process table: write: %m");
	*ret_fd = take_fd(&fd);
	return 0;
}

void shared_unmap(struct shared *s)
{
	if (s)
		(void)munmap(s, sizeof *s);
}
