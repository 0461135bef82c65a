#include "transport/deadline.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static void heap_put(struct deadlines *q, size_t i, struct deadline *d)
{
	q->heap[i] = d;
	d->pos = i + 1;
}

static void heap_up(struct deadlines *q, size_t i, struct deadline *d)
{
	while (i && q->heap[(i - 1) / 2]->at_ms > d->at_ms) {
		heap_put(q, i, q->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_put(q, i, d);
}

static void heap_down(struct deadlines *q, size_t i, struct deadline *d)
{
	for (;;) {
		size_t c = 2 * i + 1;
		if (c >= q->n)
			break;
		if (c + 1 < q->n && q->heap[c + 1]->at_ms < q->heap[c]->at_ms)
			c++;
		if (q->heap[c]->at_ms >= d->at_ms)
			break;
		heap_put(q, i, q->heap[c]);
		i = c;
	}
	heap_put(q, i, d);
}

void deadlines_fini(struct deadlines *q)
{
	for (size_t i = 0; i < q->n; i++)
		q->heap[i]->pos = 0;
	free(q->heap);
	*q = (struct deadlines){ 0 };
}

int deadline_set(struct deadlines *q, struct deadline *d, uint64_t at_ms)
{
	if (d->pos) {
		uint64_t was = d->at_ms;
		d->at_ms = at_ms;
		if (at_ms < was)
			heap_up(q, d->pos - 1, d);
		else
			heap_down(q, d->pos - 1, d);
		return 0;
	}
	if (q->n == q->cap) {
		size_t cap = q->cap ? q->cap * 2 : 32;
		struct deadline **heap = realloc(q->heap, cap * sizeof *heap);
		if (!heap)
			return -ENOMEM;
		q->heap = heap;
		q->cap = cap;
	}
	d->at_ms = at_ms;
	heap_up(q, q->n++, d);
	return 0;
}

void deadline_clear(struct deadlines *q, struct deadline *d)
{
	if (!d->pos)
		return;
	size_t i = d->pos - 1;
	assert(i < q->n && q->heap[i] == d);
	struct deadline *last = q->heap[--q->n];
	d->pos = 0;
	if (last == d)
		return;
	if (last->at_ms < d->at_ms)
		heap_up(q, i, last);
	else
		heap_down(q, i, last);
}

struct deadline *deadlines_due(struct deadlines *q, uint64_t now_ms)
{
	if (!q->n || q->heap[0]->at_ms > now_ms)
		return NULL;
	struct deadline *d = q->heap[0];
	deadline_clear(q, d);
	return d;
}

uint64_t deadlines_next(const struct deadlines *q)
{
	return q->n ? q->heap[0]->at_ms : UINT64_MAX;
}
