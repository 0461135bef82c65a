/* The time between the start and the end of a command of `pando run`: terminal, signals, stops, events of pandod. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "cli/sentinel.h"
#include "cli/term.h"
#include "ctl/client.h"

enum { RELAY_COOKIE = 64, RELAY_OUT = 8192, RELAY_IN = 2048 };

struct relay {
	struct ctl_client *ctl; /* owned; NULL while pandod is away */
	pid_t pid;              /* of the command, in the space */
	char cookie[RELAY_COOKIE];
	int master;             /* owned; -1: no terminal */
	int slave;              /* owned; only to ask how much is unread, and so that the master never reports an end; -1: not available */
	struct term *term;      /* borrowed */
	struct sentinel watch;  /* owned */
	int sigfd;              /* owned */

	char out[RELAY_OUT + 2]; /* from the pty, not yet on the terminal: out_at to out_n */
	size_t out_at, out_n;
	char in[RELAY_IN];       /* typed, not yet in the pty */
	size_t in_at, in_n;
	uint64_t keys_ms;        /* no look at the keyboard before this time */
	uint64_t unread_ms;      /* since when keys wait that nobody has taken; 0: none */
	uint64_t master_ms;      /* the pty had nothing to give (hung up): no look before */

	int wanted_known;        /* 0: not asked yet, 1: pandod answers tty-wanted, -1: it does not */
	json_int_t wanted_id;    /* of the question under way, 0: none */
	unsigned wanted_no;      /* times that the answer was no, in a row */
	json_int_t reattach_id;
	json_int_t last_id;

	uint64_t retry_ms;       /* next attempt to reach pandod */
	int foreground;          /* as of the last look */
	int stop_signal;         /* the command is stopped, and we have to stop too; 0: no */
	int exited;
	int status;              /* wait status */
	struct err lost;         /* code != 0: the command's fate cannot be known any more */
};

/* Relays until the command has ended (0, *ret_status is as from waitpid) or pandod knows nothing of it any more (-ESRCH, words in e). All
 * signals are blocked meanwhile. ctl, master (-1: none) are taken over; the terminal is as before afterwards. */
int relay_run(struct ctl_client *ctl, pid_t pid, const char *cookie, int master, struct term *term, int *ret_status, struct err *e);
