/* Growing writer for messages; the counterpart of wire/rd.h. A failed allocation sticks: wr_done() says -ENOMEM. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct wr {
	uint8_t *p; /* owned */
	size_t n;   /* bytes written */
	size_t cap;
	int bad;
};

/* An empty writer needs no call: struct wr w = {}; */
void wr_fini(struct wr *w); /* frees; w is empty afterwards. Usable as cleanup: _cleanup_(wr_fini) struct wr w = {}; */

void wr_u8(struct wr *w, uint8_t v);
void wr_u16(struct wr *w, uint16_t v);
void wr_u32(struct wr *w, uint32_t v);
void wr_u64(struct wr *w, uint64_t v);
void wr_i32(struct wr *w, int32_t v);
void wr_i64(struct wr *w, int64_t v);
void wr_bytes(struct wr *w, const void *p, size_t n); /* u32 length, bytes */
void wr_str(struct wr *w, const char *s);             /* u32 length, bytes without the NUL; NULL is written as "" */
void wr_raw(struct wr *w, const void *p, size_t n);   /* bytes only */

/* Overwrites the u32 at offset at (written before), for lengths known late. */
void wr_put_u32(struct wr *w, size_t at, uint32_t v);

/* 0, or -ENOMEM if anything was lost. */
int wr_done(const struct wr *w);
