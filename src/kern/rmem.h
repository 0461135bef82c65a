/* Reading and writing the memory of another task. Everything read is hostile and may change under the reader. Any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct raddr {
	uint64_t v; /* address in the other task */
};

/* Exactly n bytes: 0, or -EFAULT (also for a part), -ESRCH, -EPERM. */
int rmem_read(pid_t tid, struct raddr from, void *to, size_t n);
int rmem_write(pid_t tid, struct raddr to, const void *from, size_t n);

/* A string of at most size - 1 bytes. Its length, or -EFAULT, -E2BIG. */
int rmem_str(pid_t tid, struct raddr from, char *to, size_t size);

/* An array of string pointers ended by NULL (argv, envp), with its strings, appended one after the other with their NULs to *buf.
 * *ret_n counts them. *buf is grown by realloc; *buf_n is its used size. limit bounds *buf_n: -E2BIG beyond. A NULL array is empty. */
int rmem_strv(pid_t tid, struct raddr array, char **buf, size_t *buf_n, size_t limit, uint32_t *ret_n);
