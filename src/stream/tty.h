/* Ioctls that can be done on another node's description: what they read and write at the caller's pointer. Any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { TTY_ARG_MAX = 16384 }; /* more than an encoded size can say */

struct tty_ioctl {
	uint32_t in, out; /* bytes read from and written to the caller's memory */
	int is_value;     /* the argument is a number, not a pointer */
};

/* Looks up a command: the table of terminals' and pipes' ioctls, then commands that encode their size and direction (only those
 * without pointers inside can work; the device says). 0, or -ENOTTY for one that is not known or must not be passed on
 * (TIOCSTI, TIOCSCTTY, ...). */
int tty_ioctl_find(uint32_t cmd, struct tty_ioctl *ret);

/* Whether the kernel itself carries the argument of cmd to a FUSE server (size and direction are in the number). */
int tty_ioctl_is_encoded(uint32_t cmd);

/* Does the ioctl on fd: data holds in bytes and receives out bytes (size TTY_ARG_MAX). Result of ioctl(2) or -errno. TIOCGPGRP and
 * TIOCGSID are looked up in /proc when fd is not the terminal of our own session. May block. */
int tty_ioctl_run(int fd, uint32_t cmd, uint64_t value, uint8_t *data);
