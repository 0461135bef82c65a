/* The one bounded reader for bytes from peers, files, users and traced processes. Little endian, fixed widths, no padding.
 *
 * A failure sticks: after the first short or over-limit read all further reads give zeros and empty strings, and rd_done()
 * says -EBADMSG. So a decoder reads everything, then checks once. No allocation; what is borrowed points into the message. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct rd {
	const uint8_t *p; /* borrowed */
	size_t n;         /* bytes left */
	int bad;
};

void rd_init(struct rd *r, const void *p, size_t n);

uint8_t rd_u8(struct rd *r);
uint16_t rd_u16(struct rd *r);
uint32_t rd_u32(struct rd *r);
uint64_t rd_u64(struct rd *r);
int32_t rd_i32(struct rd *r);
int64_t rd_i64(struct rd *r);

/* A u32 length and that many bytes, at most max. Borrowed from the message; *ret_n is 0 and the result "" after a failure. */
const uint8_t *rd_bytes(struct rd *r, size_t max, size_t *ret_n);

/* As rd_bytes for text: fails on a NUL within; copies into dst (dst_size >= 1) with a NUL; longer than dst_size - 1 fails. */
void rd_str(struct rd *r, char *dst, size_t dst_size);

/* Exactly n raw bytes without a length (n is the caller's); NULL after a failure. */
const uint8_t *rd_raw(struct rd *r, size_t n);

/* A u32 count of things that each take at least min_each bytes; at most max. 0 after a failure. */
uint32_t rd_count(struct rd *r, uint32_t max, size_t min_each);

/* Marks the message as bad, for checks of the decoder's own. */
void rd_fail(struct rd *r);

/* 0 when everything was read and nothing is left over, else -EBADMSG. */
int rd_done(const struct rd *r);
