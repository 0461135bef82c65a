#include "stream/pmsg.h"

#include <errno.h>
#include <string.h>

enum pmsg_field {
	F_REQ = 1 << 0,
	F_STATUS = 1 << 1,
	F_FH = 1 << 2,
	F_FH2 = 1 << 3,
	F_NODE = 1 << 4,
	F_FLAGS = 1 << 5,
	F_OFLAGS = 1 << 6,
	F_KIND = 1 << 7,
	F_SIZE = 1 << 8,
	F_CRED = 1 << 9,
	F_ID = 1 << 10,
	F_OFF = 1 << 11,
	F_LEN = 1 << 12,
	F_KEY = 1 << 13,
	F_ATTR = 1 << 14,
	F_NAME = 1 << 15,
	F_DATA = 1 << 16,
	F_KNOWN = 1 << 17,
};

#define REQ (F_KNOWN | F_REQ | F_FH)

static const uint32_t pmsg_fields[PMSG_LAST] = {
	[PMSG_HELLO] = F_KNOWN | F_SIZE | F_NODE | F_ID | F_FH | F_LEN,
	[PMSG_WELCOME] = F_KNOWN | F_ID | F_FLAGS | F_STATUS | F_LEN,
	[PMSG_ACK] = F_KNOWN,
	[PMSG_PING] = F_KNOWN,
	[PMSG_ATTACH] = REQ | F_ID | F_KEY,
	[PMSG_REOPEN] = REQ | F_FH2 | F_OFLAGS | F_CRED,
	[PMSG_RELEASE] = F_KNOWN | F_FH,
	[PMSG_CANCEL] = F_KNOWN | F_REQ,
	[PMSG_READ] = REQ | F_FLAGS | F_SIZE | F_OFF,
	[PMSG_WRITE] = REQ | F_FLAGS | F_OFF | F_DATA,
	[PMSG_GETATTR] = REQ,
	[PMSG_SETATTR] = REQ | F_FLAGS | F_ATTR,
	[PMSG_FSYNC] = REQ | F_FLAGS,
	[PMSG_FALLOCATE] = REQ | F_FLAGS | F_OFF | F_LEN,
	[PMSG_LSEEK] = REQ | F_FLAGS | F_OFF,
	[PMSG_POLL] = REQ | F_FLAGS | F_SIZE,
	[PMSG_IOCTL] = REQ | F_SIZE | F_OFF | F_LEN | F_DATA,
	[PMSG_FLOCK] = REQ | F_FLAGS,
	[PMSG_SETFL] = REQ | F_OFLAGS,
	[PMSG_GETFL] = REQ,
	[PMSG_PIPESZ] = REQ | F_FLAGS | F_OFF,
	[PMSG_GRANT] = REQ | F_NODE,
	[PMSG_UNGRANT] = REQ | F_NODE | F_ID,
	[PMSG_SYNC] = F_KNOWN | F_REQ,
	[PMSG_KEEP] = F_KNOWN | F_DATA,
	[PMSG_RESYNCED] = F_KNOWN,
	[PMSG_ANSWER] = F_KNOWN | F_REQ | F_STATUS | F_FLAGS | F_OFLAGS | F_KIND | F_ID | F_OFF | F_KEY | F_ATTR | F_NAME | F_DATA,
	[PMSG_NOTIFY] = F_KNOWN | F_FH | F_SIZE,
};

/* An answer rarely has more than data or attributes: absent groups of its fields cost one bit. */
enum { HAS_OPEN = 1, HAS_ATTR = 2, HAS_KEY = 4, HAS_OFF = 8, HAS_FLAGS = 16, HAS_DATA = 32, HAS_ALL = 63 };

static int is_zero(const void *p, size_t n)
{
	const uint8_t *b = p;
	for (size_t i = 0; i < n; i++)
		if (b[i])
			return 0;
	return 1;
}

static uint32_t answer_fields(uint32_t has)
{
	uint32_t f = 0;
	if (has & HAS_OPEN)
		f |= F_OFLAGS | F_KIND | F_ID | F_NAME;
	if (has & HAS_ATTR)
		f |= F_ATTR;
	if (has & HAS_KEY)
		f |= F_KEY;
	if (has & HAS_OFF)
		f |= F_OFF;
	if (has & HAS_FLAGS)
		f |= F_FLAGS;
	if (has & HAS_DATA)
		f |= F_DATA;
	return f;
}

static uint8_t answer_has(const struct pmsg *m)
{
	int has = 0;
	if (m->oflags || m->kind || m->id || m->n_name)
		has |= HAS_OPEN;
	if (!is_zero(&m->attr, sizeof m->attr))
		has |= HAS_ATTR;
	if (!is_zero(m->key, sizeof m->key))
		has |= HAS_KEY;
	if (m->off)
		has |= HAS_OFF;
	if (m->flags)
		has |= HAS_FLAGS;
	if (m->n_data)
		has |= HAS_DATA;
	return (uint8_t)has;
}

static void time_encode(struct wr *w, const struct pmsg_time *t)
{
	wr_i64(w, t->sec);
	wr_u32(w, t->nsec);
}

static struct pmsg_time time_decode(struct rd *r)
{
	struct pmsg_time t = { .sec = rd_i64(r) };
	t.nsec = rd_u32(r);
	return t;
}

static void attr_encode(struct wr *w, const struct pmsg_attr *a)
{
	wr_u64(w, a->ino);
	wr_u64(w, a->size);
	wr_u64(w, a->blocks);
	time_encode(w, &a->atime);
	time_encode(w, &a->mtime);
	time_encode(w, &a->ctime);
	wr_u32(w, a->mode);
	wr_u32(w, a->nlink);
	wr_u32(w, a->uid);
	wr_u32(w, a->gid);
	wr_u32(w, a->blksize);
}

static void attr_decode(struct rd *r, struct pmsg_attr *a)
{
	a->ino = rd_u64(r);
	a->size = rd_u64(r);
	a->blocks = rd_u64(r);
	a->atime = time_decode(r);
	a->mtime = time_decode(r);
	a->ctime = time_decode(r);
	a->mode = rd_u32(r);
	a->nlink = rd_u32(r);
	a->uid = rd_u32(r);
	a->gid = rd_u32(r);
	a->blksize = rd_u32(r);
}

static void numbers_encode(struct wr *w, uint32_t f, const struct pmsg *m)
{
	if (f & F_FH)
		wr_u64(w, m->fh);
	if (f & F_FH2)
		wr_u64(w, m->fh2);
	if (f & F_NODE)
		wr_u16(w, m->node);
	if (f & F_FLAGS)
		wr_u32(w, m->flags);
	if (f & F_OFLAGS)
		wr_u32(w, m->oflags);
	if (f & F_KIND)
		wr_u32(w, m->kind);
	if (f & F_SIZE)
		wr_u32(w, m->size);
	if (f & F_CRED) {
		wr_u32(w, m->uid);
		wr_u32(w, m->gid);
	}
	if (f & F_ID)
		wr_u64(w, m->id);
	if (f & F_OFF)
		wr_i64(w, m->off);
	if (f & F_LEN)
		wr_u64(w, m->len);
}

static void numbers_decode(struct rd *r, uint32_t f, struct pmsg *m)
{
	if (f & F_FH)
		m->fh = rd_u64(r);
	if (f & F_FH2)
		m->fh2 = rd_u64(r);
	if (f & F_NODE)
		m->node = rd_u16(r);
	if (f & F_FLAGS)
		m->flags = rd_u32(r);
	if (f & F_OFLAGS)
		m->oflags = rd_u32(r);
	if (f & F_KIND)
		m->kind = rd_u32(r);
	if (f & F_SIZE)
		m->size = rd_u32(r);
	if (f & F_CRED) {
		m->uid = rd_u32(r);
		m->gid = rd_u32(r);
	}
	if (f & F_ID)
		m->id = rd_u64(r);
	if (f & F_OFF)
		m->off = rd_i64(r);
	if (f & F_LEN)
		m->len = rd_u64(r);
}

int pmsg_encode(struct wr *w, const struct pmsg *m)
{
	uint32_t f = m->type < PMSG_LAST ? pmsg_fields[m->type] : 0;
	if (!f || m->n_name >= PMSG_NAME_MAX || m->n_data > PMSG_DATA_MAX)
		return -EINVAL;
	if (f & F_REQ)
		wr_u64(w, m->req);
	if (f & F_STATUS)
		wr_i32(w, m->status);
	if (m->type == PMSG_ANSWER) {
		uint8_t has = answer_has(m);
		wr_u8(w, has);
		f = answer_fields(has);
	}
	numbers_encode(w, f, m);
	if (f & F_KEY)
		wr_raw(w, m->key, sizeof m->key);
	if (f & F_ATTR)
		attr_encode(w, &m->attr);
	if (f & F_NAME)
		wr_bytes(w, m->name, m->n_name);
	if (f & F_DATA)
		wr_u32(w, (uint32_t)m->n_data);
	return wr_done(w);
}

int pmsg_decode(struct rd *r, uint16_t type, struct pmsg *ret)
{
	uint32_t f = type < PMSG_LAST ? pmsg_fields[type] : 0;
	memset(ret, 0, sizeof *ret);
	ret->type = type;
	if (!f)
		return -EBADMSG;
	if (f & F_REQ)
		ret->req = rd_u64(r);
	if (f & F_STATUS)
		ret->status = rd_i32(r);
	if (type == PMSG_ANSWER) {
		uint8_t has = rd_u8(r);
		if (has & ~HAS_ALL)
			rd_fail(r);
		f = answer_fields(has);
	}
	numbers_decode(r, f, ret);
	if (f & F_KEY) {
		const uint8_t *k = rd_raw(r, sizeof ret->key);
		if (k)
			memcpy(ret->key, k, sizeof ret->key);
	}
	if (f & F_ATTR)
		attr_decode(r, &ret->attr);
	if (f & F_NAME)
		ret->name = (const char *)rd_bytes(r, PMSG_NAME_MAX - 1, &ret->n_name);
	if (f & F_DATA)
		ret->data = rd_bytes(r, PMSG_DATA_MAX, &ret->n_data);
	return rd_done(r);
}

int pmsg_is_sequenced(uint16_t type)
{
	return type >= PMSG_ATTACH && type < PMSG_LAST && pmsg_fields[type];
}
