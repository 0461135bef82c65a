#include "transport/chunks.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_SMALL = 4096 - 64, CHUNK_LARGE = 65536 - 64 };

struct chunk {
	struct chunk *next;
	size_t at, n, cap; /* bytes at..n of data wait */
	uint8_t data[];
};

void chunks_fini(struct chunks *c)
{
	while (c->head) {
		struct chunk *k = c->head;
		c->head = k->next;
		free(k);
	}
	*c = (struct chunks){ 0 };
}

static void append(struct chunk *k, const uint8_t *p, size_t n)
{
	memcpy(k->data + k->n, p, n);
	k->n += n;
}

int chunks_add(struct chunks *c, const void *p, size_t n)
{
	size_t room = c->tail ? c->tail->cap - c->tail->n : 0, first = n < room ? n : room;
	struct chunk *k = NULL;

	if (first < n) {
		size_t cap = n - first > CHUNK_LARGE ? n - first : n - first > CHUNK_SMALL ? (size_t)CHUNK_LARGE : (size_t)CHUNK_SMALL;
		k = malloc(sizeof *k + cap);
		if (!k)
			return -ENOMEM;
		*k = (struct chunk){ .cap = cap };
	}
	if (first)
		append(c->tail, p, first);
	if (k) {
		append(k, (const uint8_t *)p + first, n - first);
		if (c->tail)
			c->tail->next = k;
		else
			c->head = k;
		c->tail = k;
	}
	c->n += n;
	return 0;
}

unsigned chunks_peek(const struct chunks *c, uv_buf_t *ret, unsigned max)
{
	unsigned n = 0;
	for (struct chunk *k = c->head; k && n < max; k = k->next)
		ret[n++] = uv_buf_init((char *)k->data + k->at, (unsigned)(k->n - k->at));
	return n;
}

void chunks_drop(struct chunks *c, size_t n)
{
	assert(n <= c->n);
	c->n -= n;
	while (n) {
		struct chunk *k = c->head;
		size_t part = k->n - k->at < n ? k->n - k->at : n;
		k->at += part;
		n -= part;
		if (k->at < k->n)
			return;
		c->head = k->next;
		if (!c->head)
			c->tail = NULL;
		free(k);
	}
}
