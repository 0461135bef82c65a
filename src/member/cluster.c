#include "member/cluster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A used or expired token is kept this long, so that a repeated ADD finds what it did the first time. */
enum { TOKEN_KEEP_MS = 10 * 60 * 1000 };

/* ---- questions ---- */

const struct cluster_member *cluster_member(const struct cluster *c, uint16_t node)
{
	return node >= 1 && node <= NODE_MAX && c->members[node].id ? &c->members[node] : NULL;
}

const struct cluster_member *cluster_member_named(const struct cluster *c, const char *name)
{
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		const struct cluster_member *m = cluster_member(c, i);
		if (m && m->state != MEMBER_REMOVED && strcmp(m->name, name) == 0)
			return m;
	}
	return NULL;
}

bool cluster_is_live(const struct cluster_member *m)
{
	return m && (m->state == MEMBER_ACTIVE || m->state == MEMBER_DRAINING);
}

const char *member_state_name(enum member_state state)
{
	static const char *const names[] = { "none", "joined", "active", "draining", "dead", "removed" };
	return state <= MEMBER_REMOVED ? names[state] : "?";
}

const char *cluster_label_get(const struct cluster_member *m, const char *key)
{
	for (unsigned i = 0; i < m->n_labels; i++)
		if (strcmp(m->labels[i].key, key) == 0)
			return m->labels[i].value;
	return NULL;
}

const char *cluster_setting(const struct cluster *c, const char *key)
{
	for (unsigned i = 0; i < c->n_settings; i++)
		if (strcmp(c->settings[i].key, key) == 0)
			return c->settings[i].value;
	const struct setting *s = setting_find(key);
	return s ? s->initial : NULL;
}

uint32_t cluster_setting_number(const struct cluster *c, const char *key)
{
	const char *v = cluster_setting(c, key);
	return v ? (uint32_t)strtoul(v, NULL, 10) : 0;
}

unsigned cluster_slots(const struct cluster *c, uint16_t node, uint16_t ret[static CLUSTER_SLOTS])
{
	unsigned n = 0;
	for (uint16_t s = 1; s < CLUSTER_SLOTS; s++)
		if (node && c->slot_owner[s] == node)
			ret[n++] = s;
	return n;
}

uint16_t cluster_registrar(const struct cluster *c, uint32_t pid)
{
	uint32_t s = pid / CLUSTER_SLOT_SIZE;
	return s < CLUSTER_SLOTS ? c->slot_owner[s] : 0;
}

/* ---- what is allowed ---- */

int cluster_name_check(const char *name, struct err *e)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
	size_t n = strlen(name);
	if (n >= 1 && n < CLUSTER_NAME_SIZE && name[0] != '.' && name[0] != '-' && strspn(name, chars) == n)
		return 0;
	return err_set(e, -EINVAL, "\"%.70s\" cannot be a node's name: letters, digits, dots and hyphens, at most %d", name,
		       CLUSTER_NAME_SIZE - 1);
}

int cluster_addr_check(const char *addr, struct err *e)
{
	const char *colon = strrchr(addr, ':');
	size_t n = strlen(addr);
	if (n >= CLUSTER_ADDR_SIZE || !colon || colon == addr)
		return err_set(e, -EINVAL, "\"%.130s\" is not host:port", addr);
	for (size_t i = 0; i < n; i++)
		if (addr[i] <= ' ' || addr[i] > '~')
			return err_set(e, -EINVAL, "\"%.130s\": characters that no address has", addr);

	bool bracket = addr[0] == '[' && colon[-1] == ']' && colon - addr > 2;
	if (!bracket && (addr[0] == '[' || memchr(addr, ':', (size_t)(colon - addr))))
		return err_set(e, -EINVAL, "\"%.130s\": an IPv6 address stands in brackets: [address]:port", addr);

	size_t digits = strspn(colon + 1, "0123456789");
	unsigned long port = digits >= 1 && digits <= 5 && !colon[1 + digits] ? strtoul(colon + 1, NULL, 10) : 0;
	if (port < 1 || port > 65535)
		return err_set(e, -EINVAL, "\"%.130s\": the port is a number from 1 to 65535", addr);
	return 0;
}

int cluster_label_check(const char *key, const char *value, struct err *e)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";
	size_t n = strlen(key);
	if (n < 1 || n >= CLUSTER_LABEL_KEY_SIZE || strspn(key, chars) != n)
		return err_set(e, -EINVAL, "\"%.40s\" cannot be a label: letters, digits and . _ - /, at most %d", key,
			       CLUSTER_LABEL_KEY_SIZE - 1);
	n = strlen(value);
	if (n >= CLUSTER_LABEL_VALUE_SIZE || strspn(value, chars) != n)
		return err_set(e, -EINVAL, "label %s: its value is letters, digits and . _ - /, at most %d", key,
			       CLUSTER_LABEL_VALUE_SIZE - 1);
	return 0;
}

/* ---- commands ---- */

static struct cluster_member *member_get(struct cluster *c, uint16_t node)
{
	return node >= 1 && node <= NODE_MAX && c->members[node].id ? &c->members[node] : NULL;
}

/* Whether another member than `except` has this name or this address. */
static bool is_taken(const struct cluster *c, uint16_t except, const char *name, const char *addr)
{
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		const struct cluster_member *m = cluster_member(c, i);
		if (!m || m->state == MEMBER_REMOVED || i == except)
			continue;
		if ((name && strcmp(m->name, name) == 0) || (addr && strcmp(m->addr, addr) == 0))
			return true;
	}
	return false;
}

/* Ids and slots that were never used go first: of a used id an old certificate may be about, and pids of a used slot may still
 * live on other nodes. Then those that were given up longest ago. */
static uint16_t id_pick(const struct cluster *c)
{
	uint16_t oldest = 0;
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		const struct cluster_member *m = cluster_member(c, i);
		if (!m)
			return i;
		if (m->state == MEMBER_REMOVED && (!oldest || m->removed_at < c->members[oldest].removed_at))
			oldest = i;
	}
	return oldest;
}

static uint16_t slot_pick(const struct cluster *c, uint16_t node)
{
	if (node < CLUSTER_SLOTS && !c->slot_owner[node] && !c->slot_freed[node])
		return node;
	uint16_t oldest = 0;
	/* From the top, so that the slot of the same number is left for the nodes to come. */
	for (uint16_t s = CLUSTER_SLOTS - 1; s >= 1; s--) {
		if (c->slot_owner[s])
			continue;
		if (!oldest || c->slot_freed[s] < c->slot_freed[oldest])
			oldest = s;
	}
	return oldest;
}

static void slots_free(struct cluster *c, uint16_t node)
{
	for (unsigned s = 0; s < CLUSTER_SLOTS; s++) {
		if (c->slot_owner[s] == node) {
			c->slot_owner[s] = 0;
			c->slot_freed[s] = c->version;
		}
	}
}

static int identity_check(const struct cluster_cmd *cmd)
{
	if (cluster_addr_check(cmd->addr, NULL) < 0)
		return -EINVAL;
	if (cmd->stream_addr[0] && cluster_addr_check(cmd->stream_addr, NULL) < 0)
		return -EINVAL;
	return 0;
}

static void identity_set(struct cluster_member *m, const struct cluster_cmd *cmd)
{
	memcpy(m->addr, cmd->addr, sizeof m->addr);
	memcpy(m->stream_addr, cmd->stream_addr, sizeof m->stream_addr);
	m->cpus = cmd->cpus;
	m->memory = cmd->memory;
}

/* A new member in place of nobody, or of one removed long ago: its count of incarnations goes on. */
static void member_set(struct cluster *c, uint16_t id, uint16_t slot, const struct cluster_cmd *cmd)
{
	struct cluster_member *m = &c->members[id];
	uint32_t incarnation = m->incarnation;
	*m = (struct cluster_member){ .id = id, .state = MEMBER_JOINED, .incarnation = incarnation };
	memcpy(m->name, cmd->name, sizeof m->name);
	identity_set(m, cmd);
	c->slot_owner[slot] = id;
}

static int init_apply(struct cluster *c, const struct cluster_cmd *cmd, struct cluster_effect *f)
{
	if (c->created_ms)
		return -EEXIST;
	if (!cmd->now_ms || cluster_name_check(cmd->name, NULL) < 0 || identity_check(cmd) < 0)
		return -EINVAL;
	memcpy(c->id, cmd->cluster_id, sizeof c->id);
	c->created_ms = cmd->now_ms;
	member_set(c, 1, 1, cmd);
	f->member = 1;
	f->value = 1;
	return 0;
}

static struct cluster_token *token_get(struct cluster *c, const uint8_t hash[32])
{
	for (unsigned i = 0; i < c->n_tokens; i++)
		if (memcmp(c->tokens[i].hash, hash, 32) == 0)
			return &c->tokens[i];
	return NULL;
}

bool cluster_knows_token(const struct cluster *c, const uint8_t hash[static 32])
{
	for (unsigned i = 0; i < c->n_tokens; i++)
		if (memcmp(c->tokens[i].hash, hash, 32) == 0)
			return true;
	return false;
}

static void token_drop(struct cluster *c, struct cluster_token *t)
{
	*t = c->tokens[--c->n_tokens];
	memset(&c->tokens[c->n_tokens], 0, sizeof *t);
}

static void tokens_expire(struct cluster *c, uint64_t now_ms)
{
	for (unsigned i = 0; i < c->n_tokens;) {
		if (now_ms > c->tokens[i].expires_ms && now_ms - c->tokens[i].expires_ms > TOKEN_KEEP_MS)
			token_drop(c, &c->tokens[i]);
		else
			i++;
	}
}

static int token_add_apply(struct cluster *c, const struct cluster_cmd *cmd)
{
	tokens_expire(c, cmd->now_ms);
	struct cluster_token *t = token_get(c, cmd->hash);
	if (t)
		return t->used_by ? -EKEYREVOKED : 0; /* a repeated command */
	if (cmd->expires_ms <= cmd->now_ms)
		return -EINVAL;
	if (c->n_tokens == CLUSTER_TOKENS)
		return -ENOSPC;
	t = &c->tokens[c->n_tokens++];
	*t = (struct cluster_token){ .expires_ms = cmd->expires_ms };
	memcpy(t->hash, cmd->hash, sizeof t->hash);
	return 0;
}

static int token_del_apply(struct cluster *c, const struct cluster_cmd *cmd)
{
	struct cluster_token *t = token_get(c, cmd->hash);
	if (!t)
		return -ENOENT;
	token_drop(c, t);
	return 0;
}

/* Token and member in one command: a token admits exactly one member, also when the answer to the first try was lost and the
 * same request (same nonce) comes again, through another node even. */
static int add_apply(struct cluster *c, const struct cluster_cmd *cmd, struct cluster_effect *f)
{
	struct cluster_token *t = token_get(c, cmd->hash);
	if (!t)
		return -EKEYREJECTED;
	if (t->used_by) {
		if (t->used_nonce != cmd->nonce)
			return -EKEYREVOKED;
		f->member = t->used_by;
		f->value = t->used_by;
		return 0;
	}
	if (cmd->now_ms >= t->expires_ms)
		return -EKEYEXPIRED;
	if (cluster_name_check(cmd->name, NULL) < 0 || identity_check(cmd) < 0)
		return -EINVAL;
	if (is_taken(c, 0, cmd->name, cmd->addr))
		return -EEXIST;

	uint16_t id = id_pick(c);
	uint16_t slot = slot_pick(c, id);
	if (!id || !slot)
		return -ENOSPC;
	t->used_by = id;
	t->used_nonce = cmd->nonce;
	member_set(c, id, slot, cmd);
	f->member = id;
	f->value = id;
	return 0;
}

static void member_remove(struct cluster *c, struct cluster_member *m)
{
	m->state = MEMBER_REMOVED;
	m->leaving = false;
	m->suspect = 0;
	m->removed_at = c->version;
	slots_free(c, m->id);
}

/* The space of m has ended. */
static void member_end(struct cluster *c, struct cluster_member *m, struct cluster_effect *f)
{
	f->died = m->id;
	f->died_incarnation = m->incarnation;
	m->suspect = 0;
	if (m->leaving)
		member_remove(c, m);
	else
		m->state = MEMBER_DEAD;
}

static int up_apply(struct cluster *c, const struct cluster_cmd *cmd, struct cluster_effect *f)
{
	struct cluster_member *m = member_get(c, cmd->node);
	if (!m)
		return -ENOENT;
	f->member = m->id;
	if (m->state == MEMBER_REMOVED)
		return -EKEYREVOKED;
	if (m->incarnation && m->up_nonce == cmd->nonce) {
		f->value = m->incarnation; /* a repeated command */
		return cluster_is_live(m) ? 0 : -ESTALE;
	}
	if (m->incarnation != cmd->incarnation)
		return -ESTALE;
	if (identity_check(cmd) < 0)
		return -EINVAL;
	if (is_taken(c, m->id, NULL, cmd->addr))
		return -EEXIST;

	bool draining = m->state == MEMBER_DRAINING;
	if (cluster_is_live(m))
		member_end(c, m, f); /* its new space is the end of the old one */
	if (m->state == MEMBER_REMOVED)
		return -EKEYREVOKED;
	m->state = draining ? MEMBER_DRAINING : MEMBER_ACTIVE;
	m->incarnation++;
	m->up_nonce = cmd->nonce;
	identity_set(m, cmd);
	f->value = m->incarnation;
	return 0;
}

static int gone_apply(struct cluster *c, const struct cluster_cmd *cmd, struct cluster_effect *f)
{
	struct cluster_member *m = member_get(c, cmd->node);
	if (!m)
		return -ENOENT;
	f->member = m->id;
	if (m->incarnation != cmd->incarnation)
		return -ESTALE;
	if (!cluster_is_live(m))
		return 0; /* a repeated command, or declared dead in the meantime */
	member_end(c, m, f);
	return 0;
}

static int condemn_apply(struct cluster *c, const struct cluster_cmd *cmd, struct cluster_effect *f)
{
	struct cluster_member *m = member_get(c, cmd->node);
	if (!m)
		return -ENOENT;
	f->member = m->id;
	if (!cluster_is_live(m) || m->incarnation != cmd->incarnation)
		return -ESTALE;
	if (!m->suspect)
		m->suspect = ++c->last_epoch;
	f->value = m->suspect;
	return 0;
}

static int absolve_apply(struct cluster *c, const struct cluster_cmd *cmd, struct cluster_effect *f)
{
	struct cluster_member *m = member_get(c, cmd->node);
	if (!m)
		return -ENOENT;
	f->member = m->id;
	if (!m->suspect || m->suspect != cmd->epoch)
		return -ESTALE;
	m->suspect = 0;
	return 0;
}

static int dead_apply(struct cluster *c, const struct cluster_cmd *cmd, struct cluster_effect *f)
{
	struct cluster_member *m = member_get(c, cmd->node);
	if (!m)
		return -ENOENT;
	f->member = m->id;
	if (!m->suspect || m->suspect != cmd->epoch || m->incarnation != cmd->incarnation)
		return -ESTALE;
	member_end(c, m, f);
	return 0;
}

static int drain_apply(struct cluster *c, const struct cluster_cmd *cmd, struct cluster_effect *f)
{
	struct cluster_member *m = member_get(c, cmd->node);
	if (!m || m->state == MEMBER_REMOVED)
		return -ENOENT;
	f->member = m->id;
	if (!cluster_is_live(m))
		return -EBUSY;
	m->state = cmd->on ? MEMBER_DRAINING : MEMBER_ACTIVE;
	return 0;
}

/* A member whose space runs is only marked: it ends its space and says GONE, or is declared dead. */
static int remove_apply(struct cluster *c, const struct cluster_cmd *cmd, struct cluster_effect *f)
{
	struct cluster_member *m = member_get(c, cmd->node);
	if (!m)
		return -ENOENT;
	f->member = m->id;
	if (m->state == MEMBER_REMOVED)
		return 0;
	if (cluster_is_live(m))
		m->leaving = true;
	else
		member_remove(c, m);
	return 0;
}

static int label_apply(struct cluster *c, const struct cluster_cmd *cmd, struct cluster_effect *f)
{
	struct cluster_member *m = member_get(c, cmd->node);
	if (!m || m->state == MEMBER_REMOVED)
		return -ENOENT;
	if (cluster_label_check(cmd->key, cmd->value, NULL) < 0)
		return -EINVAL;
	f->member = m->id;

	unsigned i = 0;
	while (i < m->n_labels && strcmp(m->labels[i].key, cmd->key) < 0)
		i++;
	bool there = i < m->n_labels && strcmp(m->labels[i].key, cmd->key) == 0;
	if (!cmd->value[0]) {
		if (!there)
			return -ENOENT;
		memmove(&m->labels[i], &m->labels[i + 1], (m->n_labels - i - 1) * sizeof m->labels[0]);
		m->n_labels--;
		return 0;
	}
	if (!there) {
		if (m->n_labels == CLUSTER_LABELS)
			return -ENOSPC;
		memmove(&m->labels[i + 1], &m->labels[i], (m->n_labels - i) * sizeof m->labels[0]);
		m->n_labels++;
		m->labels[i] = (struct cluster_label){ 0 };
		strcpy(m->labels[i].key, cmd->key); /* checked above to fit */
	}
	memset(m->labels[i].value, 0, sizeof m->labels[i].value);
	strcpy(m->labels[i].value, cmd->value);
	return 0;
}

/* What must hold between settings, with the value that is about to be set. */
static bool settings_fit(const struct cluster *c, const char *key, const char *value)
{
	uint32_t dead = cluster_setting_number(c, "dead-after-ms");
	uint32_t beat = cluster_setting_number(c, "heartbeat-ms");
	if (strcmp(key, "dead-after-ms") == 0)
		dead = (uint32_t)strtoul(value, NULL, 10);
	if (strcmp(key, "heartbeat-ms") == 0)
		beat = (uint32_t)strtoul(value, NULL, 10);
	return beat <= dead / 8;
}

static int setting_apply(struct cluster *c, const struct cluster_cmd *cmd, bool del)
{
	const struct setting *s = setting_find(cmd->key);
	if (!s)
		return -ENOENT;
	const char *value = del ? s->initial : cmd->value;
	if (setting_check(cmd->key, value, NULL) < 0 || !settings_fit(c, cmd->key, value))
		return -EINVAL;

	unsigned i = 0;
	while (i < c->n_settings && strcmp(c->settings[i].key, cmd->key) < 0)
		i++;
	bool there = i < c->n_settings && strcmp(c->settings[i].key, cmd->key) == 0;
	if (strcmp(value, s->initial) == 0) {
		if (there) {
			memmove(&c->settings[i], &c->settings[i + 1], (c->n_settings - i - 1) * sizeof c->settings[0]);
			c->n_settings--;
		}
		return 0;
	}
	if (!there) {
		if (c->n_settings == SETTINGS_MAX)
			return -ENOSPC;
		memmove(&c->settings[i + 1], &c->settings[i], (c->n_settings - i) * sizeof c->settings[0]);
		c->n_settings++;
	}
	c->settings[i] = (struct cluster_setting){ 0 };
	strcpy(c->settings[i].key, cmd->key);
	strcpy(c->settings[i].value, value);
	return 0;
}

static int slot_apply(struct cluster *c, const struct cluster_cmd *cmd)
{
	if (cmd->slot < 1 || cmd->slot >= CLUSTER_SLOTS)
		return -EINVAL;
	const struct cluster_member *m = cluster_member(c, cmd->node);
	if (cmd->node && (!m || m->state == MEMBER_REMOVED))
		return -ENOENT;
	if (!cmd->node && c->slot_owner[cmd->slot])
		c->slot_freed[cmd->slot] = c->version;
	c->slot_owner[cmd->slot] = cmd->node;
	return 0;
}

static int cmd_apply(struct cluster *c, const struct cluster_cmd *cmd, struct cluster_effect *f)
{
	if (!c->created_ms && cmd->type != CLUSTER_INIT)
		return -ENOENT;
	switch (cmd->type) {
	case CLUSTER_INIT:
		return init_apply(c, cmd, f);
	case CLUSTER_ADD:
		return add_apply(c, cmd, f);
	case CLUSTER_UP:
		return up_apply(c, cmd, f);
	case CLUSTER_GONE:
		return gone_apply(c, cmd, f);
	case CLUSTER_CONDEMN:
		return condemn_apply(c, cmd, f);
	case CLUSTER_ABSOLVE:
		return absolve_apply(c, cmd, f);
	case CLUSTER_DEAD:
		return dead_apply(c, cmd, f);
	case CLUSTER_DRAIN:
		return drain_apply(c, cmd, f);
	case CLUSTER_REMOVE:
		return remove_apply(c, cmd, f);
	case CLUSTER_LABEL:
		return label_apply(c, cmd, f);
	case CLUSTER_SETTING:
		return setting_apply(c, cmd, false);
	case CLUSTER_SETTING_DEL:
		return setting_apply(c, cmd, true);
	case CLUSTER_TOKEN_ADD:
		return token_add_apply(c, cmd);
	case CLUSTER_TOKEN_DEL:
		return token_del_apply(c, cmd);
	case CLUSTER_SLOT:
		return slot_apply(c, cmd);
	}
	return -EOPNOTSUPP;
}

struct cluster_effect cluster_apply(struct cluster *c, const void *p, size_t n)
{
	struct cluster_effect f = { 0 };
	struct cluster_cmd cmd;
	c->version++;
	f.status = cluster_cmd_decode(p, n, &cmd);
	if (f.status == 0)
		f.status = cmd_apply(c, &cmd, &f);
	return f;
}
