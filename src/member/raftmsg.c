#include "member/raftmsg.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "member/cluster.h"
#include "transport/links.h"
#include "wire/rd.h"

enum {
	RAFTMSG_VERSION = 1,
	ENTRIES_MAX = 1 << 16,
	ENTRY_MAX = 64 << 10, /* commands are smaller; so are groups of NODE_MAX servers */
	ALIGN = 8,            /* of entries: libraft wants it so */
};

/* Numbers of our own on the wire, whatever libraft's are. */
enum { APPEND = 1, APPENDED, VOTE, VOTED, SNAPSHOT, TIMEOUT_NOW };

/* libraft's numbers: the names differ between 0.15 and 0.22, the values do not. */
enum { RAFT_APPEND = 1, RAFT_APPENDED, RAFT_VOTE, RAFT_VOTED, RAFT_SNAPSHOT_MSG, RAFT_TIMEOUT_MSG };
#ifdef RAFT_HAS_VERSIONS
typedef enum raft_message_type raft_message_kind;
#else
typedef unsigned short raft_message_kind;
#endif

/* ---- out ---- */

static void append_encode(const struct raft_append_entries *a, struct wr *w)
{
	wr_u64(w, a->prev_log_index);
	wr_u64(w, a->prev_log_term);
	wr_u64(w, a->leader_commit);
	wr_u32(w, a->n_entries);
	for (unsigned i = 0; i < a->n_entries; i++) {
		wr_u64(w, a->entries[i].term);
		wr_u8(w, (uint8_t)a->entries[i].type);
		wr_bytes(w, a->entries[i].buf.base, a->entries[i].buf.len);
	}
}

static void snapshot_encode(const struct raft_install_snapshot *s, struct wr *w)
{
	wr_u64(w, s->last_index);
	wr_u64(w, s->last_term);
	wr_u64(w, s->conf_index);
	wr_u32(w, s->conf.n);
	for (unsigned i = 0; i < s->conf.n; i++) {
		wr_u64(w, s->conf.servers[i].id);
		wr_str(w, s->conf.servers[i].address);
		wr_u8(w, (uint8_t)s->conf.servers[i].role);
	}
	wr_bytes(w, s->data.base, s->data.len);
}

int raftmsg_encode(const struct raft_message *m, struct wr *w)
{
	wr_u8(w, RAFTMSG_VERSION);
	switch ((int)m->type) {
	case RAFT_APPEND:
		wr_u8(w, APPEND);
		wr_u64(w, m->append_entries.term);
		append_encode(&m->append_entries, w);
		break;
	case RAFT_APPENDED:
		wr_u8(w, APPENDED);
		wr_u64(w, m->append_entries_result.term);
		wr_u64(w, m->append_entries_result.rejected);
		wr_u64(w, m->append_entries_result.last_log_index);
		break;
	case RAFT_VOTE:
		wr_u8(w, VOTE);
		wr_u64(w, m->request_vote.term);
		wr_u64(w, m->request_vote.candidate_id);
		wr_u64(w, m->request_vote.last_log_index);
		wr_u64(w, m->request_vote.last_log_term);
		wr_u8(w, (uint8_t)(m->request_vote.disrupt_leader | m->request_vote.pre_vote << 1));
		break;
	case RAFT_VOTED:
		wr_u8(w, VOTED);
		wr_u64(w, m->request_vote_result.term);
#ifdef RAFT_HAS_TRIBOOL
		wr_u8(w, (uint8_t)(m->request_vote_result.vote_granted | (m->request_vote_result.pre_vote == raft_tribool_true) << 1));
#else
		wr_u8(w, (uint8_t)(m->request_vote_result.vote_granted | m->request_vote_result.pre_vote << 1));
#endif
		break;
	case RAFT_SNAPSHOT_MSG:
		wr_u8(w, SNAPSHOT);
		wr_u64(w, m->install_snapshot.term);
		snapshot_encode(&m->install_snapshot, w);
		break;
	case RAFT_TIMEOUT_MSG:
		wr_u8(w, TIMEOUT_NOW);
		wr_u64(w, m->timeout_now.term);
		wr_u64(w, m->timeout_now.last_log_index);
		wr_u64(w, m->timeout_now.last_log_term);
		break;
	default:
		return -EINVAL;
	}
	return wr_done(w);
}

/* ---- in ---- */

/* The entries are read twice: first to see that they are well formed and how long they are, then to copy them into one piece of
 * memory, as libraft frees them together. */
static size_t entries_measure(struct rd *r, uint32_t n)
{
	size_t total = 0;
	for (uint32_t i = 0; i < n; i++) {
		size_t size;
		(void)rd_u64(r);
		uint8_t type = rd_u8(r);
		(void)rd_bytes(r, ENTRY_MAX, &size);
		if ((type != RAFT_COMMAND && type != RAFT_BARRIER && type != RAFT_CHANGE) || size == 0 || size % ALIGN)
			rd_fail(r);
		total += size;
	}
	return r->bad ? 0 : total;
}

static int append_decode(struct rd *r, struct raft_append_entries *a)
{
	a->prev_log_index = rd_u64(r);
	a->prev_log_term = rd_u64(r);
	a->leader_commit = rd_u64(r);
	uint32_t n = rd_count(r, ENTRIES_MAX, 13);
	struct rd again = *r;
	size_t total = entries_measure(r, n);
	if (rd_done(r) < 0 || n == 0)
		return rd_done(r);

	struct raft_entry *entries = raft_calloc(n, sizeof *entries);
	uint8_t *batch = raft_malloc(total);
	if (!entries || !batch) {
		raft_free(entries);
		raft_free(batch);
		return -ENOMEM;
	}
	size_t at = 0;
	for (uint32_t i = 0; i < n; i++) {
		size_t size;
		entries[i].term = rd_u64(&again);
		entries[i].type = rd_u8(&again);
		const uint8_t *p = rd_bytes(&again, ENTRY_MAX, &size);
		memcpy(batch + at, p, size);
		entries[i].buf.base = batch + at;
		entries[i].buf.len = size;
		entries[i].batch = batch;
		at += size;
	}
	a->entries = entries;
	a->n_entries = n;
	return 0;
}

static int snapshot_decode(struct rd *r, struct raft_install_snapshot *s)
{
	s->last_index = rd_u64(r);
	s->last_term = rd_u64(r);
	s->conf_index = rd_u64(r);
	raft_configuration_init(&s->conf);
	uint32_t n = rd_count(r, NODE_MAX, 13);
	for (uint32_t i = 0; i < n; i++) {
		char address[16];
		uint64_t id = rd_u64(r);
		rd_str(r, address, sizeof address);
		uint8_t role = rd_u8(r);
		if (id < 1 || id > NODE_MAX || (role != RAFT_STANDBY && role != RAFT_VOTER && role != RAFT_SPARE))
			rd_fail(r);
		if (r->bad)
			break;
		int rv = raft_configuration_add(&s->conf, id, address, role);
		if (rv == RAFT_NOMEM)
			return -ENOMEM;
		if (rv != 0)
			rd_fail(r); /* the same server twice */
	}
	size_t size;
	const uint8_t *p = rd_bytes(r, CLUSTER_SNAPSHOT_MAX + 16, &size);
	if (rd_done(r) < 0)
		return -EBADMSG;
	s->data.base = raft_malloc(size ? size : 1);
	if (!s->data.base)
		return -ENOMEM;
	memcpy(s->data.base, p, size);
	s->data.len = size;
	return 0;
}

static void vote_decode(struct rd *r, uint16_t from, struct raft_request_vote *v)
{
#ifdef RAFT_HAS_VERSIONS
	v->version = 2; /* of libraft's message: with both flags */
#endif
	v->candidate_id = rd_u64(r);
	v->last_log_index = rd_u64(r);
	v->last_log_term = rd_u64(r);
	uint8_t flags = rd_u8(r);
	v->disrupt_leader = (flags & 1) != 0;
	v->pre_vote = (flags & 2) != 0;
	if (v->candidate_id != from)
		rd_fail(r);
}

static void voted_decode(struct rd *r, struct raft_request_vote_result *v)
{
	uint8_t flags = rd_u8(r);
#ifdef RAFT_HAS_VERSIONS
	v->version = 2; /* with the flag; no features, so no capacity either */
#endif
	v->vote_granted = (flags & 1) != 0;
#ifdef RAFT_HAS_TRIBOOL
	v->pre_vote = TO_RAFT_TRIBOOL(flags & 2);
#else
	v->pre_vote = (flags & 2) != 0;
#endif
}

static int body_decode(struct rd *r, uint8_t type, uint64_t term, uint16_t from, struct raft_message *m)
{
	switch (type) {
	case APPEND:
		m->type = (raft_message_kind)RAFT_APPEND;
		m->append_entries.term = term;
		return append_decode(r, &m->append_entries);
	case APPENDED:
		m->type = (raft_message_kind)RAFT_APPENDED;
		m->append_entries_result.term = term;
#ifdef RAFT_HAS_VERSIONS
		m->append_entries_result.version = 2; /* as above */
#endif
		m->append_entries_result.rejected = rd_u64(r);
		m->append_entries_result.last_log_index = rd_u64(r);
		return rd_done(r);
	case VOTE:
		m->type = (raft_message_kind)RAFT_VOTE;
		m->request_vote.term = term;
		vote_decode(r, from, &m->request_vote);
		return rd_done(r);
	case VOTED:
		m->type = (raft_message_kind)RAFT_VOTED;
		m->request_vote_result.term = term;
		voted_decode(r, &m->request_vote_result);
		return rd_done(r);
	case SNAPSHOT:
		m->type = (raft_message_kind)RAFT_SNAPSHOT_MSG;
		m->install_snapshot.term = term;
		return snapshot_decode(r, &m->install_snapshot);
	case TIMEOUT_NOW:
		m->type = (raft_message_kind)RAFT_TIMEOUT_MSG;
		m->timeout_now.term = term;
		m->timeout_now.last_log_index = rd_u64(r);
		m->timeout_now.last_log_term = rd_u64(r);
		return rd_done(r);
	default:
		return -EBADMSG;
	}
}

void raftmsg_free(struct raft_message *m)
{
	if ((int)m->type == RAFT_APPEND && m->append_entries.entries) {
		raft_free(m->append_entries.entries[0].batch);
		raft_free(m->append_entries.entries);
		m->append_entries.entries = NULL;
	}
	if ((int)m->type == RAFT_SNAPSHOT_MSG) {
		raft_configuration_close(&m->install_snapshot.conf);
		raft_configuration_init(&m->install_snapshot.conf);
		raft_free(m->install_snapshot.data.base);
		m->install_snapshot.data.base = NULL;
	}
}

int raftmsg_decode(const void *p, size_t n, uint16_t from, struct raft_message *ret)
{
	struct rd r;
	struct raft_message m;
	memset(&m, 0, sizeof m);
	rd_init(&r, p, n);
	uint8_t version = rd_u8(&r);
	uint8_t type = rd_u8(&r);
	uint64_t term = rd_u64(&r);
	if (r.bad || version != RAFTMSG_VERSION || from < 1 || from > NODE_MAX)
		return -EBADMSG;
	m.server_id = from;
	int rc = body_decode(&r, type, term, from, &m);
	if (rc < 0) {
		raftmsg_free(&m);
		return rc;
	}
	*ret = m;
	return 0;
}
