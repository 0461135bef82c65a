#include "stream/proto.h"

#include <errno.h>
#include <string.h>

/* The fields in the order in which they are written. */
enum sproto_field {
	F_VERSION = 1 << 0,
	F_NODE = 1 << 1,
	F_HOME = 1 << 2,
	F_FLAGS = 1 << 3,
	F_KIND = 1 << 4,
	F_OFLAGS = 1 << 5,
	F_OP = 1 << 6,
	F_WHENCE = 1 << 7,
	F_SIZE = 1 << 8,
	F_PID = 1 << 9,
	F_ID = 1 << 10,
	F_INSTANCE = 1 << 11,
	F_MEM = 1 << 12,
	F_OFF = 1 << 13,
	F_VALUE = 1 << 14,
	F_KEY = 1 << 15,
	F_ADDR = 1 << 16,
	F_NAME = 1 << 17,
	F_TEXT = 1 << 18,
	F_IDS = 1 << 19,
};

static const struct {
	uint32_t request, answer;
} sproto_types[SPROTO_LAST] = {
	[SPROTO_HELLO] = { F_VERSION | F_NODE | F_ADDR, F_INSTANCE | F_NODE | F_ADDR },
	[SPROTO_PEER] = { F_NODE | F_ADDR, 0 },
	[SPROTO_PEER_DEAD] = { F_NODE, 0 },
	[SPROTO_EXPORT] = { F_NODE | F_FLAGS | F_NAME, F_HOME | F_ID | F_KEY | F_KIND | F_OFLAGS | F_NAME },
	[SPROTO_UNEXPORT] = { F_NODE | F_HOME | F_ID, 0 },
	[SPROTO_IMPORT] = { F_HOME | F_ID | F_KEY | F_FLAGS, F_ID | F_KIND },
	[SPROTO_BARRIER] = { F_PID | F_IDS, 0 },
	[SPROTO_STAT] = { 0, 0 },
	[SPROTO_PEERS_END] = { 0, 0 },
	[SPROTO_DESC] = { F_OP | F_WHENCE | F_SIZE | F_PID | F_MEM | F_OFF, F_VALUE },
};

static int known(uint16_t type)
{
	return type >= SPROTO_HELLO && type < SPROTO_LAST;
}

static void fields_encode(struct wr *w, uint32_t f, const struct sproto_msg *m)
{
	const struct {
		uint32_t field, value;
	} u32s[] = { { F_FLAGS, m->flags },   { F_KIND, m->kind }, { F_OFLAGS, m->oflags }, { F_OP, m->op },
		     { F_WHENCE, m->whence }, { F_SIZE, m->size }, { F_PID, m->pid } };

	if (f & F_VERSION)
		wr_u32(w, m->version);
	if (f & F_NODE)
		wr_u16(w, m->node);
	if (f & F_HOME)
		wr_u16(w, m->home);
	for (size_t i = 0; i < sizeof u32s / sizeof *u32s; i++)
		if (f & u32s[i].field)
			wr_u32(w, u32s[i].value);
	if (f & F_ID)
		wr_u64(w, m->id);
	if (f & F_INSTANCE)
		wr_u64(w, m->instance);
	if (f & F_MEM)
		wr_u64(w, m->mem);
	if (f & F_OFF)
		wr_i64(w, m->off);
	if (f & F_VALUE)
		wr_i64(w, m->value);
	if (f & F_KEY)
		wr_raw(w, m->key, sizeof m->key);
	if (f & F_ADDR)
		wr_str(w, m->addr);
	if (f & F_NAME)
		wr_str(w, m->name);
	if (f & F_TEXT)
		wr_str(w, m->text);
	if (f & F_IDS) {
		wr_u32(w, m->n_ids);
		for (uint32_t i = 0; i < m->n_ids; i++)
			wr_u64(w, m->ids[i]);
	}
}

static int fields_decode(struct rd *r, uint32_t f, struct sproto_msg *m)
{
	const struct {
		uint32_t field, *value;
	} u32s[] = { { F_FLAGS, &m->flags },   { F_KIND, &m->kind }, { F_OFLAGS, &m->oflags }, { F_OP, &m->op },
		     { F_WHENCE, &m->whence }, { F_SIZE, &m->size }, { F_PID, &m->pid } };

	if (f & F_VERSION)
		m->version = rd_u32(r);
	if (f & F_NODE)
		m->node = rd_u16(r);
	if (f & F_HOME)
		m->home = rd_u16(r);
	for (size_t i = 0; i < sizeof u32s / sizeof *u32s; i++)
		if (f & u32s[i].field)
			*u32s[i].value = rd_u32(r);
	if (f & F_ID)
		m->id = rd_u64(r);
	if (f & F_INSTANCE)
		m->instance = rd_u64(r);
	if (f & F_MEM)
		m->mem = rd_u64(r);
	if (f & F_OFF)
		m->off = rd_i64(r);
	if (f & F_VALUE)
		m->value = rd_i64(r);
	if (f & F_KEY) {
		const uint8_t *k = rd_raw(r, sizeof m->key);
		if (k)
			memcpy(m->key, k, sizeof m->key);
	}
	if (f & F_ADDR)
		rd_str(r, m->addr, sizeof m->addr);
	if (f & F_NAME)
		rd_str(r, m->name, sizeof m->name);
	if (f & F_TEXT)
		rd_str(r, m->text, sizeof m->text);
	if (f & F_IDS) {
		m->n_ids = rd_count(r, SPROTO_IDS_MAX, 8);
		for (uint32_t i = 0; i < m->n_ids; i++)
			m->ids[i] = rd_u64(r);
	}
	return rd_done(r);
}

int sproto_request_encode(struct wr *w, const struct sproto_msg *m)
{
	if (!known(m->type) || m->n_ids > SPROTO_IDS_MAX)
		return -EINVAL;
	wr_u16(w, m->type);
	wr_u64(w, m->tag);
	fields_encode(w, sproto_types[m->type].request, m);
	return wr_done(w);
}

int sproto_answer_encode(struct wr *w, const struct sproto_msg *m)
{
	if (!known(m->type))
		return -EINVAL;
	wr_u16(w, SPROTO_ANSWER);
	wr_u64(w, m->tag);
	wr_i32(w, m->status);
	fields_encode(w, sproto_types[m->type].answer | F_TEXT, m);
	return wr_done(w);
}

int sproto_request_decode(struct rd *r, struct sproto_msg *ret)
{
	memset(ret, 0, sizeof *ret);
	ret->type = rd_u16(r);
	ret->tag = rd_u64(r);
	if (!known(ret->type))
		return -EBADMSG;
	return fields_decode(r, sproto_types[ret->type].request, ret);
}

int sproto_answer_head(struct rd *r, uint64_t *ret_tag, int32_t *ret_status)
{
	uint16_t type = rd_u16(r);
	*ret_tag = rd_u64(r);
	*ret_status = rd_i32(r);
	return r->bad || type != SPROTO_ANSWER ? -EBADMSG : 0;
}

int sproto_answer_decode(struct rd *r, uint16_t type, struct sproto_msg *ret)
{
	if (!known(type))
		return -EBADMSG;
	memset(ret, 0, sizeof *ret);
	ret->type = type;
	return fields_decode(r, sproto_types[type].answer | F_TEXT, ret);
}
