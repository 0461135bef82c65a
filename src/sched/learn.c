/* Each exit is entered twice: under (program, directory) and under (program, 0). An average follows the last few runs:
 * the first value as it is, then a quarter of each new one; the second run counts half, since the first often has cold
 * caches. */
#include "sched/learn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1 /* out of memory leaves hh.tbl NULL instead of ending the program */
#include <uthash.h>

enum { ASKED_MAX = 64 };

struct entry {
	struct learn_key key;
	double cpu_us, wall_us;
	uint32_t n, asked; /* exits seen; questions since the last one */
	UT_hash_handle hh;
};

struct learn {
	struct entry *all; /* in order of use, oldest first */
	uint32_t max;
};

/* FNV-1a; no program chooses these keys to harm anyone but itself, and the table is small. */
static uint64_t mix(uint64_t h, const void *p, size_t n)
{
	for (const unsigned char *c = p; n--; c++)
		h = (h ^ *c) * 0x100000001b3u;
	return h;
}

struct learn_key learn_key_make(uint64_t dev, uint64_t ino, const char *dir)
{
	uint64_t basis = 0xcbf29ce484222325u;
	struct learn_key k = { .program = mix(mix(basis, &dev, sizeof dev), &ino, sizeof ino) };
	k.dir = dir ? mix(basis, dir, strlen(dir)) | 1 : 0; /* 0 is kept for "anywhere" */
	return k;
}

int learn_new(uint32_t max, struct learn **ret)
{
	struct learn *l = calloc(1, sizeof *l);
	if (!l)
		return -ENOMEM;
	l->max = max ? max : LEARN_MAX;
	*ret = l;
	return 0;
}

struct learn *learn_free(struct learn *l)
{
	if (!l)
		return NULL;
	struct entry *e, *next;
	HASH_ITER(hh, l->all, e, next)
	{
		HASH_DEL(l->all, e);
		free(e);
	}
	free(l);
	return NULL;
}

/* Adds an entry as the youngest, or frees it when there is no memory, and returns NULL. */
static struct entry *entry_add(struct learn *l, struct entry *e)
{
	HASH_ADD(hh, l->all, key, sizeof e->key, e);
	if (!e->hh.tbl) {
		free(e);
		return NULL;
	}
	return e;
}

/* Finds an entry and makes it the youngest. */
static struct entry *entry_use(struct learn *l, struct learn_key key)
{
	struct entry *e;
	HASH_FIND(hh, l->all, &key, sizeof key, e);
	if (e &&
	    e->hh.next) { /* else it is the youngest already, and the table must not become empty, which frees it */
		HASH_DEL(l->all, e);
		e = entry_add(l, e);
	}
	return e;
}

static struct entry *entry_make(struct learn *l, struct learn_key key)
{
	struct entry *e = entry_use(l, key);
	if (e)
		return e;
	if (HASH_COUNT(l->all) >= l->max) {
		e = l->all;
		HASH_DEL(l->all, e);
		memset(e, 0, sizeof *e);
	} else {
		e = calloc(1, sizeof *e);
		if (!e)
			return NULL; /* it stays unknown */
	}
	e->key = key;
	return entry_add(l, e);
}

static void entry_learn(struct learn *l, struct learn_key key, double wall_us, double cpu_us, int remote)
{
	struct entry *e = entry_make(l, key);
	if (!e)
		return;
	double a = e->n == 0 ? 1 : e->n == 1 ? 0.5 : 0.25;
	e->cpu_us += a * (cpu_us - e->cpu_us);
	if (!remote || e->n == 0)
		e->wall_us += a * (wall_us - e->wall_us);
	e->n += e->n < UINT32_MAX;
	e->asked = 0;
}

void learn_exit(struct learn *l, struct learn_key key, uint64_t wall_us, uint64_t cpu_us, int remote)
{
	entry_learn(l, key, (double)wall_us, (double)cpu_us, remote);
	if (key.dir)
		entry_learn(l, (struct learn_key){ .program = key.program }, (double)wall_us, (double)cpu_us, remote);
}

static uint32_t us32(double v)
{
	return v >= (double)UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

struct learn_guess learn_ask(struct learn *l, struct learn_key key)
{
	struct learn_guess unknown = { .kind = LEARN_UNKNOWN, .intensity = 1 };
	struct entry *e = entry_use(l, key);
	if (!e && key.dir)
		e = entry_use(l, (struct learn_key){ .program = key.program });
	if (!e)
		return unknown;
	if (e->asked >= ASKED_MAX)
		return unknown;
	e->asked++;
	double intensity = e->wall_us > 0 ? e->cpu_us / e->wall_us : 1;
	return (struct learn_guess){
		.kind = e->cpu_us < LEARN_BRIEF_US ? LEARN_BRIEF : LEARN_LONG,
		.cpu_us = us32(e->cpu_us),
		.wall_us = us32(e->wall_us),
		.intensity = intensity < 0.05 ? 0.05
			     : intensity > 1  ? 1
					      : intensity,
	};
}

uint32_t learn_count(const struct learn *l)
{
	return HASH_COUNT(l->all);
}
