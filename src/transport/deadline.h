/* Many deadlines behind one timer: a heap ordered by time. No I/O and no clock in here: the caller brings the time.
 * Loop thread only.
 *
 * Recipe: embed a struct deadline; deadline_set (again and again, it moves), deadline_clear before its memory goes;
 * while ((d = deadlines_due(&q, now_ms))) d->fn(d). */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct deadline {
	uint64_t at_ms;
	size_t pos; /* place in the heap + 1; 0: not set */
	void (*fn)(struct deadline *d);
};

struct deadlines {
	struct deadline **heap; /* owned; the deadlines are borrowed */
	size_t n, cap;
};

void deadlines_fini(struct deadlines *q);

/* Sets or moves d. -ENOMEM (only when it was not set before): d is then not set. */
int deadline_set(struct deadlines *q, struct deadline *d, uint64_t at_ms);
void deadline_clear(struct deadlines *q, struct deadline *d);

/* Takes out the earliest deadline that is at or before now_ms; NULL when there is none. */
struct deadline *deadlines_due(struct deadlines *q, uint64_t now_ms);

/* The earliest time, or UINT64_MAX. */
uint64_t deadlines_next(const struct deadlines *q);
