/* Commands and snapshots of the cluster's state as bytes; the formats are written down in member/cluster.h. */
#include "member/cluster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CMD_VERSION = 1, SNAPSHOT_VERSION = 1 };

static void identity_encode(const struct cluster_cmd *c, struct wr *w)
{
	wr_str(w, c->addr);
	wr_str(w, c->stream_addr);
	wr_u32(w, c->cpus);
	wr_u64(w, c->memory);
}

static void identity_decode(struct rd *r, struct cluster_cmd *c)
{
	rd_str(r, c->addr, sizeof c->addr);
	rd_str(r, c->stream_addr, sizeof c->stream_addr);
	c->cpus = rd_u32(r);
	c->memory = rd_u64(r);
}

static void raw_decode(struct rd *r, uint8_t *dst, size_t n)
{
	const uint8_t *p = rd_raw(r, n);
	if (p)
		memcpy(dst, p, n);
}

int cluster_cmd_encode(const struct cluster_cmd *c, struct wr *w)
{
	wr_u8(w, CMD_VERSION);
	wr_u16(w, (uint16_t)c->type);
	switch (c->type) {
	case CLUSTER_INIT:
		wr_raw(w, c->cluster_id, sizeof c->cluster_id);
		wr_u64(w, c->now_ms);
		wr_str(w, c->name);
		identity_encode(c, w);
		break;
	case CLUSTER_ADD:
		wr_raw(w, c->hash, sizeof c->hash);
		wr_u64(w, c->now_ms);
		wr_u64(w, c->nonce);
		wr_str(w, c->name);
		identity_encode(c, w);
		break;
	case CLUSTER_UP:
		wr_u16(w, c->node);
		wr_u32(w, c->incarnation);
		wr_u64(w, c->nonce);
		identity_encode(c, w);
		break;
	case CLUSTER_GONE:
	case CLUSTER_CONDEMN:
		wr_u16(w, c->node);
		wr_u32(w, c->incarnation);
		break;
	case CLUSTER_ABSOLVE:
		wr_u16(w, c->node);
		wr_u32(w, c->epoch);
		break;
	case CLUSTER_DEAD:
		wr_u16(w, c->node);
		wr_u32(w, c->incarnation);
		wr_u32(w, c->epoch);
		break;
	case CLUSTER_DRAIN:
		wr_u16(w, c->node);
		wr_u8(w, c->on);
		break;
	case CLUSTER_REMOVE:
		wr_u16(w, c->node);
		break;
	case CLUSTER_LABEL:
		wr_u16(w, c->node);
		wr_str(w, c->key);
		wr_str(w, c->value);
		break;
	case CLUSTER_SETTING:
		wr_str(w, c->key);
		wr_str(w, c->value);
		break;
	case CLUSTER_SETTING_DEL:
		wr_str(w, c->key);
		break;
	case CLUSTER_TOKEN_ADD:
		wr_raw(w, c->hash, sizeof c->hash);
		wr_u64(w, c->now_ms);
		wr_u64(w, c->expires_ms);
		break;
	case CLUSTER_TOKEN_DEL:
		wr_raw(w, c->hash, sizeof c->hash);
		break;
	case CLUSTER_SLOT:
		wr_u16(w, c->slot);
		wr_u16(w, c->node);
		break;
	default:
		return -EINVAL;
	}
	return wr_done(w);
}

/* Reads the fields of c->type; false for an unknown type. */
static bool fields_decode(struct rd *r, struct cluster_cmd *c)
{
	switch (c->type) {
	case CLUSTER_INIT:
		raw_decode(r, c->cluster_id, sizeof c->cluster_id);
		c->now_ms = rd_u64(r);
		rd_str(r, c->name, sizeof c->name);
		identity_decode(r, c);
		return true;
	case CLUSTER_ADD:
		raw_decode(r, c->hash, sizeof c->hash);
		c->now_ms = rd_u64(r);
		c->nonce = rd_u64(r);
		rd_str(r, c->name, sizeof c->name);
		identity_decode(r, c);
		return true;
	case CLUSTER_UP:
		c->node = rd_u16(r);
		c->incarnation = rd_u32(r);
		c->nonce = rd_u64(r);
		identity_decode(r, c);
		return true;
	case CLUSTER_GONE:
	case CLUSTER_CONDEMN:
		c->node = rd_u16(r);
		c->incarnation = rd_u32(r);
		return true;
	case CLUSTER_ABSOLVE:
		c->node = rd_u16(r);
		c->epoch = rd_u32(r);
		return true;
	case CLUSTER_DEAD:
		c->node = rd_u16(r);
		c->incarnation = rd_u32(r);
		c->epoch = rd_u32(r);
		return true;
	case CLUSTER_DRAIN:
		c->node = rd_u16(r);
		c->on = rd_u8(r) != 0;
		return true;
	case CLUSTER_REMOVE:
		c->node = rd_u16(r);
		return true;
	case CLUSTER_LABEL:
		c->node = rd_u16(r);
		rd_str(r, c->key, sizeof c->key);
		rd_str(r, c->value, sizeof c->value);
		return true;
	case CLUSTER_SETTING:
		rd_str(r, c->key, sizeof c->key);
		rd_str(r, c->value, sizeof c->value);
		return true;
	case CLUSTER_SETTING_DEL:
		rd_str(r, c->key, sizeof c->key);
		return true;
	case CLUSTER_TOKEN_ADD:
		raw_decode(r, c->hash, sizeof c->hash);
		c->now_ms = rd_u64(r);
		c->expires_ms = rd_u64(r);
		return true;
	case CLUSTER_TOKEN_DEL:
		raw_decode(r, c->hash, sizeof c->hash);
		return true;
	case CLUSTER_SLOT:
		c->slot = rd_u16(r);
		c->node = rd_u16(r);
		return true;
	default:
		return false;
	}
}

int cluster_cmd_decode(const void *p, size_t n, struct cluster_cmd *ret)
{
	struct rd r;
	rd_init(&r, p, n);
	uint8_t version = rd_u8(&r);
	struct cluster_cmd c = { .type = (enum cluster_cmd_type)rd_u16(&r) };
	if (r.bad)
		return -EBADMSG;
	if (version != CMD_VERSION || !fields_decode(&r, &c))
		return -EOPNOTSUPP;

	int rc = rd_done(&r);
	if (rc < 0)
		return rc;
	*ret = c;
	return 0;
}

static void member_encode(const struct cluster_member *m, struct wr *w)
{
	wr_u16(w, m->id);
	wr_u8(w, (uint8_t)m->state);
	wr_u8(w, m->leaving);
	wr_u32(w, m->incarnation);
	wr_u32(w, m->suspect);
	wr_u64(w, m->up_nonce);
	wr_u64(w, m->removed_at);
	wr_str(w, m->name);
	wr_str(w, m->addr);
	wr_str(w, m->stream_addr);
	wr_u32(w, m->cpus);
	wr_u64(w, m->memory);
	wr_u32(w, m->n_labels);
	for (unsigned i = 0; i < m->n_labels; i++) {
		wr_str(w, m->labels[i].key);
		wr_str(w, m->labels[i].value);
	}
}

void cluster_encode(const struct cluster *c, struct wr *w)
{
	wr_u8(w, SNAPSHOT_VERSION);
	wr_u64(w, c->version);
	wr_raw(w, c->id, sizeof c->id);
	wr_u64(w, c->created_ms);
	wr_u32(w, c->last_epoch);

	uint32_t n = 0;
	size_t at = w->n;
	wr_u32(w, 0);
	for (unsigned i = 1; i <= NODE_MAX; i++) {
		if (c->members[i].id) {
			member_encode(&c->members[i], w);
			n++;
		}
	}
	wr_put_u32(w, at, n);

	for (unsigned s = 0; s < CLUSTER_SLOTS; s++) {
		wr_u16(w, c->slot_owner[s]);
		wr_u64(w, c->slot_freed[s]);
	}
	wr_u32(w, c->n_settings);
	for (unsigned i = 0; i < c->n_settings; i++) {
		wr_str(w, c->settings[i].key);
		wr_str(w, c->settings[i].value);
	}
	wr_u32(w, c->n_tokens);
	for (unsigned i = 0; i < c->n_tokens; i++) {
		wr_raw(w, c->tokens[i].hash, sizeof c->tokens[i].hash);
		wr_u64(w, c->tokens[i].expires_ms);
		wr_u16(w, c->tokens[i].used_by);
		wr_u64(w, c->tokens[i].used_nonce);
	}
}

static void member_decode(struct rd *r, struct cluster *c)
{
	uint16_t id = rd_u16(r);
	if (id < 1 || id > NODE_MAX || c->members[id].id) {
		rd_fail(r);
		return;
	}
	struct cluster_member *m = &c->members[id];
	m->id = id;
	uint8_t state = rd_u8(r);
	if (state < MEMBER_JOINED || state > MEMBER_REMOVED)
		rd_fail(r);
	m->state = (enum member_state)state;
	m->leaving = rd_u8(r) != 0;
	m->incarnation = rd_u32(r);
	m->suspect = rd_u32(r);
	m->up_nonce = rd_u64(r);
	m->removed_at = rd_u64(r);
	rd_str(r, m->name, sizeof m->name);
	rd_str(r, m->addr, sizeof m->addr);
	rd_str(r, m->stream_addr, sizeof m->stream_addr);
	m->cpus = rd_u32(r);
	m->memory = rd_u64(r);
	m->n_labels = rd_count(r, CLUSTER_LABELS, 8);
	for (unsigned i = 0; i < m->n_labels; i++) {
		rd_str(r, m->labels[i].key, sizeof m->labels[i].key);
		rd_str(r, m->labels[i].value, sizeof m->labels[i].value);
	}
}

static void state_decode(struct rd *r, struct cluster *c)
{
	c->version = rd_u64(r);
	raw_decode(r, c->id, sizeof c->id);
	c->created_ms = rd_u64(r);
	c->last_epoch = rd_u32(r);

	uint32_t n = rd_count(r, NODE_MAX, 40);
	for (uint32_t i = 0; i < n; i++)
		member_decode(r, c);

	for (unsigned s = 0; s < CLUSTER_SLOTS; s++) {
		c->slot_owner[s] = rd_u16(r);
		c->slot_freed[s] = rd_u64(r);
		if (c->slot_owner[s] > NODE_MAX)
			rd_fail(r);
	}
	c->n_settings = rd_count(r, SETTINGS_MAX, 8);
	for (unsigned i = 0; i < c->n_settings; i++) {
		rd_str(r, c->settings[i].key, sizeof c->settings[i].key);
		rd_str(r, c->settings[i].value, sizeof c->settings[i].value);
	}
	c->n_tokens = rd_count(r, CLUSTER_TOKENS, 50);
	for (unsigned i = 0; i < c->n_tokens; i++) {
		raw_decode(r, c->tokens[i].hash, sizeof c->tokens[i].hash);
		c->tokens[i].expires_ms = rd_u64(r);
		c->tokens[i].used_by = rd_u16(r);
		c->tokens[i].used_nonce = rd_u64(r);
	}
}

int cluster_decode(struct cluster *c, const void *p, size_t n)
{
	struct cluster *fresh = calloc(1, sizeof *fresh); /* too large for the stack of a worker thread */
	if (!fresh)
		return -ENOMEM;

	struct rd r;
	rd_init(&r, p, n);
	if (rd_u8(&r) != SNAPSHOT_VERSION)
		rd_fail(&r);
	state_decode(&r, fresh);
	int rc = rd_done(&r);
	if (rc == 0)
		*c = *fresh;
	free(fresh);
	return rc;
}
