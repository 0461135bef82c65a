#include "stream/store.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

/* The memory is an array of chunks of 2 MiB. The first holds the head: what size the slots of each other chunk have. A slot is a head
 * of 16 bytes and the record. Sizes are powers of two from 128 bytes to a whole chunk. Memory that was never used costs nothing. */

enum {
	CHUNK = 2 << 20,
	N_CHUNKS = 512,
	CLASS_MIN = 7, /* 2^7 */
	CLASS_MAX = 21,
	N_CLASSES = CLASS_MAX - CLASS_MIN + 1,
	BIG_CLASS = 16,     /* slots from this size on give their memory back ... */
	BIG_FREE_MAX = 32,  /* ... when so many of the size are free */
	UNCOMMITTED = 0x8000,
};

static const char magic[8] = "pndstrm1";
static const char memory_name[] = "streams.memory";

struct head {
	char magic[8];
	uint32_t version, n_used; /* chunks, this one included */
	uint8_t class[N_CHUNKS];  /* 0: not used */
};

struct slot {
	_Atomic uint32_t type; /* 0: free; with UNCOMMITTED: not found by the next process */
	uint32_t n;
	uint32_t class;
	uint32_t spare;
	uint8_t p[];
};

struct free_slot {
	struct slot head;
	struct free_slot *next;
};

struct store {
	struct store_keep keep;
	int fd;         /* owned */
	int is_unsynced; /* something was dropped */
	uint8_t *base;  /* owned mapping */
	struct free_slot *free[N_CLASSES];
	unsigned n_free[N_CLASSES];
};

static struct head *head_of(struct store *s)
{
	void *p = s->base;
	return p;
}

static void *at(struct store *s, size_t chunk, size_t off)
{
	return s->base + chunk * CHUNK + off;
}

static void slot_release(struct store *s, struct slot *p, unsigned class)
{
	unsigned i = class - CLASS_MIN;
	void *free_room = p;
	struct free_slot *f = free_room;
	if (class >= BIG_CLASS && s->n_free[i] >= BIG_FREE_MAX)
		(void)madvise(p, (size_t)1 << class, MADV_REMOVE); /* zeroed: still free */
	f->next = s->free[i];
	s->free[i] = f;
	s->n_free[i]++;
}

static int chunk_new(struct store *s, unsigned class)
{
	struct head *h = head_of(s);
	if (h->n_used == N_CHUNKS)
		return -ENOMEM;
	size_t chunk = h->n_used;
	h->class[chunk] = (uint8_t)class;
	h->n_used++;
	for (size_t off = CHUNK; off > 0; off -= (size_t)1 << class)
		slot_release(s, at(s, chunk, off - ((size_t)1 << class)), class);
	return 0;
}

/* Builds the lists of free slots from what an earlier process left; what it had not committed is free. */
static void slots_scan(struct store *s)
{
	struct head *h = head_of(s);
	for (size_t c = 1; c < h->n_used; c++) {
		unsigned class = h->class[c];
		if (class < CLASS_MIN || class > CLASS_MAX)
			continue; /* killed between the two stores: lost until the store begins anew */
		for (size_t off = 0; off < CHUNK; off += (size_t)1 << class) {
			struct slot *p = at(s, c, off);
			if (p->type && !(p->type & UNCOMMITTED))
				continue;
			p->type = 0;
			slot_release(s, p, class);
		}
	}
}

static int memory_map(struct store *s, struct err *e)
{
	s->base = mmap(NULL, (size_t)N_CHUNKS * CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, s->fd, 0);
	if (s->base == MAP_FAILED) {
		s->base = NULL;
		return err_set(e, -errno, "map the memory of records: %m");
	}
	(void)madvise(s->base, (size_t)N_CHUNKS * CHUNK, MADV_DONTFORK);
	return 0;
}

static int memory_make(struct store *s, struct err *e)
{
	s->fd = memfd_create("pando-streams", MFD_CLOEXEC);
	if (s->fd < 0 || ftruncate(s->fd, (off_t)N_CHUNKS * CHUNK) < 0)
		return err_set(e, -errno, "make the memory of records: %m");
	int rc = memory_map(s, e);
	if (rc < 0)
		return rc;
	struct head *h = head_of(s);
	h->version = STORE_VERSION;
	h->n_used = 1;
	memcpy(h->magic, magic, sizeof magic);
	rc = store_put_fd(s, memory_name, s->fd);
	if (rc < 0)
		log_warn("streams: the keeper does not take the records: %s: delegated files end with this process", strerror(-rc));
	return 0;
}

/* Memory of before; 0 also when there is none that can be used. */
static int memory_take(struct store *s, struct err *e)
{
	s->fd = store_take_fd(s, memory_name);
	if (s->fd < 0)
		return 0;
	int rc = lseek(s->fd, 0, SEEK_END) == (off_t)N_CHUNKS * CHUNK ? memory_map(s, e) : -EBADMSG;
	if (rc < 0 && s->base)
		return rc;
	struct head *h = s->base ? head_of(s) : NULL;
	if (h && memcmp(h->magic, magic, sizeof magic) == 0 && h->version == STORE_VERSION && h->n_used >= 1 && h->n_used <= N_CHUNKS) {
		slots_scan(s);
		return 0;
	}
	log_notice("streams: the records of before are of another version: delegated files of before are lost");
	if (s->base)
		(void)munmap(s->base, (size_t)N_CHUNKS * CHUNK);
	s->base = NULL;
	s->fd = close_fd(s->fd);
	return 0;
}

static void drop_one(void *arg, const char *name, int fd)
{
	(void)close_fd(fd);
	store_drop_fd(arg, name);
}

int store_open(const struct store_keep *keep, struct store **ret, struct err *e)
{
	struct store *s = calloc(1, sizeof *s);
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->keep = *keep;
	s->fd = -1;
	int rc = memory_take(s, e);
	if (rc == 0 && !s->base) {
		store_each_fd(s, "streams.", drop_one, s);
		rc = memory_make(s, e);
	}
	if (rc < 0) {
		(void)store_close(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct store *store_close(struct store *s)
{
	if (!s)
		return NULL;
	if (s->base)
		(void)munmap(s->base, (size_t)N_CHUNKS * CHUNK);
	(void)close_fd(s->fd);
	free(s);
	return NULL;
}

static void drop_other(void *arg, const char *name, int fd)
{
	(void)close_fd(fd);
	if (strcmp(name, memory_name) != 0)
		store_drop_fd(arg, name);
}

void store_wipe(struct store *s)
{
	struct head *h = head_of(s);
	for (size_t c = 1; c < h->n_used; c++)
		(void)madvise(at(s, c, 0), CHUNK, MADV_REMOVE);
	h->n_used = 1;
	memset(h->class, 0, sizeof h->class);
	memset(s->free, 0, sizeof s->free);
	memset(s->n_free, 0, sizeof s->n_free);
	store_each_fd(s, "streams.", drop_other, s);
}

void *store_new(struct store *s, enum store_type type, size_t n)
{
	size_t total = n + sizeof(struct slot);
	unsigned class = CLASS_MIN;
	while (class <= CLASS_MAX && ((size_t)1 << class) < total)
		class++;
	if (class > CLASS_MAX)
		return NULL;
	unsigned i = class - CLASS_MIN;
	if (!s->free[i] && chunk_new(s, class) < 0)
		return NULL;
	struct free_slot *f = s->free[i];
	s->free[i] = f->next;
	s->n_free[i]--;
	struct slot *p = &f->head;
	p->type = (uint32_t)type | UNCOMMITTED;
	p->n = (uint32_t)n;
	p->class = class;
	if (type != STORE_FRAME) /* those are filled in whole */
		memset(p->p, 0, n);
	return p->p;
}

static struct slot *slot_of(void *p)
{
	return (struct slot *)((uintptr_t)p - sizeof(struct slot));
}

void store_commit(void *p)
{
	struct slot *slot = slot_of(p);
	atomic_store_explicit(&slot->type, slot->type & ~(uint32_t)UNCOMMITTED, memory_order_release);
}

void store_free(struct store *s, void *p)
{
	if (!p)
		return;
	struct slot *slot = slot_of(p);
	unsigned class = slot->class;
	assert(slot->type && class >= CLASS_MIN && class <= CLASS_MAX);
	atomic_store_explicit(&slot->type, 0, memory_order_release);
	slot_release(s, slot, class);
}

void store_each(struct store *s, enum store_type type, void (*fn)(void *ctx, void *p, size_t n), void *ctx)
{
	struct head *h = head_of(s);
	for (size_t c = 1; c < h->n_used; c++) {
		unsigned class = h->class[c];
		if (class < CLASS_MIN || class > CLASS_MAX)
			continue;
		for (size_t off = 0; off < CHUNK; off += (size_t)1 << class) {
			struct slot *p = at(s, c, off);
			if (p->type == (uint32_t)type)
				fn(ctx, p->p, p->n);
		}
	}
}

static void free_one(void *ctx, void *p, size_t n)
{
	store_free(ctx, p);
}

void store_drop_all(struct store *s, enum store_type type)
{
	store_each(s, type, free_one, s);
}

int store_put_fd(struct store *s, const char *name, int fd)
{
	return s->keep.put ? s->keep.put(s->keep.ctx, name, fd) : 0;
}

void store_drop_fd(struct store *s, const char *name)
{
	if (!s->keep.drop)
		return;
	(void)s->keep.drop(s->keep.ctx, name); /* not there is as good */
	s->is_unsynced = 1;
}

void store_sync(struct store *s)
{
	if (s->is_unsynced && s->keep.sync)
		(void)s->keep.sync(s->keep.ctx); /* a keeper that is gone holds nothing; what it refused was said at the put */
	s->is_unsynced = 0;
}

int store_take_fd(struct store *s, const char *name)
{
	return s->keep.take ? s->keep.take(s->keep.ctx, name) : -ENOENT;
}

void store_each_fd(struct store *s, const char *prefix, void (*fn)(void *arg, const char *name, int fd), void *arg)
{
	if (s->keep.each)
		s->keep.each(s->keep.ctx, prefix, fn, arg);
}
