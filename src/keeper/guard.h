/* The lease watchdog: freezes the announced space when the end of its lease has passed, whatever pandod does.
 *
 * pandod freezes and thaws the space too, so it is said who wins: the guard freezes whenever the end has passed; it thaws only what it
 * froze itself, and only when the end lies in the future again. Both look at the same file, which pandod writes before it thaws and
 * before it freezes for want of a lease; the guard looks again after each thing it did, so whatever it does late is put right.
 *
 * An end that was once read counts until another one is there: a lease file that is begun anew (pandod starts again) or unreadable
 * takes nothing back. A space whose lease was never seen is left alone: pandod has not begun to count.
 *
 * Recipe: guard_init; guard_watch; poll guard->timer for POLLIN and call guard_step then. Main thread. */
#pragma once

#include <stdint.h>

#include "keeper/proto.h"
#include "space/create.h"

struct guard {
	int timer;              /* owned; timerfd of CLOCK_BOOTTIME */
	struct space_ends ends; /* init 0: nothing is watched */
	char lease[KEEPER_LEASE_SIZE];
	int is_known;           /* until_ms has been read once for this space */
	uint64_t until_ms;
	int is_frozen;          /* by us */
	int is_told;            /* that it cannot be frozen */
};

/* 0 or -errno. */
int guard_init(struct guard *g);
void guard_fini(struct guard *g);

/* Watches this space (copied; only init, cgroup and freezer_v2 count) from now on. NULL: none. The same space again, said by
 * another pandod, keeps what is known. */
void guard_watch(struct guard *g, const struct space_ends *ends, const char *lease);

/* Looks, does what is needed and sets the timer. */
void guard_step(struct guard *g);
