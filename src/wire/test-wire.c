#include <stdint.h>

#include "check.h"
#include "wire/rd.h"
#include "wire/wr.h"

static void test_what_is_written_is_read_back(void)
{
	struct wr w = { 0 };
	wr_u8(&w, 7);
	wr_u16(&w, 0x1234);
	wr_u32(&w, 0xdeadbeef);
	wr_u64(&w, UINT64_MAX - 1);
	wr_i32(&w, -5);
	wr_i64(&w, INT64_MIN);
	wr_str(&w, "hello");
	wr_bytes(&w, "\0\1", 2);
	CHECK(wr_done(&w) == 0);

	struct rd r;
	rd_init(&r, w.p, w.n);
	char text[8];
	size_t n;
	CHECK(rd_u8(&r) == 7 && rd_u16(&r) == 0x1234 && rd_u32(&r) == 0xdeadbeef && rd_u64(&r) == UINT64_MAX - 1);
	CHECK(rd_i32(&r) == -5 && rd_i64(&r) == INT64_MIN);
	rd_str(&r, text, sizeof text);
	const uint8_t *b = rd_bytes(&r, 10, &n);
	CHECK(strcmp(text, "hello") == 0 && n == 2 && b[1] == 1);
	CHECK(rd_done(&r) == 0);
	wr_fini(&w);
}

static void test_every_prefix_is_refused(void)
{
	struct wr w = { 0 };
	wr_u32(&w, 3);
	wr_str(&w, "abc");
	wr_u16(&w, 9);
	for (size_t cut = 0; cut < w.n; cut++) {
		struct rd r;
		char text[4];
		rd_init(&r, w.p, cut);
		(void)rd_u32(&r);
		rd_str(&r, text, sizeof text);
		(void)rd_u16(&r);
		CHECK(rd_done(&r) == -EBADMSG);
	}
	wr_fini(&w);
}

static void test_limits_and_leftovers_are_refused(void)
{
	struct wr w = { 0 };
	wr_str(&w, "too long");
	struct rd r;
	char text[4];
	rd_init(&r, w.p, w.n);
	rd_str(&r, text, sizeof text);
	CHECK(rd_done(&r) == -EBADMSG && text[0] == 0);

	rd_init(&r, "\1\0\0\0x", 5);
	CHECK(rd_count(&r, 10, 8) == 0 && rd_done(&r) == -EBADMSG);
	rd_init(&r, "\1\2", 2);
	(void)rd_u8(&r);
	CHECK(rd_done(&r) == -EBADMSG);
	rd_init(&r, "\3\0\0\0a\0b", 7);
	rd_str(&r, text, sizeof text);
	CHECK(rd_done(&r) == -EBADMSG);
	wr_fini(&w);
}

int main(void)
{
	TEST(test_what_is_written_is_read_back);
	TEST(test_every_prefix_is_refused);
	TEST(test_limits_and_leftovers_are_refused);
	return 0;
}
