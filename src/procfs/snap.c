#include "procfs/snap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct snap *snap_new(uint16_t node)
{
	struct snap *s = calloc(1, sizeof(*s));
	if (s) {
		s->refs = 1;
		s->node = node;
	}
	return s;
}

struct snap *snap_ref(struct snap *s)
{
	s->refs++;
	return s;
}

void snap_unref(struct snap *s)
{
	if (!s || --s->refs > 0)
		return;
	for (size_t i = 0; i < s->n_parts; i++)
		free(s->parts[i]);
	free(s->parts);
	free(s->procs);
	free(s);
}

static int procs_room(struct snap *s, size_t more)
{
	if (s->cap_procs - s->n_procs >= more)
		return 0;
	size_t cap = s->n_procs + more;
	struct remote_proc *p = reallocarray(s->procs, cap, sizeof(*p));
	if (!p)
		return -ENOMEM;
	s->procs = p;
	s->cap_procs = cap;
	return 0;
}

static uint8_t *part_add(struct snap *s, const void *p, size_t n)
{
	uint8_t **parts = reallocarray(s->parts, s->n_parts + 1, sizeof(*parts));
	if (!parts)
		return NULL;
	s->parts = parts;
	uint8_t *copy = malloc(n);
	if (!copy)
		return NULL;
	memcpy(copy, p, n);
	s->parts[s->n_parts++] = copy;
	return copy;
}

int snap_add(struct snap *s, const void *p, size_t n, uint32_t *ret_next)
{
	struct rd r;
	int rc = remote_reply_get(p, n, &r);
	if (rc < 0)
		return rc;
	const uint8_t *copy = part_add(s, p, n);
	if (!copy)
		return -ENOMEM;
	rc = remote_reply_get(copy, n, &r);
	if (rc < 0)
		return rc;

	uint32_t next = rd_u32(&r);
	uint32_t count = rd_count(&r, REMOTE_PID_MAX, REMOTE_PROC_MIN);
	rc = procs_room(s, count);
	if (rc < 0)
		return rc;
	uint32_t last = s->n_procs ? s->procs[s->n_procs - 1].pid : 0;
	for (uint32_t i = 0; i < count; i++) {
		struct remote_proc *q = &s->procs[s->n_procs + i];
		remote_proc_get(&r, q);
		if (q->pid <= last)
			rd_fail(&r);
		last = q->pid;
	}
	if (next && next <= last)
		rd_fail(&r);
	rc = rd_done(&r);
	if (rc < 0)
		return rc;
	s->n_procs += count;
	*ret_next = next;
	return 0;
}

static int by_pid(const void *key, const void *e)
{
	uint32_t a = *(const uint32_t *)key, b = ((const struct remote_proc *)e)->pid;
	return (a > b) - (a < b);
}

const struct remote_proc *snap_find(const struct snap *s, uint32_t pid)
{
	return s->n_procs ? bsearch(&pid, s->procs, s->n_procs, sizeof(*s->procs), by_pid) : NULL;
}

/* Where the fields behind the name begin (field 3 of stat), n when there are none. */
static size_t stat_fields(const char *stat, size_t n)
{
	const char *end = memrchr(stat, ')', n);
	size_t at = end ? (size_t)(end - stat) + 1 : n;
	return at < n && stat[at] == ' ' ? at + 1 : n;
}

/* What the kernel prints in a field for those who may not see it: NULL is the true value. */
static const char *field_mask(unsigned field, const char *v, size_t n)
{
	int zero = n == 1 && v[0] == '0';
	switch (field) {
	case 26: /* startcode, endcode */
	case 27:
		return zero ? NULL : "1";
	case 28: /* startstack, kstkesp, kstkeip */
	case 29:
	case 30:
	case 35: /* wchan */
	case 45: /* start_data, end_data, start_brk, arg_start, arg_end, env_start, env_end, exit_code */
	case 46:
	case 47:
	case 48:
	case 49:
	case 50:
	case 51:
	case 52:
		return "0";
	default:
		return NULL;
	}
}

void snap_stat_masked(const char *stat, size_t n, struct wr *w)
{
	size_t at = stat_fields(stat, n);
	wr_raw(w, stat, at);
	for (unsigned field = 3; at < n; field++) {
		size_t len = 0;
		while (at + len < n && stat[at + len] != ' ' && stat[at + len] != '\n')
			len++;
		const char *mask = field_mask(field, stat + at, len);
		if (mask)
			wr_raw(w, mask, strlen(mask));
		else
			wr_raw(w, stat + at, len);
		at += len;
		if (at < n)
			wr_raw(w, stat + at++, 1);
	}
}

/* Whether the line "key\ta\tb\tc\td" of status has want in all the first three places (real, effective, saved). */
static int ids_are(const char *status, size_t n, const char *key, uint32_t want)
{
	const char *p = memmem(status, n, key, strlen(key));
	if (!p)
		return 0;
	char line[128];
	size_t len = (size_t)(status + n - p);
	len = len < sizeof(line) ? len : sizeof(line) - 1;
	memcpy(line, p, len);
	line[len] = 0;
	unsigned a, b, c;
	return sscanf(line + strlen(key), "%u %u %u", &a, &b, &c) == 3 && a == want && b == want && c == want;
}

int snap_may_trace(const struct remote_proc *p, uint32_t uid, uint32_t gid)
{
	const char *status = p->text[REMOTE_T_STATUS];
	size_t n = p->text_n[REMOTE_T_STATUS];
	return (p->owner.flags & REMOTE_PID_DUMPABLE) && ids_are(status, n, "\nUid:", uid) && ids_are(status, n, "\nGid:", gid) &&
	       memmem(status, n, "\nCapPrm:\t0000000000000000\n", 26);
}

void snap_comm(const char *stat, size_t n, struct wr *w)
{
	const char *open = memchr(stat, '(', n), *end = memrchr(stat, ')', n);
	if (open && end && end > open)
		wr_raw(w, open + 1, (size_t)(end - open) - 1);
	wr_raw(w, "\n", 1);
}
