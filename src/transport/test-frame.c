#include "transport/frame.h"

#include "check.h"
#include "transport/links.h"

enum { SEEN = 8 };

struct seen {
	unsigned n;
	struct frame f[SEEN];
	uint8_t first[SEEN]; /* byte of the payload */
	int stop_at;         /* what the callback returns at the frame of this number */
	int stop_with;
};

static int on_frame(void *ctx, const struct frame *fr)
{
	struct seen *s = ctx;
	CHECK(s->n < SEEN);
	s->f[s->n] = *fr;
	s->first[s->n] = fr->n ? fr->p[0] : 0;
	s->n++;
	return s->stop_with && (int)s->n == s->stop_at ? s->stop_with : 0;
}

static size_t put(uint8_t *p, uint16_t type, uint64_t call, const char *text)
{
	size_t n = strlen(text);
	frame_head(p, type, call, (uint32_t)n);
	memcpy(p + FRAME_HEAD, text, n);
	return FRAME_HEAD + n;
}

static size_t three(uint8_t *p)
{
	size_t n = put(p, 200, 0, "message");
	n += put(p + n, 201, 0x1122334455667788, "");
	return n + put(p + n, FRAME_ANSWER, 1, "answer of a call");
}

static void test_the_head_is_as_written_down(void)
{
	uint8_t p[FRAME_HEAD];
	static const uint8_t want[FRAME_HEAD] = { 4, 3, 2, 1, 6, 5, 14, 13, 12, 11, 10, 9, 8, 7 };
	frame_head(p, 0x0506, 0x0708090a0b0c0d0e, 0x01020304);
	CHECK(memcmp(p, want, sizeof want) == 0);
}

static void test_frames_come_out_however_they_are_cut(void)
{
	uint8_t p[256];
	size_t n = three(p);
	for (size_t a = 0; a <= n; a++) {
		for (size_t b = a; b <= n; b++) {
			struct frame_in f = { .max = 64 };
			struct seen s = { 0 };
			CHECK(frame_in_feed(&f, p, a, on_frame, &s) == 0);
			CHECK(frame_in_feed(&f, p + a, b - a, on_frame, &s) == 0);
			CHECK(frame_in_feed(&f, p + b, n - b, on_frame, &s) == 0);
			CHECK(s.n == 3 && s.f[0].type == 200 && s.f[0].n == 7 && s.first[0] == 'm');
			CHECK(s.f[1].call == 0x1122334455667788 && s.f[1].n == 0 && s.f[2].n == 16 && s.first[2] == 'a');
			CHECK(!frame_in_is_partial(&f));
			frame_in_fini(&f);
		}
	}
}

static void test_every_prefix_gives_whole_frames_only(void)
{
	uint8_t p[256];
	size_t n = three(p);
	for (size_t k = 0; k < n; k++) {
		struct frame_in f = { .max = 64 };
		struct seen s = { 0 };
		CHECK(frame_in_feed(&f, p, k, on_frame, &s) == 0);
		CHECK(s.n == (k >= FRAME_HEAD + 7 ? 1u : 0u) + (k >= 2 * FRAME_HEAD + 7 ? 1u : 0u));
		CHECK(!!frame_in_is_partial(&f) == (k != 0 && k != FRAME_HEAD + 7 && k != 2 * FRAME_HEAD + 7));
		frame_in_fini(&f);
	}
}

static void test_too_long_a_frame_ends_it(void)
{
	uint8_t p[256];
	for (size_t cut = 1; cut <= FRAME_HEAD; cut++) {
		struct frame_in f = { .max = 6 };
		struct seen s = { 0 };
		size_t n = put(p, 200, 0, "123456");
		n += put(p + n, 200, 0, "1234567");
		int rc = 0;
		for (size_t at = 0; at < n && rc == 0; at += cut)
			rc = frame_in_feed(&f, p + at, n - at < cut ? n - at : cut, on_frame, &s);
		CHECK(rc == -EMSGSIZE && s.n == 1);
		CHECK(frame_in_feed(&f, p, 1, on_frame, &s) == -EBADMSG && s.n == 1);
		frame_in_fini(&f);
	}
	struct frame_in f = { .max = LINK_MSG_MAX };
	struct seen s = { 0 };
	memset(p, 0xff, sizeof p);
	CHECK(frame_in_feed(&f, p, sizeof p, on_frame, &s) == -EMSGSIZE && s.n == 0);
	frame_in_fini(&f);
}

static void test_an_announced_length_costs_nothing(void)
{
	struct frame_in f = { .max = LINK_MSG_MAX };
	struct seen s = { 0 };
	uint8_t p[FRAME_HEAD + 2] = { 0 };
	frame_head(p, 200, 0, LINK_MSG_MAX);
	CHECK(frame_in_feed(&f, p, sizeof p, on_frame, &s) == 0 && f.cap <= 1024 && frame_in_is_partial(&f));
	static uint8_t more[100000];
	CHECK(frame_in_feed(&f, more, sizeof more, on_frame, &s) == 0 && f.cap <= 4 * sizeof more + 4096);
	frame_in_fini(&f);
}

static void test_what_the_callback_says_ends_the_feeding(void)
{
	uint8_t p[256];
	size_t n = three(p);
	for (size_t cut = 1; cut <= n; cut++) {
		struct frame_in f = { .max = 64 };
		struct seen s = { .stop_at = 2, .stop_with = -ECANCELED };
		int rc = 0;
		for (size_t at = 0; at < n && rc == 0; at += cut)
			rc = frame_in_feed(&f, p + at, n - at < cut ? n - at : cut, on_frame, &s);
		CHECK(rc == -ECANCELED && s.n == 2);
		CHECK(frame_in_feed(&f, p, n, on_frame, &s) == -EBADMSG && s.n == 2);
		frame_in_fini(&f);
	}
}

static void test_hello_is_refused_unless_it_is_all_right(void)
{
	struct wr w = { 0 };
	struct frame_hello h = { FRAME_HELLO_VERSION, 3, 500 }, back = { 0 };
	frame_hello_encode(&w, &h);
	CHECK(w.n == FRAME_HELLO_SIZE && frame_hello_decode(w.p, w.n, &back) == 0 && memcmp(&h, &back, sizeof h) == 0);
	for (size_t n = 0; n < w.n; n++)
		CHECK(frame_hello_decode(w.p, n, &back) == -EBADMSG);
	wr_u8(&w, 0);
	CHECK(frame_hello_decode(w.p, w.n, &back) == -EBADMSG);
	w.n = 0;
	frame_hello_encode(&w, &(struct frame_hello){ 2, 3, 500 });
	CHECK(frame_hello_decode(w.p, w.n, &back) == -EPROTONOSUPPORT && back.version == 2);
	CHECK(frame_hello_decode(w.p, 2, &back) == -EPROTONOSUPPORT); /* whatever else it has */
	static const uint32_t beats[] = { 0, FRAME_HEARTBEAT_MIN_MS - 1, FRAME_HEARTBEAT_MAX_MS + 1, UINT32_MAX };
	for (size_t i = 0; i < sizeof beats / sizeof *beats; i++) {
		w.n = 0;
		frame_hello_encode(&w, &(struct frame_hello){ 1, 3, beats[i] });
		CHECK(frame_hello_decode(w.p, w.n, &back) == -EBADMSG);
	}
	wr_fini(&w);
}

static void test_foreign_text_is_fit_for_a_log(void)
{
	char text[8];
	frame_text((const uint8_t *)"a\n\x1b[\xffz", 6, text, sizeof text);
	CHECK(strcmp(text, "a??[?z") == 0);
	frame_text((const uint8_t *)"0123456789", 10, text, sizeof text);
	CHECK(strcmp(text, "0123456") == 0);
	frame_text(NULL, 0, text, sizeof text);
	CHECK(strcmp(text, "") == 0);
}

int main(void)
{
	TEST(test_the_head_is_as_written_down);
	TEST(test_frames_come_out_however_they_are_cut);
	TEST(test_every_prefix_gives_whole_frames_only);
	TEST(test_too_long_a_frame_ends_it);
	TEST(test_an_announced_length_costs_nothing);
	TEST(test_what_the_callback_says_ends_the_feeding);
	TEST(test_hello_is_refused_unless_it_is_all_right);
	TEST(test_foreign_text_is_fit_for_a_log);
	return 0;
}
