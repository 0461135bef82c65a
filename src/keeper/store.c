#include <stdlib.h>
#include <string.h>

/* A table that cannot grow must not end the keeper: the new element is then not in it, and no handle of it is set. */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(element) ((element)->fd = -1)

#include "keeper/store.h"

#include <errno.h>

#include "base/cleanup.h"

static struct kept_fd *kept_find(const struct store *s, const char *name)
{
	struct kept_fd *k;
	HASH_FIND_STR(s->all, name, k);
	return k;
}

int store_put(struct store *s, const char *name, int fd)
{
	struct kept_fd *k = kept_find(s, name);
	if (k) {
		(void)close_fd(k->fd);
		k->fd = fd;
		return 0;
	}
	if (s->room->used >= s->room->max || store_count(s) >= s->max)
		return -EDQUOT;
	size_t n = strlen(name) + 1;
	k = malloc(sizeof *k + n);
	if (!k)
		return -ENOMEM;
	k->fd = fd;
	memcpy(k->name, name, n);
	HASH_ADD_STR(s->all, name, k);
	if (k->fd < 0) {
		free(k);
		return -ENOMEM;
	}
	s->room->used++;
	return 0;
}

static void kept_free(struct store *s, struct kept_fd *k)
{
	HASH_DEL(s->all, k);
	(void)close_fd(k->fd);
	free(k);
	s->room->used--;
}

void store_drop(struct store *s, const char *name)
{
	struct kept_fd *k = kept_find(s, name);
	if (k)
		kept_free(s, k);
}

int store_find(const struct store *s, const char *name)
{
	const struct kept_fd *k = kept_find(s, name);
	return k ? k->fd : -ENOENT;
}

const struct kept_fd *store_next(const struct store *s, const struct kept_fd *from, const char *prefix)
{
	size_t n = strlen(prefix);
	const struct kept_fd *k = from ? from->hh.next : s->all;
	while (k && strncmp(k->name, prefix, n) != 0)
		k = k->hh.next;
	return k;
}

unsigned store_count(const struct store *s)
{
	return HASH_COUNT(s->all);
}

void store_clear(struct store *s)
{
	struct kept_fd *k, *next;
	HASH_ITER(hh, s->all, k, next)
		kept_free(s, k);
}
