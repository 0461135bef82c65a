#include "stream/ring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

/* The rings lie in our memory (since Linux 6.5), in the store, for the keeper cannot be given a ring: it does not pass through sockets. */
enum { ENTRIES = 4, PAGE = 4096, SETUP_NO_MMAP = 1 << 14 /* not in Debian 12's headers */, AT_USER_ADDR = 32 };

struct ring {
	struct ring_slot *slot; /* in the store */
	int fd;                 /* owned; -1: plain calls */
	uint64_t seq;
	uint8_t *rings;         /* in the store: both, with the offsets of p */
	struct io_uring_sqe *sqes; /* in the store */
	struct io_uring_params p;
};

static _Atomic uint32_t *word(uint8_t *base, uint32_t off)
{
	void *p = base + off;
	return p;
}

static const struct io_uring_cqe *cqe_at(uint8_t *cq, const struct io_uring_params *p, uint32_t i)
{
	void *list = cq + p->cq_off.cqes;
	return (const struct io_uring_cqe *)list + (i & (p->cq_entries - 1));
}

struct ring_rec {
	struct io_uring_params p;
	struct ring_slot slot;
	uint8_t room[3 * PAGE]; /* for two whole pages */
};

static uint8_t *pages_of(struct ring_rec *rec)
{
	size_t over = (uintptr_t)rec->room % PAGE;
	return rec->room + (over ? PAGE - over : 0);
}

static void rec_found(void *ctx, void *p, size_t n)
{
	if (n == sizeof(struct ring_rec))
		*(struct ring_rec **)ctx = p;
}

static struct ring_rec *rec_get(struct store *store)
{
	struct ring_rec *rec = NULL;
	store_each(store, STORE_RING, rec_found, &rec);
	return rec;
}

const struct ring_slot *ring_before(struct store *store, int64_t *ret_result)
{
	struct ring_rec *rec = rec_get(store);
	if (!rec || !rec->slot.seq || !rec->p.cq_entries)
		return NULL;
	for (uint32_t i = 0; i < rec->p.cq_entries; i++) {
		const struct io_uring_cqe *c = cqe_at(pages_of(rec), &rec->p, i);
		if (c->user_data != rec->slot.seq)
			continue;
		*ret_result = c->res;
		return &rec->slot;
	}
	return NULL;
}

static int ring_setup(struct ring *r, uint8_t *pages)
{
	uint64_t rings = (uintptr_t)pages, sqes = rings + PAGE;
	void *p = pages + PAGE;
	memset(pages, 0, (size_t)2 * PAGE);
	r->p = (struct io_uring_params){ .flags = SETUP_NO_MMAP };
	memcpy((uint8_t *)&r->p.cq_off + AT_USER_ADDR, &rings, sizeof rings);
	memcpy((uint8_t *)&r->p.sq_off + AT_USER_ADDR, &sqes, sizeof sqes);
	r->rings = pages;
	r->sqes = p;
	r->fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &r->p);
	return r->fd < 0 ? -errno : 0;
}

int ring_new(struct store *store, struct ring **ret)
{
	struct ring *r = calloc(1, sizeof *r);
	if (!r)
		return -ENOMEM;
	struct ring_rec *rec = rec_get(store);
	if (!rec && (rec = store_new(store, STORE_RING, sizeof *rec)))
		store_commit(rec);
	if (!rec) {
		free(r);
		return -ENOMEM;
	}
	r->slot = &rec->slot;
	r->slot->seq = 0;
	memset(&rec->p, 0, sizeof rec->p);
	int rc = ring_setup(r, pages_of(rec));
	if (rc < 0)
		log_notice("streams: io_uring: %s: an agent that is killed may repeat a read or write", strerror(-rc));
	else
		rec->p = r->p;
	*ret = r;
	return 0;
}

void ring_free(struct ring *r)
{
	if (!r)
		return;
	(void)close_fd(r->fd);
	free(r);
}

uint8_t *ring_room(struct ring *r)
{
	return r->slot->data;
}

static ssize_t plain_do(struct ring *r, const struct ring_io *io)
{
	union {
		const uint8_t *in;
		void *out;
	} u = { .in = io->p };
	struct iovec v = { io->is_write ? u.out : r->slot->data, io->n };
	ssize_t rc = io->is_write ? pwritev2(io->fd, &v, 1, -1, io->nowait ? RWF_NOWAIT : 0)
				  : preadv2(io->fd, &v, 1, -1, io->nowait ? RWF_NOWAIT : 0);
	return rc < 0 ? -errno : rc;
}

static void submit(struct ring *r, const struct ring_io *io)
{
	uint32_t tail = *word(r->rings, r->p.sq_off.tail), i = tail & (r->p.sq_entries - 1);
	struct io_uring_sqe *s = &r->sqes[i];
	memset(s, 0, sizeof *s);
	s->opcode = io->is_write ? IORING_OP_WRITE : IORING_OP_READ;
	s->fd = io->fd;
	s->off = (uint64_t)-1;
	s->addr = (uint64_t)(uintptr_t)(io->is_write ? io->p : r->slot->data);
	s->len = (uint32_t)io->n;
	s->rw_flags = io->nowait ? RWF_NOWAIT : 0;
	s->user_data = r->seq;
	atomic_store(word(r->rings, r->p.sq_off.array) + i, i);
	atomic_store(word(r->rings, r->p.sq_off.tail), tail + 1);
}

static ssize_t collect(struct ring *r)
{
	_Atomic uint32_t *head = word(r->rings, r->p.cq_off.head), *tail = word(r->rings, r->p.cq_off.tail);
	ssize_t res = -EAGAIN;
	int any = 0;
	while (!any) {
		uint32_t h = *head;
		if (h == *tail) {
			if (syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 && errno != EINTR)
				return -errno;
			continue;
		}
		const struct io_uring_cqe *c = cqe_at(r->rings, &r->p, h);
		if (c->user_data == r->seq) {
			res = c->res;
			any = 1;
		}
		atomic_store(head, h + 1);
	}
	return res;
}

ssize_t ring_do(struct ring *r, const struct ring_io *io)
{
	struct ring_slot *slot = r->slot;
	if (r->fd < 0)
		return plain_do(r, io);
	slot->session = io->session;
	slot->req = io->req;
	slot->base = io->base;
	slot->is_write = (uint32_t)io->is_write;
	atomic_thread_fence(memory_order_release);
	*(volatile uint64_t *)&slot->seq = ++r->seq;
	submit(r, io);
	long rc;
	do
		rc = syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0);
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return -errno;
	return collect(r);
}

void ring_noted(struct ring *r)
{
	atomic_thread_fence(memory_order_release);
	*(volatile uint64_t *)&r->slot->seq = 0;
}
