/* A set of node ids (1..NODE_MAX), by value. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "transport/links.h"

struct nodeset {
	uint64_t w[NODE_MAX / 64]; /* id n is bit (n - 1) % 64 of w[(n - 1) / 64] */
};

static inline bool nodeset_has(const struct nodeset *s, uint16_t node)
{
	return node >= 1 && node <= NODE_MAX && (s->w[(node - 1) / 64] >> ((node - 1) % 64) & 1);
}

static inline void nodeset_add(struct nodeset *s, uint16_t node)
{
	if (node >= 1 && node <= NODE_MAX)
		s->w[(node - 1) / 64] |= UINT64_C(1) << ((node - 1) % 64);
}

static inline void nodeset_del(struct nodeset *s, uint16_t node)
{
	if (node >= 1 && node <= NODE_MAX)
		s->w[(node - 1) / 64] &= ~(UINT64_C(1) << ((node - 1) % 64));
}

static inline unsigned nodeset_count(const struct nodeset *s)
{
	unsigned n = 0;
	for (unsigned i = 0; i < NODE_MAX / 64; i++)
		n += (unsigned)__builtin_popcountll(s->w[i]);
	return n;
}

static inline bool nodeset_equal(const struct nodeset *a, const struct nodeset *b)
{
	for (unsigned i = 0; i < NODE_MAX / 64; i++)
		if (a->w[i] != b->w[i])
			return false;
	return true;
}

static inline bool nodeset_empty(const struct nodeset *s)
{
	return nodeset_count(s) == 0;
}

/* How many of a set of n make a majority. */
static inline unsigned nodeset_majority(const struct nodeset *s)
{
	return nodeset_count(s) / 2 + 1;
}
