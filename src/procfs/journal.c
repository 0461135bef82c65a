#include "procfs/journal.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

/* File: one page with this head, then the slots. Only programs of this machine see it. */
struct head {
	char magic[8];
	uint32_t version;
	uint32_t slots;
	uint32_t slot_size;
	_Atomic uint32_t init_n;
	uint8_t init[JOURNAL_INIT_MAX];
};

enum { HEAD_SIZE = 4096, FILE_SIZE = HEAD_SIZE + JOURNAL_SLOTS * JOURNAL_SLOT_SIZE };

static const char magic[8] = "PanProc";

struct journal {
	uint8_t *map; /* owned mapping */
	size_t n_used;
	uint64_t unique[JOURNAL_SLOTS]; /* 0: empty */
};

int procfs_journal_new(int *ret_fd, struct err *e)
{
	_cleanup_(close_p) int fd = memfd_create("pando-procfs-journal", MFD_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "memfd: %m");
	if (ftruncate(fd, FILE_SIZE) < 0)
		return err_set(e, -errno, "memfd: %m");
	struct head h = { .version = 1, .slots = JOURNAL_SLOTS, .slot_size = JOURNAL_SLOT_SIZE };
	memcpy(h.magic, magic, sizeof(magic));
	if (pwrite(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h))
		return err_set(e, -EIO, "memfd: short write");
	*ret_fd = take_fd(&fd);
	return 0;
}

static struct head *head_of(const struct journal *j)
{
	return (struct head *)(void *)j->map;
}

static uint8_t *slot_at(const struct journal *j, size_t i)
{
	return j->map + HEAD_SIZE + i * JOURNAL_SLOT_SIZE;
}

static uint64_t slot_unique(const uint8_t *slot)
{
	struct fuse_in_header h;
	memcpy(&h, slot, sizeof(h));
	return h.unique;
}

static void slot_clear(uint8_t *slot)
{
	memset(slot, 0, sizeof(struct fuse_in_header));
}

int journal_open(int fd, struct journal **ret, struct err *e)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "journal: %m");
	if (st.st_size != FILE_SIZE)
		return err_set(e, -EBADMSG, "journal: wrong size");
	struct journal *j = calloc(1, sizeof(*j));
	if (!j)
		return err_set(e, -ENOMEM, "journal: %m");
	void *map = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		int rc = -errno;
		free(j);
		return err_set(e, rc, "journal: %m");
	}
	j->map = map;
	const struct head *h = head_of(j);
	if (memcmp(h->magic, magic, sizeof(magic)) != 0 || h->version != 1 || h->slots != JOURNAL_SLOTS ||
	    h->slot_size != JOURNAL_SLOT_SIZE || h->init_n > JOURNAL_INIT_MAX) {
		journal_close(j);
		return err_set(e, -EBADMSG, "journal: of another version");
	}
	for (size_t i = 0; i < JOURNAL_SLOTS; i++) {
		j->unique[i] = slot_unique(slot_at(j, i));
		j->n_used += j->unique[i] != 0;
	}
	*ret = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	(void)munmap(j->map, FILE_SIZE);
	free(j);
}

void *journal_slot(struct journal *j)
{
	for (size_t i = 0; i < JOURNAL_SLOTS; i++)
		if (!j->unique[i])
			return slot_at(j, i);
	return NULL;
}

void journal_taken(struct journal *j, void *slot)
{
	size_t i = (size_t)((uint8_t *)slot - (j->map + HEAD_SIZE)) / JOURNAL_SLOT_SIZE;
	j->unique[i] = slot_unique(slot);
	j->n_used += j->unique[i] != 0;
}

void journal_answered(struct journal *j, uint64_t unique)
{
	if (!unique)
		return;
	for (size_t i = 0, seen = 0; i < JOURNAL_SLOTS && seen < j->n_used; i++) {
		if (!j->unique[i])
			continue;
		seen++;
		if (j->unique[i] != unique)
			continue;
		slot_clear(slot_at(j, i));
		j->unique[i] = 0;
		j->n_used--;
		return;
	}
}

static int by_unique(const void *a, const void *b)
{
	uint64_t x = slot_unique(*(uint8_t *const *)a), y = slot_unique(*(uint8_t *const *)b);
	return (x > y) - (x < y);
}

void journal_left(struct journal *j, void (*fn)(void *ctx, void *slot, size_t slot_n), void *ctx)
{
	uint8_t *left[JOURNAL_SLOTS];
	size_t n = 0;
	for (size_t i = 0; i < JOURNAL_SLOTS; i++)
		if (j->unique[i])
			left[n++] = slot_at(j, i);
	qsort(left, n, sizeof(left[0]), by_unique);
	for (size_t i = 0; i < n; i++) {
		struct fuse_in_header h;
		memcpy(&h, left[i], sizeof(h));
		fn(ctx, left[i], h.len <= JOURNAL_SLOT_SIZE ? h.len : JOURNAL_SLOT_SIZE);
	}
}

size_t journal_used(const struct journal *j)
{
	return j->n_used;
}

const void *journal_init(const struct journal *j, size_t *ret_n)
{
	const struct head *h = head_of(j);
	*ret_n = h->init_n;
	return h->init;
}

void journal_init_set(struct journal *j, const void *p, size_t n)
{
	struct head *h = head_of(j);
	if (n > JOURNAL_INIT_MAX)
		n = JOURNAL_INIT_MAX;
	h->init_n = 0;
	memcpy(h->init, p, n);
	h->init_n = (uint32_t)n; /* last: a server killed in between leaves "none kept" */
}
