#include "cli/term.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Our own open description of the terminal, so that O_NONBLOCK does not change that of others. */
static int reopen(int fd, int is_ctty)
{
	char path[64];
	(void)snprintf(path, sizeof path, is_ctty ? "/dev/tty" : "/proc/self/fd/%d", fd);
	int own = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (own < 0 && is_ctty) {
		(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		own = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	}
	/* Not ours to open (after su): then with blocking writes, which hurt nobody but us. */
	return own >= 0 ? own : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static enum term_way way_of(const struct term *t)
{
	return t->is_ctty && term_is(t, 0) && term_is(t, 1) && getpgrp() == getpid() ? TERM_RAW : TERM_MIRROR;
}

int term_open(struct term *t, struct err *e)
{
	*t = (struct term){ .fd = -1 };
	int fd = -1;
	struct stat st;
	for (int i = 0; i <= 2 && fd < 0; i++)
		if (isatty(i))
			fd = i;
	_cleanup_(close_p) int ctty = fd < 0 ? open("/dev/tty", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC) : -1;
	if (fd < 0)
		fd = ctty;
	if (fd < 0)
		return 0; /* none: cron, a service */
	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "fstat of the terminal: %m");
	t->dev = st.st_rdev;
	t->is_ctty = tcgetpgrp(fd) >= 0;
	t->fd = fd == ctty ? take_fd(&ctty) : reopen(fd, t->is_ctty);
	if (t->fd < 0 || tcgetattr(t->fd, &t->initial) < 0)
		return err_set(e, -errno, "the terminal: %m");
	t->stdin_is = term_is(t, 0);
	t->way = way_of(t);
	t->set = t->start = t->initial;
	if (t->way == TERM_MIRROR)
		t->start.c_lflag |= EXTPROC;
	t->pty = t->start;
	return 0;
}

void term_fini(struct term *t)
{
	term_leave(t);
	t->fd = close_fd(t->fd);
	t->way = TERM_NONE;
}

int term_is(const struct term *t, int fd)
{
	struct stat st;
	return t->fd >= 0 && isatty(fd) && fstat(fd, &st) == 0 && st.st_rdev == t->dev;
}

int term_wanted(const struct term *t)
{
	return t->fd >= 0;
}

const struct termios *term_start(const struct term *t)
{
	return &t->start;
}

void term_size(const struct term *t, struct winsize *ret)
{
	if (t->fd < 0 || ioctl(t->fd, TIOCGWINSZ, ret) < 0)
		*ret = (struct winsize){};
}

int term_foreground(const struct term *t)
{
	if (t->fd < 0)
		return 0;
	if (!t->is_ctty)
		return 1;
	pid_t pgrp = tcgetpgrp(t->fd);
	return pgrp < 0 || pgrp == getpgrp();
}

static int same_modes(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_lflag == b->c_lflag && memcmp(a->c_cc, b->c_cc, NCCS) == 0;
}

/* What the terminal must be for the pty's modes. Line speed and parity stay the terminal's. */
static struct termios mirrored(const struct term *t)
{
	struct termios m = t->initial;
	m.c_iflag = t->pty.c_iflag;
	m.c_oflag = t->pty.c_oflag;
	m.c_lflag = t->pty.c_lflag & ~(tcflag_t)EXTPROC;
	memcpy(m.c_cc, t->pty.c_cc, NCCS);
	return m;
}

static void set(struct term *t, const struct termios *want)
{
	t->changed = !same_modes(want, &t->initial);
	t->set = *want;
	(void)tcsetattr(t->fd, TCSANOW, want); /* a terminal that has gone is seen by read and write */
}

void term_enter(struct term *t, int master)
{
	if (t->fd < 0 || !term_foreground(t))
		return;
	if (!t->changed && tcgetattr(t->fd, &t->initial) == 0)
		t->set = t->initial;
	struct termios want = t->initial;
	if (t->way == TERM_RAW) {
		cfmakeraw(&want);
		set(t, &want);
		return;
	}
	(void)tcgetattr(master, &t->pty); /* keeps what was seen last if it fails */
	if (same_modes(&t->pty, &t->start))
		return; /* nothing asked for: the terminal stays as it is */
	want = mirrored(t);
	set(t, &want);
}

void term_leave(struct term *t)
{
	struct termios now;
	if (t->fd < 0 || !t->changed || !term_foreground(t))
		return;
	if (t->way == TERM_RAW || (tcgetattr(t->fd, &now) == 0 && same_modes(&now, &t->set)))
		(void)tcsetattr(t->fd, TCSANOW, &t->initial); /* as in set() */
	t->set = t->initial;
	t->changed = 0;
}

void term_follow(struct term *t, int master)
{
	struct termios pty;
	if (t->fd < 0 || t->way != TERM_MIRROR || tcgetattr(master, &pty) < 0)
		return;
	if (!(pty.c_lflag & EXTPROC)) { /* the command has set modes without it: it does not know that bit */
		pty.c_lflag |= EXTPROC;
		(void)tcsetattr(master, TCSANOW, &pty);
	}
	if (same_modes(&pty, &t->pty))
		return;
	t->pty = pty;
	struct termios want = mirrored(t);
	if (term_foreground(t))
		set(t, &want);
}

int term_may_read(const struct term *t)
{
	struct termios now;
	if (t->fd < 0 || !term_foreground(t))
		return 0;
	return t->way == TERM_RAW || (tcgetattr(t->fd, &now) == 0 && same_modes(&now, &t->set));
}

size_t term_unprocess(struct term *t, char *p, size_t n)
{
	if (t->way != TERM_MIRROR)
		return n;
	size_t to = 0;
	int active = (t->pty.c_oflag & OPOST) && (t->pty.c_oflag & ONLCR);
	if (t->cr) {
		memmove(p + 1, p, n);
		p[0] = '\r';
		n++;
		t->cr = 0;
	}
	for (size_t i = 0; i < n; i++) {
		if (active && p[i] == '\r' && i + 1 == n)
			t->cr = 1; /* what follows decides */
		else if (!active || p[i] != '\r' || i + 1 == n || p[i + 1] != '\n')
			p[to++] = p[i];
	}
	return to;
}

int term_held_cr(struct term *t)
{
	int held = t->cr;
	t->cr = 0;
	return held;
}

void term_push_back(struct term *t, const char *p, size_t n)
{
	struct termios now;
	if (n == 0 || t->fd < 0 || !term_foreground(t) || tcgetattr(t->fd, &now) < 0)
		return;
	struct termios quiet = now;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ISIG); /* it has been echoed when it was typed */
	(void)tcsetattr(t->fd, TCSANOW, &quiet); /* then it is seen twice */
	for (size_t i = 0; i < n; i++)
		if (ioctl(t->fd, TIOCSTI, p + i) < 0)
			break; /* not allowed here (dev.tty.legacy_tiocsti): lost, as with any remote terminal */
	(void)tcsetattr(t->fd, TCSANOW, &now);
}

void term_lost(struct term *t)
{
	t->fd = close_fd(t->fd);
	t->way = TERM_NONE;
	t->changed = 0;
}
