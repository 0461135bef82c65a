#include "node/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { TTY_GID = 5 };

int pty_open(int root_fd, uid_t uid, const struct run_request *r, int *ret_master, int *ret_slave, struct err *e)
{
	int zero = 0;
	_cleanup_(close_p) int master = openat(root_fd, "dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0)
		return err_set(e, -errno, "a terminal: dev/pts/ptmx of the space: %m");
	if (ioctl(master, TIOCSPTLCK, &zero) < 0)
		return err_set(e, -errno, "a terminal: TIOCSPTLCK: %m");
	/* Without O_CLOEXEC: this ioctl leaves that in the description's own flags, and fdinfo then shows it for every descriptor. */
	_cleanup_(close_p) int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	if (slave < 0 || fcntl(slave, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(e, -errno, "a terminal: TIOCGPTPEER: %m");
	if (fchown(slave, uid, TTY_GID) < 0 || fchmod(slave, 0620) < 0)
		return err_set(e, -errno, "a terminal: its owner: %m");
	if (tcsetattr(slave, TCSANOW, &r->termios) < 0)
		return err_set(e, -errno, "a terminal: its settings: %m");
	if (ioctl(master, TIOCSWINSZ, &r->win) < 0)
		return err_set(e, -errno, "a terminal: its size: %m");
	*ret_master = take_fd(&master);
	*ret_slave = take_fd(&slave);
	return 0;
}
