#include "base/cleanup.h"

#include <errno.h>

int close_fd(int fd)
{
	if (fd >= 0) {
		int saved = errno;
		(void)close(fd); /* Linux frees the number whatever close says */
		errno = saved;
	}
	return -1;
}

void close_p(int *fd)
{
	*fd = close_fd(*fd);
}

void free_p(void *p)
{
	int saved = errno;
	free(*(void **)p);
	errno = saved;
}

void fclose_p(FILE **f)
{
	if (!*f)
		return;
	int saved = errno;
	(void)fclose(*f); /* for readers only: writers call fclose themselves and look */
	*f = NULL;
	errno = saved;
}

void closedir_p(DIR **d)
{
	if (!*d)
		return;
	int saved = errno;
	(void)closedir(*d);
	*d = NULL;
	errno = saved;
}
