/* The user's terminal, from the point of view of `pando run`.
 *
 * The command gets a pty of its own (a session of the space cannot have the user's terminal as its controlling one), and the
 * client stands between. It must not be noticed by others on the same terminal, so there are two ways:
 *
 *  raw       The client is the terminal's only user: it leads its process group, and its standard input and output are the
 *            terminal. The terminal is raw, everything typed goes to the pty, which does all the rest.
 *  mirror    Anything else: a part of a pipeline (`pando run make | less`), one of many below make or a script. The terminal stays
 *            as it is, and its line discipline does the echo, the editing and the signals, for the pager as for us. The pty is in EXTPROC mode
 *            (it leaves these things to us); a mode that the command sets on its pty (vim, a password) is set on the terminal,
 *            and taken back at the end. Keys are read only when they are ours: see term_may_read.
 *
 * In the background neither touches the terminal, but for output. All functions: one thread. SIGTTOU and SIGTTIN are blocked. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <termios.h>

#include "base/err.h"

enum term_way { TERM_NONE, TERM_RAW, TERM_MIRROR };

struct term {
	int fd;            /* owned: own description, non-blocking where possible; -1: no terminal */
	enum term_way way;
	int is_ctty;       /* our controlling terminal: it has foreground and background */
	int stdin_is;      /* standard input is the terminal */
	dev_t dev;
	struct termios initial; /* as found at the start, or at the last return to the foreground */
	struct termios set;     /* what we set last */
	int changed;            /* the terminal is as in set, not as in initial */
	struct termios start;   /* modes that the pty begins with */
	struct termios pty;     /* mirror: the pty's modes as last seen */
	int cr;                 /* mirror: the output so far ended in a CR, which has been held back */
};

/* Finds the terminal: the first of standard input, output, error that is one, else the controlling terminal, else none. */
int term_open(struct term *t, struct err *e);

/* Gives the terminal back as it was and closes. */
void term_fini(struct term *t);

/* Whether descriptor fd is this terminal; whether the command needs a pty at all; with which modes it is to begin; the window size. */
int term_is(const struct term *t, int fd);
int term_wanted(const struct term *t);
const struct termios *term_start(const struct term *t);
void term_size(const struct term *t, struct winsize *ret);

/* Whether we are in the foreground of it (always, when it is not our controlling one). */
int term_foreground(const struct term *t);

/* Sets the modes for relaying (on the way to the foreground); master is the pty. */
void term_enter(struct term *t, int master);

/* Gives the modes back (before a stop, at the end) if we are in the foreground and nobody else has changed them since. */
void term_leave(struct term *t);

/* mirror: the command may have changed its pty's modes: follows. */
void term_follow(struct term *t, int master);

/* mirror: whether what is typed now is for us: the terminal is in the mode that our command has asked for. Another program on it
 * (a pager) has set modes of its own. */
int term_may_read(const struct term *t);

/* mirror: takes back what the pty's output processing did, which the terminal will do again: CR LF becomes LF. Works in place, returns
 * the new length (n + 1 at most: a CR held back comes first, so p has room for one more). */
size_t term_unprocess(struct term *t, char *p, size_t n);

/* mirror: gives a CR back that was held (when nothing follows it): 1 or 0. */
int term_held_cr(struct term *t);

/* raw, at the end: what was typed and not read by the command goes back into the terminal for whoever reads next, if the kernel lets
 * us (TIOCSTI). */
void term_push_back(struct term *t, const char *p, size_t n);

/* The terminal is gone (hung up): nothing of the above does anything any more. */
void term_lost(struct term *t);
