#include "wire/wr.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void wr_fini(struct wr *w)
{
	free(w->p);
	*w = (struct wr){ 0 };
}

static uint8_t *wr_room(struct wr *w, size_t n)
{
	if (w->bad)
		return NULL;
	if (n > w->cap - w->n) {
		size_t cap = w->cap ? w->cap * 2 : 256;
		while (cap - w->n < n)
			cap *= 2;
		uint8_t *p = realloc(w->p, cap);
		if (!p) {
			w->bad = 1;
			return NULL;
		}
		w->p = p;
		w->cap = cap;
	}
	uint8_t *at = w->p + w->n;
	w->n += n;
	return at;
}

static void le_put(uint8_t *p, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static void wr_le(struct wr *w, uint64_t v, size_t n)
{
	uint8_t *p = wr_room(w, n);
	if (p)
		le_put(p, v, n);
}

void wr_u8(struct wr *w, uint8_t v)
{
	wr_le(w, v, 1);
}

void wr_u16(struct wr *w, uint16_t v)
{
	wr_le(w, v, 2);
}

void wr_u32(struct wr *w, uint32_t v)
{
	wr_le(w, v, 4);
}

void wr_u64(struct wr *w, uint64_t v)
{
	wr_le(w, v, 8);
}

void wr_i32(struct wr *w, int32_t v)
{
	wr_u32(w, (uint32_t)v);
}

void wr_i64(struct wr *w, int64_t v)
{
	wr_u64(w, (uint64_t)v);
}

void wr_raw(struct wr *w, const void *p, size_t n)
{
	uint8_t *at = wr_room(w, n);
	if (at && n)
		memcpy(at, p, n);
}

void wr_bytes(struct wr *w, const void *p, size_t n)
{
	assert(n <= UINT32_MAX);
	wr_u32(w, (uint32_t)n);
	wr_raw(w, p, n);
}

void wr_str(struct wr *w, const char *s)
{
	wr_bytes(w, s ? s : "", s ? strlen(s) : 0);
}

void wr_put_u32(struct wr *w, size_t at, uint32_t v)
{
	if (w->bad)
		return;
	assert(at + 4 <= w->n);
	le_put(w->p + at, v, 4);
}

int wr_done(const struct wr *w)
{
	return w->bad ? -ENOMEM : 0;
}
