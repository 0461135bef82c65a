#include "stream/tty.h"

#include <asm/termbits.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/serial.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"

/* As the kernel defines it; <sys/ioctl.h> and <asm/termbits.h> cannot both have the C library's. */
enum { TERMIOS_SIZE = sizeof(struct termios), TERMIO_SIZE = 18 };

static const struct {
	uint32_t cmd;
	struct tty_ioctl io;
} tty_table[] = {
	{ TCGETS, { 0, TERMIOS_SIZE, 0 } },
	{ TCSETS, { TERMIOS_SIZE, 0, 0 } },
	{ TCSETSW, { TERMIOS_SIZE, 0, 0 } },
	{ TCSETSF, { TERMIOS_SIZE, 0, 0 } },
	{ TCGETA, { 0, TERMIO_SIZE, 0 } },
	{ TCSETA, { TERMIO_SIZE, 0, 0 } },
	{ TCSETAW, { TERMIO_SIZE, 0, 0 } },
	{ TCSETAF, { TERMIO_SIZE, 0, 0 } },
	{ TIOCGWINSZ, { 0, sizeof(struct winsize), 0 } },
	{ TIOCSWINSZ, { sizeof(struct winsize), 0, 0 } },
	{ TIOCGPGRP, { 0, 4, 0 } },
	{ TIOCSPGRP, { 4, 0, 0 } },
	{ TIOCGSID, { 0, 4, 0 } },
	{ FIONREAD, { 0, 4, 0 } },
	{ TIOCOUTQ, { 0, 4, 0 } },
	{ TIOCMGET, { 0, 4, 0 } },
	{ TIOCMSET, { 4, 0, 0 } },
	{ TIOCMBIS, { 4, 0, 0 } },
	{ TIOCMBIC, { 4, 0, 0 } },
	{ TIOCGSOFTCAR, { 0, 4, 0 } },
	{ TIOCGETD, { 0, 4, 0 } },
	{ TIOCGSERIAL, { 0, sizeof(struct serial_struct), 0 } },
	{ TCSBRK, { 0, 0, 1 } },
	{ TCSBRKP, { 0, 0, 1 } },
	{ TIOCSBRK, { 0, 0, 1 } },
	{ TIOCCBRK, { 0, 0, 1 } },
	{ TCXONC, { 0, 0, 1 } },
	{ TCFLSH, { 0, 0, 1 } },
	{ TIOCEXCL, { 0, 0, 1 } },
	{ TIOCNXCL, { 0, 0, 1 } },
};

/* Typing for others, opening the other side, taking or giving away terminals, redirecting the console: not through a stand-in. */
static const uint32_t tty_refused[] = { TIOCSTI,  TIOCSCTTY, TIOCNOTTY, TIOCCONS, TIOCSETD, TIOCGPTPEER,
					TIOCLINUX, FIOASYNC, FIONBIO,   FIOCLEX,  FIONCLEX, TIOCVHANGUP };

int tty_ioctl_is_encoded(uint32_t cmd)
{
	return _IOC_DIR(cmd) != _IOC_NONE && _IOC_SIZE(cmd) != 0;
}

int tty_ioctl_find(uint32_t cmd, struct tty_ioctl *ret)
{
	for (size_t i = 0; i < sizeof tty_refused / sizeof *tty_refused; i++)
		if (tty_refused[i] == cmd)
			return -ENOTTY;
	for (size_t i = 0; i < sizeof tty_table / sizeof *tty_table; i++)
		if (tty_table[i].cmd == cmd) {
			*ret = tty_table[i].io;
			return 0;
		}
	if (!tty_ioctl_is_encoded(cmd))
		return -ENOTTY;
	*ret = (struct tty_ioctl){ .in = _IOC_DIR(cmd) & _IOC_WRITE ? _IOC_SIZE(cmd) : 0,
				   .out = _IOC_DIR(cmd) & _IOC_READ ? _IOC_SIZE(cmd) : 0 };
	return 0;
}

/* One line of /proc/PID/stat: session and foreground group, when its terminal is dev. */
static int stat_of_tty(const char *pid, dev_t dev, int *ret_session, int *ret_group)
{
	char path[64], line[512];
	(void)snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
	_cleanup_(fclose_p) FILE *f = fopen(path, "re");
	if (!f || !fgets(line, sizeof line, f))
		return -ENOENT;
	const char *p = strrchr(line, ')'); /* the name may hold anything */
	int tty;
	if (!p || sscanf(p + 1, " %*c %*d %*d %d %d %d", ret_session, &tty, ret_group) != 3)
		return -ENOENT;
	unsigned t = (unsigned)tty; /* new_encode_dev */
	return t && makedev((t >> 8) & 0xfff, (t & 0xff) | ((t >> 12) & 0xfff00)) == dev ? 0 : -ENOENT;
}

/* The kernel answers these two only to processes of the terminal's session. The numbers are translated as the innermost pid
 * namespace of the processes there sees them, which is what a process of the space expects. */
static int innermost_pid(int pid, int32_t *ret)
{
	char path[64], line[256];
	(void)snprintf(path, sizeof path, "/proc/%d/status", pid);
	_cleanup_(fclose_p) FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "NSpid:", 6) == 0) {
			const char *p = strrchr(line, '\t');
			*ret = p ? atoi(p + 1) : pid;
			return 0;
		}
	return -ESRCH;
}

static int tty_owner(int fd, uint32_t cmd, uint8_t *data)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISCHR(st.st_mode))
		return -ENOTTY;
	_cleanup_(closedir_p) DIR *d = opendir("/proc");
	if (!d)
		return -errno;
	for (struct dirent *e; (e = readdir(d));) {
		int session, group;
		int32_t n;
		if (e->d_name[0] < '0' || e->d_name[0] > '9' || stat_of_tty(e->d_name, st.st_rdev, &session, &group) < 0)
			continue;
		if (innermost_pid(cmd == TIOCGSID ? session : group, &n) < 0)
			return -ENOTTY;
		memcpy(data, &n, sizeof n);
		return 0;
	}
	return -ENOTTY;
}

int tty_ioctl_run(int fd, uint32_t cmd, uint64_t value, uint8_t *data)
{
	struct tty_ioctl io;
	int rc = tty_ioctl_find(cmd, &io);
	if (rc < 0)
		return rc;
	rc = io.is_value ? ioctl(fd, cmd, (unsigned long)value) : ioctl(fd, cmd, data);
	if (rc < 0)
		rc = -errno;
	if (rc == -ENOTTY && (cmd == TIOCGPGRP || cmd == TIOCGSID))
		rc = tty_owner(fd, cmd, data);
	return rc;
}
