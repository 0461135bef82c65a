#include "transport/gate.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

struct gate_source {
	uint8_t key[8]; /* 0,0,0,1 and the IPv4 address, or the first half of the IPv6 address */
	unsigned inside;
	unsigned skipped;
	uint64_t logged_ms; /* 0: never */
	uint64_t used_ms;
	int used;
};

struct gate {
	unsigned per_source, total, inside;
	struct gate_source shared;
	struct gate_source *all; /* owned, GATE_SOURCES */
};

int gate_new(unsigned per_source, unsigned total, struct gate **ret)
{
	struct gate *g = calloc(1, sizeof *g);
	if (!g)
		return -ENOMEM;
	g->all = calloc(GATE_SOURCES, sizeof *g->all);
	if (!g->all) {
		free(g);
		return -ENOMEM;
	}
	g->per_source = per_source;
	g->total = total;
	*ret = g;
	return 0;
}

struct gate *gate_free(struct gate *g)
{
	if (g)
		free(g->all);
	free(g);
	return NULL;
}

static void key_of(const struct sockaddr *sa, uint8_t ret[static 8])
{
	memset(ret, 0, 8);
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in v4;
		memcpy(&v4, sa, sizeof v4);
		ret[3] = 1;
		memcpy(ret + 4, &v4.sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 v6;
		memcpy(&v6, sa, sizeof v6);
		if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
			ret[3] = 1;
			memcpy(ret + 4, v6.sin6_addr.s6_addr + 12, 4);
		} else {
			memcpy(ret, v6.sin6_addr.s6_addr, 8);
		}
	}
}

/* An entry may be given to another source when nothing of it is worth remembering. */
static int is_stale(const struct gate_source *s, uint64_t now_ms)
{
	return !s->used || (!s->inside && now_ms - s->used_ms > GATE_LOG_EVERY_MS);
}

/* A linear search: 4 KiB of keys, once per connection of a stranger. */
static struct gate_source *source_of(struct gate *g, const struct sockaddr *sa, uint64_t now_ms)
{
	uint8_t key[8];
	struct gate_source *free_one = NULL;

	key_of(sa, key);
	for (size_t i = 0; i < GATE_SOURCES; i++) {
		struct gate_source *s = &g->all[i];
		if (s->used && memcmp(s->key, key, sizeof key) == 0) {
			s->used_ms = now_ms;
			return s;
		}
		if (!free_one && is_stale(s, now_ms))
			free_one = s;
	}
	if (!free_one)
		return &g->shared;
	*free_one = (struct gate_source){ .used = 1, .used_ms = now_ms };
	memcpy(free_one->key, key, sizeof key);
	return free_one;
}

int gate_enter(struct gate *g, const struct sockaddr *sa, uint64_t now_ms, struct gate_source **ret)
{
	struct gate_source *s = source_of(g, sa, now_ms);
	if (s->inside >= g->per_source)
		return -EDQUOT;
	if (g->inside >= g->total)
		return -EBUSY;
	s->inside++;
	g->inside++;
	*ret = s;
	return 0;
}

struct gate_source *gate_leave(struct gate *g, struct gate_source *s)
{
	if (s) {
		s->inside--;
		g->inside--;
	}
	return NULL;
}

int gate_may_log(struct gate *g, const struct sockaddr *sa, uint64_t now_ms, unsigned *ret_skipped)
{
	struct gate_source *s = source_of(g, sa, now_ms);
	*ret_skipped = s->skipped;
	if (s->logged_ms && now_ms - s->logged_ms < GATE_LOG_EVERY_MS) {
		s->skipped++;
		return 0;
	}
	s->logged_ms = now_ms ? now_ms : 1;
	s->skipped = 0;
	return 1;
}

unsigned gate_inside(const struct gate *g)
{
	return g->inside;
}
