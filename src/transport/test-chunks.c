#include "transport/chunks.h"

#include "check.h"

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 7 + (i >> 8));
}

/* Adds n bytes of the series that begins at *at. */
static void add(struct chunks *c, size_t *at, size_t n)
{
	uint8_t *p = malloc(n ? n : 1);
	CHECK(p);
	for (size_t i = 0; i < n; i++)
		p[i] = byte_at(*at + i);
	CHECK(chunks_add(c, p, n) == 0);
	free(p);
	*at += n;
}

/* Takes at most n bytes out, through at most max pieces, and checks them. */
static size_t take(struct chunks *c, size_t *at, size_t n, unsigned max)
{
	uv_buf_t bufs[16];
	unsigned k = chunks_peek(c, bufs, max);
	size_t done = 0;
	for (unsigned i = 0; i < k && done < n; i++)
		for (size_t j = 0; j < bufs[i].len && done < n; j++, done++)
			CHECK((uint8_t)bufs[i].base[j] == byte_at(*at + done));
	chunks_drop(c, done);
	*at += done;
	return done;
}

static void test_bytes_come_out_as_they_went_in(void)
{
	struct chunks c = { 0 };
	static const size_t sizes[] = { 0, 1, 100, 4031, 4032, 4033, 65471, 65472, 65473, 200000, 3 };
	size_t in = 0, out = 0;
	for (unsigned round = 0; round < 40; round++) {
		add(&c, &in, sizes[round % (sizeof sizes / sizeof *sizes)]);
		(void)take(&c, &out, 1 + round * 977, 1 + round % 16);
		CHECK(c.n == in - out);
	}
	while (c.n)
		CHECK(take(&c, &out, 50000, 16) > 0);
	CHECK(in == out && !c.head && !c.tail);
	add(&c, &in, 10); /* usable again */
	CHECK(take(&c, &out, 10, 1) == 10);
	chunks_fini(&c);
}

static void test_small_pieces_share_memory(void)
{
	struct chunks c = { 0 };
	uv_buf_t bufs[16];
	size_t at = 0;
	for (unsigned i = 0; i < 100; i++)
		add(&c, &at, 30);
	CHECK(chunks_peek(&c, bufs, 16) == 1 && bufs[0].len == 3000);
	chunks_fini(&c);
	CHECK(!c.n && chunks_peek(&c, bufs, 16) == 0);
}

int main(void)
{
	TEST(test_bytes_come_out_as_they_went_in);
	TEST(test_small_pieces_share_memory);
	return 0;
}
