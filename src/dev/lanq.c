#include "dev/lanq.h"

#include <errno.h>
#include <stdlib.h>

enum { QUEUE_NS = 200000000 };

struct link {
	uint64_t bits_per_s;
	uint64_t tx_free_ns, rx_free_ns; /* when the last frame is through */
};

struct way {
	uint64_t delay_ns, jitter_ns, last_ns;
	uint32_t loss_ppm;
	int cut;
};

struct lanq {
	unsigned n;
	struct link *link; /* owned; by node, [0] unused */
	struct way *way;   /* owned; n * n */
};

struct lanq *lanq_new(unsigned n)
{
	struct lanq *q = calloc(1, sizeof *q);
	if (!q)
		return NULL;
	q->n = n;
	q->link = calloc(n + 1u, sizeof *q->link);
	q->way = calloc((size_t)n * n, sizeof *q->way);
	if (!q->link || !q->way) {
		lanq_free(q);
		return NULL;
	}
	return q;
}

void lanq_free(struct lanq *q)
{
	if (!q)
		return;
	free(q->link);
	free(q->way);
	free(q);
}

static struct way *way_of(struct lanq *q, unsigned from, unsigned to)
{
	return &q->way[(size_t)(from - 1) * q->n + (to - 1)];
}

static int there(const struct lanq *q, unsigned node)
{
	return node >= 1 && node <= q->n;
}

int lanq_set_pair(struct lanq *q, unsigned from, unsigned to, uint64_t delay_us, uint64_t jitter_us, uint32_t loss_ppm,
		  int cut)
{
	enum { MINUTE_US = 60000000 };
	if (!there(q, from) || !there(q, to) || delay_us > MINUTE_US || jitter_us > MINUTE_US || loss_ppm > 1000000)
		return -EINVAL;
	struct way *w = way_of(q, from, to);
	w->delay_ns = delay_us * 1000;
	w->jitter_ns = jitter_us * 1000;
	w->loss_ppm = loss_ppm;
	w->cut = cut;
	return 0;
}

int lanq_set_rate(struct lanq *q, unsigned node, uint64_t bits_per_s)
{
	if (!there(q, node))
		return -EINVAL;
	q->link[node] = (struct link){ .bits_per_s = bits_per_s };
	return 0;
}

/* A link sends one frame after the other. */
static int link_pass(uint64_t bits_per_s, uint64_t *free_ns, uint64_t now_ns, size_t size, uint64_t *ret_ns)
{
	*ret_ns = now_ns;
	if (bits_per_s == 0)
		return 0;
	uint64_t start = *free_ns > now_ns ? *free_ns : now_ns;
	if (start - now_ns > QUEUE_NS)
		return LANQ_DROP;
	*free_ns = start + (uint64_t)size * 8 * 1000000000u / bits_per_s; /* size < 2^17: no overflow */
	*ret_ns = *free_ns;
	return 0;
}

int lanq_send(struct lanq *q, uint64_t now_ns, unsigned from, size_t size, uint64_t *ret_ns)
{
	return link_pass(q->link[from].bits_per_s, &q->link[from].tx_free_ns, now_ns, size, ret_ns);
}

int lanq_way(struct lanq *q, uint64_t left_ns, unsigned from, unsigned to, const uint32_t dice[2], uint64_t *ret_ns)
{
	struct way *w = way_of(q, from, to);
	if (w->cut || (uint64_t)dice[0] * 1000000u >> 32 < w->loss_ppm)
		return LANQ_DROP;
	/* jitter_ns is below 2^36: the product needs to be done in two parts to fit. */
	uint64_t due = left_ns + w->delay_ns + (w->jitter_ns >> 16) * (dice[1] >> 16);
	if (due < w->last_ns)
		due = w->last_ns;
	w->last_ns = due;
	*ret_ns = due;
	return 0;
}

int lanq_arrive(struct lanq *q, uint64_t now_ns, unsigned to, size_t size, uint64_t *ret_ns)
{
	return link_pass(q->link[to].bits_per_s, &q->link[to].rx_free_ns, now_ns, size, ret_ns);
}
