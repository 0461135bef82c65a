/* Descriptors by name, of one program. No I/O but closing. Main thread. */
#pragma once

#include <stddef.h>
#include <uthash.h>

struct kept_fd {
	int fd; /* owned */
	UT_hash_handle hh;
	char name[]; /* NUL-terminated */
};

/* Room for descriptors, shared by all stores. */
struct store_room {
	unsigned used, max;
};

struct store {
	struct kept_fd *all;     /* owned; hash table */
	struct store_room *room; /* borrowed, outlives the store */
	unsigned max;            /* of this store */
};

/* Keeps fd under name, closing what was there. On 0 fd is the store's. -EDQUOT: no room; -ENOMEM. What was there is then still
 * there. */
int store_put(struct store *s, const char *name, int fd);

/* Closes what is kept under name, if anything. */
void store_drop(struct store *s, const char *name);

/* The descriptor kept under name (borrowed), or -ENOENT. */
int store_find(const struct store *s, const char *name);

/* Walks over the names with a prefix: the first when from is NULL, else the one after from; NULL at the end. Nothing may be put or
 * dropped in between. */
const struct kept_fd *store_next(const struct store *s, const struct kept_fd *from, const char *prefix);

unsigned store_count(const struct store *s);

/* Closes all. */
void store_clear(struct store *s);
