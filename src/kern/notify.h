/* seccomp user notifications (seccomp_unotify(2)) with the numbers that Debian 12's headers lack. Loop thread. */
#pragma once

#include <stdint.h>

#include <linux/seccomp.h>

/* Receives one notification without blocking (polls first: NOTIF_RECV blocks even on O_NONBLOCK). 0, -EAGAIN when none waits,
 * -ENOENT when the caller died in between, -EPIPE when no task has the filter any more. */
int notify_recv(int listener, struct seccomp_notif *ret);

/* Lets the call go on in the kernel. -ENOENT: the caller is gone. */
int notify_continue(int listener, uint64_t id);

/* The call returns val (error 0) or -error. */
int notify_return(int listener, uint64_t id, int64_t val, int error);

/* 0 while the caller still waits in this call, else -ENOENT. What was read of its memory counts only when asked after. */
int notify_valid(int listener, uint64_t id);

/* Installs fd (which is not O_PATH) in the caller: at number `at` (>= 0, replacing) or the lowest free (-1). With finish the call
 * also returns that number. Returns the number or -errno. */
int notify_addfd(int listener, uint64_t id, int fd, int at, int cloexec, int finish);

/* Asks for synchronous wake-ups between caller and us (6.6); silently nothing on older kernels. */
void notify_sync(int listener);
