/* A small companion process of `pando run`, in the same process group.
 *
 * It does three things that the client cannot:
 *  - tell whether a signal was sent to the client alone (kill PID) or to its group (kill %1, timeout): all signals are blocked in the
 *    companion, so one that was sent to the group is pending there. The kernel signals the younger member first: when the client
 *    has got it, so has the companion.
 *  - wake the client from a stop when its command has ended or gone on meanwhile.
 *  - give the terminal back its modes when the client was killed. */
#pragma once

#include <sys/types.h>
#include <termios.h>

#include "base/err.h"

struct sentinel_shared;

struct sentinel {
	pid_t pid; /* 0: none */
	int sock;  /* owned */
	struct sentinel_shared *shared;
};

/* Starts it; all signals must be blocked already. tty: the terminal or -1 (stays the caller's). */
int sentinel_start(struct sentinel *s, int tty, struct err *e);

/* Whether sig has been sent to the whole group since the last question about it. */
int sentinel_had(struct sentinel *s, int sig);

/* From now on the client is sent SIGCONT when fd is readable; fd -1: not any more. */
void sentinel_watch(struct sentinel *s, int fd);

/* What the terminal is to be given back when the client dies; NULL: nothing. */
void sentinel_modes(struct sentinel *s, const struct termios *modes);

/* Ends it. */
void sentinel_stop(struct sentinel *s);
