/* Ownership: scope-bound cleanup and explicit take. Any thread. */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

/* Cleanup handlers: each accepts the empty value (-1, NULL) and leaves errno alone. */
void close_p(int *fd);
void free_p(void *p);
void fclose_p(FILE **f);
void closedir_p(DIR **d);

/* Closes fd if it is one, and returns -1: fd = close_fd(fd). errno is left alone. */
int close_fd(int fd);

/* Moves the value out: *fd is -1 afterwards. */
static inline int take_fd(int *fd)
{
	int r = *fd;
	*fd = -1;
	return r;
}

/* Moves the pointer out: the variable is NULL afterwards. */
#define take_ptr(p)                \
	({                         \
		__auto_type pp_ = &(p);     \
		__auto_type r_ = *pp_;      \
		*pp_ = NULL;       \
		r_;                \
	})
