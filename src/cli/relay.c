#include "cli/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/keys.h"
#include "cli/relayint.h"

/* Happy path: bytes go from the pty to the terminal and back, until the event "exited"; then what is left in the pty is shown, and the
 * terminal given back.
 * Stops: the event "stopped" stops us as well, by the same signal, after the terminal was given back; SIGCONT continues both.
 * Failures: pandod goes away: the bytes go on, we try to come back; the terminal hangs up: the command gets SIGHUP, we wait on;
 * pandod came back without knowing the command: we end with an error. */

enum {
	SEND_MS = 2000,
	RETRY_MS = 200,
	LOOK_MS = 250, /* in the background: are we in the foreground by now? */
	MASTER_PAUSE_MS = 50,
};

void relay_pandod_gone(struct relay *r)
{
	ctl_client_close(r->ctl);
	r->ctl = NULL;
	r->wanted_id = r->reattach_id = 0;
	r->retry_ms = clock_ms() + RETRY_MS;
}

json_int_t relay_send(struct relay *r, json_t *req)
{
	if (!r->ctl || !req || json_object_set_new(req, "id", json_integer(++r->last_id)) < 0 ||
	    ctl_client_send(r->ctl, req, NULL, 0, SEND_MS, NULL) < 0) {
		if (r->ctl && req)
			relay_pandod_gone(r);
		json_decref(req);
		return 0;
	}
	json_decref(req);
	return r->last_id;
}

/* ---- pandod ---- */

static void reattach(struct relay *r)
{
	r->retry_ms = clock_ms() + RETRY_MS;
	if (ctl_client_open(NULL, &r->ctl, NULL) < 0)
		return;
	r->reattach_id = relay_send(r, json_pack("{s:s, s:i, s:s}", "cmd", "reattach", "pid", (int)r->pid, "cookie", r->cookie));
}

static void reattached(struct relay *r, const json_t *a)
{
	r->reattach_id = 0;
	if (json_is_true(json_object_get(a, "ok"))) {
		const char *state = json_string_value(json_object_get(a, "state"));
		if (state && strcmp(state, "stopped") == 0)
			r->stop_signal = (int)json_integer_value(json_object_get(a, "signal"));
		return;
	}
	json_int_t code = json_integer_value(json_object_get(a, "errno"));
	const char *words = json_string_value(json_object_get(a, "error"));
	if (code == ESRCH || code == EACCES || code == EPERM)
		(void)err_set(&r->lost, -ESRCH, "what became of process %d is not known: %s", (int)r->pid, words ? words : "pandod was restarted");
	else
		relay_pandod_gone(r); /* not ready for us yet: again, later */
}

static void on_answer(struct relay *r, const json_t *a)
{
	json_int_t id = json_integer_value(json_object_get(a, "id"));
	if (id && id == r->reattach_id)
		reattached(r, a);
	else if (id && id == r->wanted_id)
		keys_answered(r, a);
	/* else the answer to a signal: ESRCH when it came too late, as with kill(2) by anybody */
}

static void on_event(struct relay *r, const json_t *ev, const char *name)
{
	if (strcmp(name, "exited") == 0) {
		r->exited = 1;
		r->status = (int)json_integer_value(json_object_get(ev, "status"));
	} else if (strcmp(name, "stopped") == 0) {
		json_int_t sig = json_integer_value(json_object_get(ev, "signal"));
		r->stop_signal = sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU ? (int)sig : SIGSTOP;
	} else if (strcmp(name, "continued") == 0) {
		r->stop_signal = 0;
	}
}

static void pandod_read(struct relay *r)
{
	while (r->ctl && !r->exited) {
		_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
		int rc = ctl_client_next(r->ctl, 0, &m, NULL);
		if (rc == 0)
			return;
		if (rc < 0) {
			relay_pandod_gone(r);
			return;
		}
		const char *event = json_string_value(json_object_get(m.json, "event"));
		if (event)
			on_event(r, m.json, event);
		else
			on_answer(r, m.json);
	}
}

/* ---- output ---- */

static void packet(struct relay *r, unsigned char control)
{
	if (control & TIOCPKT_FLUSHREAD)
		keys_flush(r);
	if (control & TIOCPKT_IOCTL)
		term_follow(r->term, r->master);
	sentinel_modes(&r->watch, r->term->changed ? &r->term->initial : NULL);
}

/* Reads the pty once. 1 when something came, 0 when nothing is there. */
static int master_read(struct relay *r)
{
	char *p = r->out + 1; /* one byte before for a CR that was held back */
	int mirror = r->term->way == TERM_MIRROR;
	ssize_t n = read(r->master, p, RELAY_OUT);
	if (n <= 0) {
		if (term_held_cr(r->term)) {
			r->out[0] = '\r';
			r->out_at = 0;
			r->out_n = 1;
			return 1;
		}
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			r->master_ms = clock_ms() + MASTER_PAUSE_MS; /* no process has it open, for now */
		return 0;
	}
	if (mirror && p[0] != TIOCPKT_DATA) {
		packet(r, (unsigned char)p[0]);
		return 1;
	}
	if (mirror) { /* without the control byte there is room for a held CR */
		n--;
		p++;
	}
	size_t m = term_unprocess(r->term, p, (size_t)n);
	r->out_at = (size_t)(p - r->out);
	r->out_n = r->out_at + m;
	return 1;
}

/* Puts what waits onto the terminal; what has no terminal any more is dropped. */
static void term_write(struct relay *r)
{
	while (r->out_at < r->out_n) {
		if (r->term->fd < 0) {
			r->out_at = r->out_n;
			return;
		}
		ssize_t n = write(r->term->fd, r->out + r->out_at, r->out_n - r->out_at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			term_lost(r->term);
		else
			r->out_at += (size_t)n;
	}
}

/* ---- signals ---- */

static void send_signal(struct relay *r, int sig, const char *to)
{
	(void)relay_send(r, json_pack("{s:s, s:i, s:s}", "cmd", "signal", "signal", sig, "to", to)); /* without pandod nobody can */
}

static void from_terminal(struct relay *r, int sig)
{
	/* The pty's own way: to its foreground group, by the kernel. */
	if (r->master >= 0 && (sig == SIGINT || sig == SIGQUIT || sig == SIGTSTP) && ioctl(r->master, TIOCSIG, sig) == 0)
		return;
	send_signal(r, sig, r->master >= 0 ? "foreground" : "group");
}

static void size_follow(struct relay *r)
{
	struct winsize w;
	term_size(r->term, &w);
	if (r->master >= 0 && r->term->fd >= 0)
		(void)ioctl(r->master, TIOCSWINSZ, &w); /* the kernel tells the foreground group */
}

static void back_to_terminal(struct relay *r)
{
	r->foreground = term_foreground(r->term);
	if (!r->foreground || r->master < 0)
		return;
	term_enter(r->term, r->master);
	sentinel_modes(&r->watch, r->term->changed ? &r->term->initial : NULL);
	size_follow(r);
}

static void on_continued(struct relay *r, const struct signalfd_siginfo *si)
{
	if (r->watch.pid > 0 && si->ssi_code <= 0 && si->ssi_pid == (uint32_t)r->watch.pid)
		return; /* only woken, to hear of an event */
	r->stop_signal = 0;
	back_to_terminal(r);
	send_signal(r, SIGCONT, "group");
}

static void on_signal(struct relay *r, const struct signalfd_siginfo *si)
{
	int sig = (int)si->ssi_signo;
	switch (sig) {
	case SIGCHLD:
	case SIGPIPE:
	case SIGURG:
	case SIGTTIN:
	case SIGTTOU:
		return;
	case SIGWINCH:
		size_follow(r);
		return;
	case SIGCONT:
		on_continued(r, si);
		return;
	default:
		break;
	}
	if (!r->ctl && r->term->way != TERM_RAW && (sig == SIGINT || sig == SIGTERM || sig == SIGQUIT || sig == SIGHUP)) {
		/* Nobody there to forward it to, and we must not be unstoppable. */
		r->status = sig;
		r->exited = 1;
		return;
	}
	if (si->ssi_code > 0) /* SI_KERNEL: typed, or the terminal has hung up */
		from_terminal(r, sig);
	else
		send_signal(r, sig, sentinel_had(&r->watch, sig) ? "group" : "process");
}

static void signals_read(struct relay *r)
{
	struct signalfd_siginfo si[8];
	ssize_t n = read(r->sigfd, si, sizeof si);
	for (size_t i = 0; n > 0 && i < (size_t)n / sizeof *si && !r->exited; i++)
		on_signal(r, &si[i]);
}

/* ---- stopping ---- */

/* Stops this process as its command was stopped. Returns when it goes on: SIGCONT is then pending. */
static void stop_self(struct relay *r)
{
	int sig = r->stop_signal;
	sigset_t one, pending;
	(void)sigemptyset(&one);
	(void)sigaddset(&one, sig);

	term_leave(r->term);
	sentinel_modes(&r->watch, NULL);
	sentinel_watch(&r->watch, r->ctl ? ctl_client_fd(r->ctl) : -1);
	struct sigaction dfl = { .sa_handler = SIG_DFL }, was;
	(void)sigaction(sig, &dfl, &was); /* for SIGSTOP there is nothing to set */
	(void)kill(getpid(), sig);
	if (sig != SIGSTOP)
		(void)sigprocmask(SIG_UNBLOCK, &one, NULL); /* here we stop */
	(void)sigprocmask(SIG_BLOCK, &one, NULL);
	if (sig != SIGSTOP)
		(void)sigaction(sig, &was, NULL);
	sentinel_watch(&r->watch, -1);

	if (sigpending(&pending) == 0 && sigismember(&pending, SIGCONT) != 1) {
		/* We did not stop: our group is orphaned, there is no shell to continue us. Then neither may the command. */
		r->stop_signal = 0;
		back_to_terminal(r);
		send_signal(r, SIGCONT, "group");
	}
}

/* ---- the loop ---- */

static int clip(uint64_t at, uint64_t now, int timeout)
{
	int ms = at <= now ? 0 : at - now > 60000 ? 60000 : (int)(at - now);
	return timeout < 0 || ms < timeout ? ms : timeout;
}

/* Everything that has to happen at a certain time: returns how long the loop may sleep. */
static int timers(struct relay *r)
{
	uint64_t now = clock_ms();
	int timeout = -1;
	if (!r->ctl) {
		if (now >= r->retry_ms)
			reattach(r);
		if (!r->ctl)
			timeout = clip(r->retry_ms, now, timeout);
	}
	if (r->master >= 0 && r->term->is_ctty && !r->foreground && r->term->fd >= 0) {
		back_to_terminal(r);
		if (!r->foreground)
			timeout = clip(now + LOOK_MS, now, timeout);
	}
	if (r->master >= 0 && now < r->master_ms)
		timeout = clip(r->master_ms, now, timeout);
	return keys_timer(r, now, timeout);
}

enum { P_CTL, P_SIG, P_MASTER, P_TERM, P_N };

static void poll_set(struct relay *r, struct pollfd p[P_N])
{
	uint64_t now = clock_ms();
	int out_free = r->out_at == r->out_n;
	p[P_CTL] = (struct pollfd){ r->ctl ? ctl_client_fd(r->ctl) : -1, POLLIN, 0 };
	p[P_SIG] = (struct pollfd){ r->sigfd, POLLIN, 0 };
	p[P_MASTER] = (struct pollfd){ r->master, 0, 0 };
	p[P_TERM] = (struct pollfd){ r->term->fd, 0, 0 };
	if (out_free)
		p[P_MASTER].events |= POLLIN | POLLPRI;
	else
		p[P_TERM].events |= POLLOUT;
	if (now < r->master_ms)
		p[P_MASTER].fd = -1;
	keys_poll(r, now, &p[P_MASTER].events, &p[P_TERM].events);
	if (!p[P_MASTER].events)
		p[P_MASTER].fd = -1; /* a hang-up would be reported all the same, for ever */
	if (!p[P_TERM].events)
		p[P_TERM].fd = -1;
}

/* One turn. Signals come first: they must not wait for a busy pty. */
static void turn(struct relay *r)
{
	struct pollfd p[P_N];
	int timeout = timers(r);
	poll_set(r, p);
	if (poll(p, P_N, timeout) < 0)
		return; /* EINTR: after a stop */
	if (p[P_SIG].revents)
		signals_read(r);
	if (p[P_MASTER].revents & (POLLIN | POLLPRI | POLLHUP | POLLERR) && r->out_at == r->out_n)
		(void)master_read(r);
	term_write(r);
	keys_turn(r, p[P_MASTER].revents, p[P_TERM].revents);
	if (p[P_CTL].revents)
		pandod_read(r);
}

/* Shows what is left in the pty: what was written before the event that we have just got. Waits for a terminal that is held up, but listens
 * to signals meanwhile. */
static void drain(struct relay *r)
{
	for (int more = 1; more && r->master >= 0 && r->term->fd >= 0;) {
		term_write(r);
		if (r->out_at < r->out_n) {
			struct pollfd p[2] = { { r->term->fd, POLLOUT, 0 }, { r->sigfd, POLLIN, 0 } };
			if (poll(p, 2, -1) > 0 && p[1].revents) {
				struct signalfd_siginfo si;
				if (read(r->sigfd, &si, sizeof si) > 0 && (si.ssi_signo == SIGTERM || si.ssi_signo == SIGHUP))
					return; /* whoever wants us gone has waited long enough */
			}
			continue;
		}
		more = master_read(r);
	}
}

static int relay_start(struct relay *r, struct err *e)
{
	sigset_t all;
	(void)sigfillset(&all);
	if (sigprocmask(SIG_SETMASK, &all, NULL) < 0)
		return err_set(e, -errno, "sigprocmask: %m");
	r->sigfd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (r->sigfd < 0)
		return err_set(e, -errno, "signalfd: %m");
	if (r->master >= 0) {
		int fl = fcntl(r->master, F_GETFL), on = 1;
		if (fl < 0 || fcntl(r->master, F_SETFL, fl | O_NONBLOCK) < 0)
			return err_set(e, -errno, "the pty: %m");
		r->slave = ioctl(r->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
		if (r->term->way == TERM_MIRROR && ioctl(r->master, TIOCPKT, &on) < 0)
			return err_set(e, -errno, "the pty: %m");
	}
	int rc = sentinel_start(&r->watch, r->term->fd, e);
	if (rc < 0)
		return rc;
	back_to_terminal(r);
	if (r->master >= 0)
		term_follow(r->term, r->master); /* what happened before packet mode */
	return 0;
}

int relay_run(struct ctl_client *ctl, pid_t pid, const char *cookie, int master, struct term *term, int *ret_status, struct err *e)
{
	struct relay *r = calloc(1, sizeof *r);
	if (!r) {
		ctl_client_close(ctl);
		(void)close_fd(master);
		return err_set(e, -ENOMEM, "no memory");
	}
	*r = (struct relay){ .ctl = ctl, .pid = pid, .master = master, .slave = -1, .term = term, .sigfd = -1, .watch = { .sock = -1 } };
	(void)strncpy(r->cookie, cookie, sizeof r->cookie - 1);
	int rc = relay_start(r, e);
	while (rc == 0 && !r->exited && !r->lost.code) {
		pandod_read(r); /* what came together with an earlier answer is in no socket any more */
		if (r->exited || r->lost.code)
			break;
		if (r->stop_signal) {
			drain(r);
			stop_self(r);
			signals_read(r);
		}
		turn(r);
	}
	if (rc == 0) {
		drain(r);
		keys_give_back(r);
		*ret_status = r->status;
		rc = r->lost.code;
		if (rc < 0)
			(void)err_set(e, rc, "%s", r->lost.text);
	}
	term_leave(term);
	sentinel_stop(&r->watch);
	ctl_client_close(r->ctl);
	r->master = close_fd(r->master);
	r->slave = close_fd(r->slave);
	r->sigfd = close_fd(r->sigfd);
	free(r);
	return rc;
}
