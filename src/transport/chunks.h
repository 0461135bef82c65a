/* A queue of bytes in chunks, for what waits to be written. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct chunk;

struct chunks {
	struct chunk *head, *tail; /* owned */
	size_t n;                  /* bytes */
};

void chunks_fini(struct chunks *c);

/* Adds a copy of n bytes. -ENOMEM: nothing was added. */
int chunks_add(struct chunks *c, const void *p, size_t n);

/* Fills at most max bufs with the first bytes (borrowed: valid until they are dropped). Returns how many. */
unsigned chunks_peek(const struct chunks *c, uv_buf_t *ret, unsigned max);

/* Drops the first n bytes. */
void chunks_drop(struct chunks *c, size_t n);
