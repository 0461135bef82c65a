/* When a program that has ended is started again. Pure. */
#pragma once

#include <stdint.h>

enum {
	BACKOFF_FIRST_MS = 50,
	BACKOFF_MAX_MS = 2000,
	BACKOFF_RESET_MS = 30000, /* a program that lived so long begins anew: at once */
	BACKOFF_USAGE_MS = 30000, /* EX_USAGE: it will not get better by trying */
};

struct backoff {
	uint32_t next_ms;
};

/* The program ended after lived_ms with this status of waitpid: how long to wait. */
uint32_t backoff_step(struct backoff *b, uint64_t lived_ms, int status);
