#include "procfs/merge.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLS_MAX = 32, KEYS_MAX = 256, KEY_MAX = 48 };

static void put(struct wr *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct wr *w, const char *fmt, ...)
{
	char b[512];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(b, sizeof(b), fmt, ap);
	va_end(ap);
	if (n > 0)
		wr_raw(w, b, (size_t)n < sizeof(b) ? (size_t)n : sizeof(b) - 1);
}

/* The next line of t without its newline; 0 when there is none. */
static int line_next(struct merge_text *t, struct merge_text *ret)
{
	if (t->n == 0)
		return 0;
	const char *nl = memchr(t->p, '\n', t->n);
	size_t n = nl ? (size_t)(nl - t->p) : t->n;
	*ret = (struct merge_text){ t->p, n };
	n += nl != NULL;
	t->p += n;
	t->n -= n;
	return 1;
}

static int starts(const struct merge_text *l, const char *key)
{
	size_t n = strlen(key);
	return l->n >= n && memcmp(l->p, key, n) == 0;
}

/* Cuts the next word off l; 0 when there is none. */
static int word_next(struct merge_text *l, struct merge_text *ret)
{
	while (l->n && (*l->p == ' ' || *l->p == '\t')) {
		l->p++;
		l->n--;
	}
	size_t n = 0;
	while (n < l->n && l->p[n] != ' ' && l->p[n] != '\t')
		n++;
	*ret = (struct merge_text){ l->p, n };
	l->p += n;
	l->n -= n;
	return n > 0;
}

/* A decimal number that takes the whole word. */
static int word_u64(const struct merge_text *w, uint64_t *ret)
{
	uint64_t v = 0;
	for (size_t i = 0; i < w->n; i++) {
		if (w->p[i] < '0' || w->p[i] > '9')
			return 0;
		v = v * 10 + (uint64_t)(w->p[i] - '0');
	}
	*ret = v;
	return w->n > 0;
}

/* A number with two decimals, as hundredths. */
static int word_cents(const struct merge_text *w, uint64_t *ret)
{
	const char *dot = memchr(w->p, '.', w->n);
	if (!dot)
		return 0;
	struct merge_text whole = { w->p, (size_t)(dot - w->p) };
	struct merge_text frac = { dot + 1, w->n - whole.n - 1 };
	uint64_t a, b;
	if (frac.n != 2 || !word_u64(&whole, &a) || !word_u64(&frac, &b))
		return 0;
	*ret = a * 100 + b;
	return 1;
}

/* Adds the numbers of a line to cols; returns how many columns are known now. */
static size_t cols_add(struct merge_text l, uint64_t cols[static COLS_MAX], size_t n_cols)
{
	struct merge_text w;
	uint64_t v;
	for (size_t i = 0; i < COLS_MAX && word_next(&l, &w) && word_u64(&w, &v); i++) {
		cols[i] += v;
		if (i >= n_cols)
			n_cols = i + 1;
	}
	return n_cols;
}

static void cols_put(struct wr *w, const char *key, const uint64_t *cols, size_t n)
{
	put(w, "%s", key);
	for (size_t i = 0; i < n; i++)
		put(w, " %" PRIu64, cols[i]);
	put(w, "\n");
}

struct stat_sum {
	uint64_t cpu[COLS_MAX], softirq[COLS_MAX];
	size_t n_cpu, n_softirq;
	uint64_t intr, ctxt, btime, processes, running, blocked;
	uint32_t cpus; /* numbered so far */
	struct wr lines; /* of the single CPUs */
};

static void stat_one(struct merge_text t, int is_self, struct stat_sum *s)
{
	struct merge_text l, key, w;
	while (line_next(&t, &l)) {
		uint64_t v = 0;
		if (!word_next(&l, &key))
			continue;
		struct merge_text rest = l;
		int one = word_next(&rest, &w) && word_u64(&w, &v);
		if (key.n == 3 && starts(&key, "cpu")) {
			s->n_cpu = cols_add(l, s->cpu, s->n_cpu);
		} else if (starts(&key, "cpu")) {
			uint64_t cols[COLS_MAX] = { 0 };
			char name[32];
			size_t n = cols_add(l, cols, 0);
			(void)snprintf(name, sizeof(name), "cpu%u", s->cpus++); /* fits */
			cols_put(&s->lines, name, cols, n);
		} else if (starts(&key, "softirq")) {
			s->n_softirq = cols_add(l, s->softirq, s->n_softirq);
		} else if (one && starts(&key, "intr")) {
			s->intr += v;
		} else if (one && starts(&key, "ctxt")) {
			s->ctxt += v;
		} else if (one && starts(&key, "processes")) {
			s->processes += v;
		} else if (one && starts(&key, "procs_running")) {
			s->running += v;
		} else if (one && starts(&key, "procs_blocked")) {
			s->blocked += v;
		} else if (one && is_self && starts(&key, "btime")) {
			s->btime = v;
		}
	}
}

void merge_stat(const struct merge_text *texts, size_t n, size_t self, struct wr *ret)
{
	struct stat_sum s = { 0 };
	for (size_t i = 0; i < n; i++)
		stat_one(texts[i], i == self, &s);
	cols_put(ret, "cpu ", s.cpu, s.n_cpu); /* two blanks, as the kernel has it */
	wr_raw(ret, s.lines.p, s.lines.n);
	if (wr_done(&s.lines) < 0)
		ret->bad = 1;
	wr_fini(&s.lines);
	put(ret, "intr %" PRIu64 "\nctxt %" PRIu64 "\nbtime %" PRIu64 "\nprocesses %" PRIu64 "\n", s.intr, s.ctxt, s.btime, s.processes);
	put(ret, "procs_running %" PRIu64 "\nprocs_blocked %" PRIu64 "\n", s.running, s.blocked);
	if (s.n_softirq)
		cols_put(ret, "softirq", s.softirq, s.n_softirq);
}

struct mem_line {
	char key[KEY_MAX]; /* with the colon */
	uint64_t v;
	int kb, fixed;
};

static int mem_is_fixed(const char *key)
{
	return strcmp(key, "Hugepagesize:") == 0 || strcmp(key, "VmallocTotal:") == 0 || strcmp(key, "VmallocChunk:") == 0;
}

static void mem_one(struct merge_text t, struct mem_line *lines, size_t *n)
{
	struct merge_text l, key, w, unit;
	while (line_next(&t, &l)) {
		uint64_t v;
		if (!word_next(&l, &key) || key.n >= KEY_MAX || key.p[key.n - 1] != ':' || !word_next(&l, &w) || !word_u64(&w, &v))
			continue;
		size_t i = 0;
		while (i < *n && !(strlen(lines[i].key) == key.n && memcmp(lines[i].key, key.p, key.n) == 0))
			i++;
		if (i == *n) {
			if (*n == KEYS_MAX)
				continue;
			struct mem_line *m = &lines[(*n)++];
			*m = (struct mem_line){ .v = v, .kb = word_next(&l, &unit) };
			memcpy(m->key, key.p, key.n);
			m->fixed = mem_is_fixed(m->key);
		} else if (!lines[i].fixed) {
			lines[i].v += v;
		}
	}
}

void merge_meminfo(const struct merge_text *texts, size_t n, size_t self, struct wr *ret)
{
	struct mem_line *lines = calloc(KEYS_MAX, sizeof(*lines));
	if (!lines) {
		ret->bad = 1;
		return;
	}
	size_t n_lines = 0;
	if (self < n)
		mem_one(texts[self], lines, &n_lines);
	for (size_t i = 0; i < n; i++)
		if (i != self)
			mem_one(texts[i], lines, &n_lines);
	for (size_t i = 0; i < n_lines; i++)
		put(ret, lines[i].kb ? "%-15s %8" PRIu64 " kB\n" : "%-15s %8" PRIu64 "\n", lines[i].key, lines[i].v);
	free(lines);
}

void merge_loadavg(const struct merge_text *texts, size_t n, size_t self, struct wr *ret)
{
	uint64_t load[3] = { 0 }, running = 0, total = 0, last = 0;
	for (size_t i = 0; i < n; i++) {
		struct merge_text t = texts[i], l, w[5];
		uint64_t v[3], a, b, pid;
		if (!line_next(&t, &l))
			continue;
		int ok = 1;
		for (size_t k = 0; k < 5; k++)
			ok = ok && word_next(&l, &w[k]);
		for (size_t k = 0; k < 3; k++)
			ok = ok && word_cents(&w[k], &v[k]);
		const char *slash = ok ? memchr(w[3].p, '/', w[3].n) : NULL;
		if (!slash)
			continue;
		struct merge_text x = { w[3].p, (size_t)(slash - w[3].p) }, y = { slash + 1, w[3].n - x.n - 1 };
		if (!word_u64(&x, &a) || !word_u64(&y, &b) || !word_u64(&w[4], &pid))
			continue;
		for (size_t k = 0; k < 3; k++)
			load[k] += v[k];
		running += a;
		total += b;
		if (i == self)
			last = pid;
	}
	for (size_t k = 0; k < 3; k++)
		put(ret, "%" PRIu64 ".%02" PRIu64 " ", load[k] / 100, load[k] % 100);
	put(ret, "%" PRIu64 "/%" PRIu64 " %" PRIu64 "\n", running, total, last);
}

void merge_uptime(const struct merge_text *texts, size_t n, size_t self, struct wr *ret)
{
	uint64_t up = 0, idle = 0;
	for (size_t i = 0; i < n; i++) {
		struct merge_text t = texts[i], l, a, b;
		uint64_t u, d;
		if (!line_next(&t, &l) || !word_next(&l, &a) || !word_next(&l, &b) || !word_cents(&a, &u) || !word_cents(&b, &d))
			continue;
		idle += d;
		if (i == self)
			up = u;
	}
	put(ret, "%" PRIu64 ".%02" PRIu64 " %" PRIu64 ".%02" PRIu64 "\n", up / 100, up % 100, idle / 100, idle % 100);
}

/* The number behind "key\t: " of a line of cpuinfo. */
static int cpuinfo_number(struct merge_text l, const char *key, uint64_t *ret)
{
	if (!starts(&l, key))
		return 0;
	l.p += strlen(key);
	l.n -= strlen(key);
	struct merge_text w;
	if (!word_next(&l, &w) || w.n != 1 || w.p[0] != ':' || !word_next(&l, &w))
		return 0;
	return word_u64(&w, ret);
}

void merge_cpuinfo(const struct merge_text *texts, size_t n, struct wr *ret)
{
	uint64_t cpu = 0, sockets = 0;
	for (size_t i = 0; i < n; i++) {
		struct merge_text t = texts[i], l;
		uint64_t v, sockets_here = 0;
		while (line_next(&t, &l)) {
			if (cpuinfo_number(l, "processor", &v)) {
				put(ret, "processor\t: %" PRIu64 "\n", cpu++);
			} else if (cpuinfo_number(l, "physical id", &v)) {
				put(ret, "physical id\t: %" PRIu64 "\n", sockets + v);
				if (v < 4096 && v + 1 > sockets_here)
					sockets_here = v + 1;
			} else {
				wr_raw(ret, l.p, l.n);
				wr_raw(ret, "\n", 1);
			}
		}
		sockets += sockets_here;
	}
}
