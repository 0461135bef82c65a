#include "keeper/guard.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "member/lease_file.h"

enum {
	/* The file changes by stores into a mapping, of which nobody is told. An end is looked at when it comes; a lease without an
	 * end may get one, which is never nearer than the shortest dead-after-ms allows. */
	LOOK_MS = 250,
	FROZEN_LOOK_MS = 100, /* how long a space may stand that could run again */
	LOOKS = 4,            /* the end may move while we act; then the timer comes soon */
};

int guard_init(struct guard *g)
{
	*g = (struct guard){ .timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK) };
	return g->timer < 0 ? -errno : 0;
}

void guard_fini(struct guard *g)
{
	g->timer = close_fd(g->timer);
}

static void timer_set(const struct guard *g, uint64_t at_ms)
{
	struct itimerspec t = { .it_value = { .tv_sec = (time_t)(at_ms / 1000), .tv_nsec = (long)(at_ms % 1000) * 1000000 } };
	if (timerfd_settime(g->timer, TFD_TIMER_ABSTIME, &t, NULL) < 0)
		log_error("watchdog of the lease: timer: %m");
}

static void timer_arm(const struct guard *g)
{
	uint64_t now = lease_now_ms();
	if (!g->ends.init)
		timer_set(g, 0); /* off */
	else if (g->is_frozen || (g->is_known && g->until_ms <= now))
		timer_set(g, now + FROZEN_LOOK_MS);
	else if (!g->is_known || g->until_ms - now > INT32_MAX)
		timer_set(g, now + LOOK_MS);
	else
		timer_set(g, g->until_ms);
}

void guard_watch(struct guard *g, const struct space_ends *ends, const char *lease)
{
	int is_same = ends && ends->init == g->ends.init && strcmp(ends->cgroup, g->ends.cgroup) == 0;
	if (!is_same)
		g->is_known = g->is_frozen = g->is_told = 0;
	g->ends = ends ? *ends : (struct space_ends){ 0 };
	(void)snprintf(g->lease, sizeof g->lease, "%s", ends ? lease : "");
	guard_step(g);
}

static void lease_read(struct guard *g)
{
	uint32_t incarnation;
	uint64_t until_ms;
	if (lease_file_read(g->lease, &incarnation, &until_ms) < 0)
		return;
	g->is_known = 1;
	g->until_ms = until_ms;
}

static void cannot_freeze(struct guard *g, const struct err *e)
{
	if (!g->is_told)
		log_error("the lease of the space has ended, and it cannot be frozen: %s; others may begin anew what runs here, trying on", e->text);
	g->is_told = 1;
}

/* 1: something changed, look again. Freezing is repeated as long as the end has passed: pandod, stuck between the writing of a new end
 * and the thawing, may thaw when that end has passed too. */
static int act(struct guard *g)
{
	struct err e = { 0 };
	int want = g->is_known && g->until_ms <= lease_now_ms();
	if (!want && !g->is_frozen)
		return 0;
	int rc = space_freeze(&g->ends, want, &e);
	if (rc < 0 && want) {
		cannot_freeze(g, &e);
		return 0;
	}
	g->is_told = 0;
	if (want == g->is_frozen)
		return 0;
	if (rc < 0)
		log_error("the space stays frozen though it has a lease again: %s", e.text);
	else
		log_notice("%s", want ? "the lease of the space has ended: frozen" : "the space has a lease again: thawed");
	g->is_frozen = want;
	return 1;
}

void guard_step(struct guard *g)
{
	uint64_t expirations;
	(void)!read(g->timer, &expirations, sizeof expirations); /* nothing is there when the timer did not bring us here */
	for (int i = 0; g->ends.init && i < LOOKS; i++) {
		lease_read(g);
		if (!act(g))
			break;
	}
	timer_arm(g);
}
