/* deps: transport */
/* Frames of a link. The first byte cuts the rest into pieces: however it is cut, the same frames come out, and what is refused is
 * refused. A hello is taken apart and written again. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "transport/frame.h"
#include "transport/links.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct seen {
	struct frame_in *f;
	unsigned n;
	uint64_t sum;
};

static int on_frame(void *ctx, const struct frame *fr)
{
	struct seen *s = ctx;
	struct frame_hello h;
	char text[FRAME_BYE_MAX + 1];
	if (fr->n > s->f->max)
		abort();
	s->n++;
	s->sum = s->sum * 31 + fr->type + fr->call + fr->n;
	for (size_t i = 0; i < fr->n; i++)
		s->sum = s->sum * 31 + fr->p[i];
	if (fr->type == FRAME_HELLO && frame_hello_decode(fr->p, fr->n, &h) == 0) {
		struct wr w = { 0 };
		frame_hello_encode(&w, &h);
		if (w.n != fr->n || memcmp(w.p, fr->p, w.n) != 0)
			abort();
		wr_fini(&w);
		s->f->max = LINK_MSG_MAX + 4;
	}
	frame_text(fr->p, fr->n, text, sizeof text);
	for (const char *c = text; *c; c++)
		if (*c < 0x20 || *c > 0x7e)
			abort();
	return fr->type == FRAME_BYE ? 1 : 0;
}

static int feed(const uint8_t *p, size_t n, size_t step, struct seen *ret)
{
	struct frame_in f = { .max = FRAME_FIRST_MAX };
	int rc = 0;
	*ret = (struct seen){ .f = &f };
	for (size_t at = 0; at < n && rc == 0; at += step) {
		size_t k = n - at < step ? n - at : step;
		uint8_t *copy = malloc(k); /* of its exact size */
		if (!copy)
			abort();
		memcpy(copy, p + at, k);
		rc = frame_in_feed(&f, copy, k, on_frame, ret);
		free(copy);
		if (f.cap > f.n * 4 + 1024)
			abort(); /* it grows with what came, not with what was announced */
	}
	if (rc && frame_in_feed(&f, p, n, on_frame, ret) != -EBADMSG)
		abort();
	frame_in_fini(&f);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct seen whole, cut;
	if (n < 1)
		return 0;
	int a = feed(p + 1, n - 1, n, &whole), b = feed(p + 1, n - 1, p[0] % 40 + 1, &cut);
	if (a != b || whole.n != cut.n || whole.sum != cut.sum)
		abort();
	return 0;
}
