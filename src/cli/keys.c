#include "cli/keys.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/relayint.h"

/* raw: all that is typed is the command's.
 *
 * mirror: others may read the same terminal: a pager behind a pipe, another command of the pipeline, the shell afterwards. So a line stays in the
 * terminal until our command wants it: when another program has changed the terminal's modes, it is that program's; else pandod is
 * asked whether any process waits for input ("tty-wanted"). If it cannot tell, a command with the terminal as its standard input gets the
 * line at once, others only when nobody else has taken it for a while. Lines go into the pty one by one, each when the one before has been
 * read: in EXTPROC mode the pty does not keep them apart. */

enum {
	OTHERS_MS = 100, /* somebody else's modes are on the terminal: look again after this */
	PATIENCE_MS = 300,
	ASK_AGAIN_MS = 20, /* after the first no; doubled up to ... */
	ASK_AGAIN_MAX_MS = 200,
	UNREAD_MS = 5, /* the pty's reader has not read the line before */
};

static int is_mirror(const struct relay *r)
{
	return r->term->way == TERM_MIRROR;
}

static int may_look(const struct relay *r, uint64_t now)
{
	return r->master >= 0 && r->term->fd >= 0 && r->foreground && !r->exited && r->in_at == r->in_n && now >= r->keys_ms && !r->wanted_id;
}

void keys_poll(const struct relay *r, uint64_t now, short *master_events, short *term_events)
{
	if (may_look(r, now))
		*term_events |= POLLIN;
	if (r->in_at < r->in_n)
		*master_events |= POLLOUT;
}

int keys_timer(const struct relay *r, uint64_t now, int timeout)
{
	if (r->master < 0 || !r->foreground || r->in_at < r->in_n || now >= r->keys_ms)
		return timeout;
	int ms = (int)(r->keys_ms - now);
	return timeout < 0 || ms < timeout ? ms : timeout;
}

static void put(struct relay *r)
{
	while (r->in_at < r->in_n) {
		ssize_t n = write(r->master, r->in + r->in_at, r->in_n - r->in_at);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r->in_at = r->in_n; /* the session has hung up: nobody will read it */
		else
			r->in_at += (size_t)n;
	}
}

static int line_mode(const struct relay *r)
{
	return is_mirror(r) && (r->term->pty.c_lflag & ICANON);
}

/* Whether an earlier line is still unread. */
static int unread(const struct relay *r)
{
	int n = 0;
	return line_mode(r) && r->slave >= 0 && ioctl(r->slave, FIONREAD, &n) == 0 && n > 0;
}

static void take(struct relay *r)
{
	r->unread_ms = 0;
	ssize_t n = read(r->term->fd, r->in, sizeof r->in);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		r->keys_ms = clock_ms() + OTHERS_MS; /* hung up (SIGHUP comes as well), or in the background since the last look */
		r->foreground = term_foreground(r->term);
		return;
	}
	r->in_at = 0;
	r->in_n = (size_t)n;
	if (n == 0 && line_mode(r)) { /* ^D at the start of a line: this character alone is an end of file in EXTPROC mode, too */
		r->in[0] = (char)r->term->pty.c_cc[VEOF];
		r->in_n = 1;
	} else if (n == 0) {
		r->keys_ms = clock_ms() + (is_mirror(r) ? ASK_AGAIN_MS : OTHERS_MS);
	}
	put(r);
}

/* Keys are there. Whose? */
static void decide(struct relay *r)
{
	uint64_t now = clock_ms();
	if (!is_mirror(r)) {
		take(r);
		return;
	}
	if (unread(r)) {
		r->keys_ms = now + UNREAD_MS;
		return;
	}
	if (!term_may_read(r->term)) {
		r->foreground = term_foreground(r->term);
		r->keys_ms = now + OTHERS_MS;
		return;
	}
	if (r->wanted_known >= 0 && r->ctl) {
		r->wanted_id = relay_send(r, json_pack("{s:s}", "cmd", "tty-wanted"));
		if (r->wanted_id)
			return;
	}
	if (r->unread_ms == 0)
		r->unread_ms = now;
	if (r->term->stdin_is || now - r->unread_ms >= PATIENCE_MS)
		take(r);
	else
		r->keys_ms = now + PATIENCE_MS / 4;
}

void keys_turn(struct relay *r, short master_events, short term_events)
{
	if (master_events & POLLOUT)
		put(r);
	if ((term_events & (POLLIN | POLLHUP | POLLERR)) && may_look(r, clock_ms()))
		decide(r);
}

void keys_answered(struct relay *r, const json_t *answer)
{
	r->wanted_id = 0;
	if (!json_is_true(json_object_get(answer, "ok"))) {
		r->wanted_known = -1;
		return; /* the keys are still there: the next turn decides without pandod */
	}
	r->wanted_known = 1;
	if (json_is_true(json_object_get(answer, "wanted"))) {
		r->wanted_no = 0;
		if (may_look(r, clock_ms()) && term_may_read(r->term))
			take(r);
		return;
	}
	uint64_t ms = ASK_AGAIN_MS;
	for (unsigned i = 0; i < r->wanted_no && ms < ASK_AGAIN_MAX_MS; i++)
		ms *= 2;
	r->wanted_no++;
	r->keys_ms = clock_ms() + (ms < ASK_AGAIN_MAX_MS ? ms : ASK_AGAIN_MAX_MS);
}

void keys_flush(struct relay *r)
{
	r->in_at = r->in_n = 0;
	if (r->term->fd >= 0 && term_may_read(r->term))
		(void)tcflush(r->term->fd, TCIFLUSH); /* a terminal that is gone has nothing to flush */
}

void keys_give_back(struct relay *r)
{
	char keys[4096];
	size_t n = 0;
	if (r->term->way != TERM_RAW || r->slave < 0 || !r->term->changed)
		return;
	struct termios raw;
	if (tcgetattr(r->master, &raw) == 0) {
		cfmakeraw(&raw); /* else an unfinished line could not be read */
		(void)tcsetattr(r->master, TCSANOW, &raw);
		ssize_t k = read(r->slave, keys, sizeof keys - sizeof r->in);
		n = k > 0 ? (size_t)k : 0;
	}
	memcpy(keys + n, r->in + r->in_at, r->in_n - r->in_at);
	n += r->in_n - r->in_at;
	term_leave(r->term);
	term_push_back(r->term, keys, n);
}
