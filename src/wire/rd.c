#include "wire/rd.h"

#include <errno.h>
#include <string.h>

void rd_init(struct rd *r, const void *p, size_t n)
{
	*r = (struct rd){ .p = p, .n = n };
}

void rd_fail(struct rd *r)
{
	r->bad = 1;
	r->n = 0;
}

const uint8_t *rd_raw(struct rd *r, size_t n)
{
	if (r->bad || n > r->n) {
		rd_fail(r);
		return NULL;
	}
	const uint8_t *p = r->p;
	r->p += n;
	r->n -= n;
	return p;
}

static uint64_t rd_le(struct rd *r, size_t n)
{
	const uint8_t *p = rd_raw(r, n);
	if (!p)
		return 0;
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

uint8_t rd_u8(struct rd *r)
{
	return (uint8_t)rd_le(r, 1);
}

uint16_t rd_u16(struct rd *r)
{
	return (uint16_t)rd_le(r, 2);
}

uint32_t rd_u32(struct rd *r)
{
	return (uint32_t)rd_le(r, 4);
}

uint64_t rd_u64(struct rd *r)
{
	return rd_le(r, 8);
}

int32_t rd_i32(struct rd *r)
{
	return (int32_t)rd_u32(r);
}

int64_t rd_i64(struct rd *r)
{
	return (int64_t)rd_u64(r);
}

const uint8_t *rd_bytes(struct rd *r, size_t max, size_t *ret_n)
{
	size_t n = rd_u32(r);
	if (n > max)
		rd_fail(r);
	const uint8_t *p = rd_raw(r, r->bad ? 0 : n);
	if (!p) {
		*ret_n = 0;
		return (const uint8_t *)"";
	}
	*ret_n = n;
	return p;
}

void rd_str(struct rd *r, char *dst, size_t dst_size)
{
	size_t n;
	const uint8_t *p = rd_bytes(r, dst_size - 1, &n);
	if (memchr(p, 0, n)) {
		rd_fail(r);
		n = 0;
	}
	memcpy(dst, p, n);
	dst[n] = 0;
}

uint32_t rd_count(struct rd *r, uint32_t max, size_t min_each)
{
	uint32_t n = rd_u32(r);
	if (n > max || (uint64_t)n * min_each > r->n) {
		rd_fail(r);
		return 0;
	}
	return n;
}

int rd_done(const struct rd *r)
{
	return r->bad || r->n ? -EBADMSG : 0;
}
