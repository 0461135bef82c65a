#include "procfs/proto.h"

#include <errno.h>

void proto_hello_put(struct wr *w)
{
	wr_u8(w, PROTO_HELLO);
	wr_u16(w, PROTO_VERSION);
}

void proto_space_put(struct wr *w, uint16_t self)
{
	wr_u8(w, PROTO_SPACE);
	wr_u16(w, self);
}

void proto_plain_put(struct wr *w, uint8_t type)
{
	wr_u8(w, type);
}

void proto_node_put(struct wr *w, uint16_t node, const char *name, int up)
{
	wr_u8(w, name ? PROTO_NODE : PROTO_NODE_GONE);
	wr_u16(w, node);
	if (name) {
		wr_str(w, name);
		wr_u8(w, up != 0);
	}
}

void proto_slot_put(struct wr *w, uint32_t slot, uint16_t node)
{
	wr_u8(w, PROTO_SLOT);
	wr_u32(w, slot);
	wr_u16(w, node);
}

void proto_pids_put(struct wr *w, const struct procfs_pid *p, size_t n)
{
	wr_u8(w, PROTO_PIDS);
	wr_u32(w, (uint32_t)n);
	for (size_t i = 0; i < n; i++) {
		wr_u32(w, p[i].pid);
		wr_u8(w, p[i].kind);
		wr_u16(w, p[i].node);
		wr_u32(w, p[i].tgid);
		wr_u32(w, p[i].uid);
		wr_u32(w, p[i].gid);
	}
}

void proto_pids_gone_put(struct wr *w, const uint32_t *pids, size_t n)
{
	wr_u8(w, PROTO_PIDS_GONE);
	wr_u32(w, (uint32_t)n);
	for (size_t i = 0; i < n; i++)
		wr_u32(w, pids[i]);
}

void proto_features_put(struct wr *w, uint32_t pid, uint32_t flags)
{
	wr_u8(w, PROTO_FEATURES);
	wr_u32(w, pid);
	wr_u32(w, flags);
}

void proto_features_gone_put(struct wr *w, uint32_t pid)
{
	wr_u8(w, PROTO_FEATURES_GONE);
	wr_u32(w, pid);
}

void proto_call_put(struct wr *w, uint8_t type, const struct proto_call *c)
{
	wr_u8(w, type);
	wr_u64(w, c->id);
	wr_u16(w, c->node);
	wr_u32(w, c->timeout_ms);
	wr_i32(w, c->status);
	wr_bytes(w, c->p, c->n);
}

int proto_hello_get(struct rd *r, uint16_t *ret_version)
{
	*ret_version = rd_u16(r);
	return rd_done(r);
}

int proto_space_get(struct rd *r, uint16_t *ret_self)
{
	*ret_self = rd_u16(r);
	if (*ret_self == 0 || *ret_self >= TABLE_NODES)
		rd_fail(r);
	return rd_done(r);
}

int proto_call_get(struct rd *r, struct proto_call *ret)
{
	ret->id = rd_u64(r);
	ret->node = rd_u16(r);
	ret->timeout_ms = rd_u32(r);
	ret->status = rd_i32(r);
	ret->p = rd_bytes(r, PROTO_FRAME_MAX, &ret->n);
	return rd_done(r);
}

static int node_get(struct rd *r, struct table *t, int gone)
{
	char name[TABLE_NAME_MAX] = "";
	uint16_t node = rd_u16(r);
	uint8_t up = 0;
	if (!gone) {
		rd_str(r, name, sizeof(name));
		up = rd_u8(r);
	}
	int rc = rd_done(r);
	if (rc < 0)
		return rc;
	return table_node_set(t, node, gone ? NULL : name, up) < 0 ? -EBADMSG : 0;
}

static int pids_get(struct rd *r, struct table *t)
{
	uint32_t n = rd_count(r, PROTO_PIDS_MAX, 19);
	for (uint32_t i = 0; i < n; i++) {
		struct procfs_pid p = { .pid = rd_u32(r) };
		p.kind = rd_u8(r);
		p.node = rd_u16(r);
		p.tgid = rd_u32(r);
		p.uid = rd_u32(r);
		p.gid = rd_u32(r);
		int rc = r->bad ? -EBADMSG : table_pid_set(t, &p);
		if (rc < 0)
			return rc == -EINVAL ? -EBADMSG : rc;
	}
	return rd_done(r);
}

static int pids_gone_get(struct rd *r, struct table *t)
{
	uint32_t n = rd_count(r, PROTO_PIDS_MAX, 4);
	for (uint32_t i = 0; i < n; i++)
		table_pid_del(t, rd_u32(r));
	return rd_done(r);
}

static int features_get(struct rd *r, struct table *t)
{
	uint32_t pid = rd_u32(r);
	uint32_t flags = rd_u32(r);
	int rc = rd_done(r);
	if (rc < 0)
		return rc;
	if (pid)
		return table_features_set(t, pid, flags);
	t->features_default = flags;
	return 0;
}

static int features_gone_get(struct rd *r, struct table *t)
{
	table_features_del(t, rd_u32(r));
	return rd_done(r);
}

static int slot_get(struct rd *r, struct table *t)
{
	uint32_t slot = rd_u32(r);
	uint16_t node = rd_u16(r);
	int rc = rd_done(r);
	if (rc < 0)
		return rc;
	return table_slot_set(t, slot, node) < 0 ? -EBADMSG : 0;
}

int proto_table_get(uint8_t type, struct rd *r, struct table *t)
{
	switch (type) {
	case PROTO_NODE:
	case PROTO_NODE_GONE:
		return node_get(r, t, type == PROTO_NODE_GONE);
	case PROTO_SLOT:
		return slot_get(r, t);
	case PROTO_PIDS:
		return pids_get(r, t);
	case PROTO_PIDS_GONE:
		return pids_gone_get(r, t);
	case PROTO_FEATURES:
		return features_get(r, t);
	case PROTO_FEATURES_GONE:
		return features_gone_get(r, t);
	default:
		return -EOPNOTSUPP;
	}
}
