/* Processes from outside: who still lives, running programs in other network namespaces. Single-threaded programs only.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "dev/trial.h"

/* Fills *ret for a living pid. -ESRCH when there is none (a zombie counts as none). */
int proc_identify(pid_t pid, struct dev_proc *ret);

/* Does exactly this process live? */
int proc_alive(const struct dev_proc *p);

/* A pidfd of exactly this process, owned by the caller; -ESRCH when it is gone. */
int proc_open(const struct dev_proc *p, int *ret_fd);

/* Opens /proc/PID/ns/net. On 0 the caller owns *ret_fd. */
int proc_netns(const struct dev_proc *p, int *ret_fd, struct err *e);

/* Waits until the process behind a pidfd has ended. -ETIMEDOUT after ms. */
int proc_wait_gone(int pidfd, int ms);

/* Runs argv (searched in PATH) with input on its standard input, in the network namespace netns_fd (-1: ours), and
 * waits at most 10 s. 0 when it exits with 0; else -EIO (-ENOENT: no such program) with its words in e. */
int proc_run(int netns_fd, char *const argv[], const char *input, struct err *e);

/* Milliseconds left until a clock_ms() time, at least 0. */
int proc_left(uint64_t until_ms);

/* Sleeps one step of a poll loop: 1 ms at first, growing to 20 ms. */
void proc_nap(unsigned *step);

/* Reads a small file whole, with a final 0; the number of bytes or -errno. */
ssize_t file_read(int at_fd, const char *path, char *buf, size_t size);

/* Writes text to an existing file by one write(2). */
int file_write(const char *path, const char *text);
