/* The agreed truth about the cluster: members, slots of pids, settings, join tokens. A replicated state machine.
 *
 * Pure: no I/O, no clock, no allocation (the state is one struct of fixed size), so that every node that applies the same
 * commands in the same order has the same state. Any thread, one at a time per state.
 *
 * Commands and snapshots are little endian (wire/rd.h, wire/wr.h).
 *   command  = u8 version (1), u16 type, fields of that type in the order given at enum cluster_cmd_type
 *   snapshot = u8 version (1), see cluster_encode()
 * A command of an unknown version or type changes nothing and gives -EOPNOTSUPP on every node alike; new types may therefore only be
 * proposed when all members know them.
 *
 * The life of a member:
 *
 *   (none) --ADD--> joined --UP--> active <--DRAIN--> draining
 *                     |              | ^                 |
 *                     |         DEAD | | UP (incarnation + 1)
 *                     |         GONE v |                 |
 *                     '--------.--- dead <---------------'
 *                      REMOVE  v
 *                            removed
 *
 * A death is declared in two steps, so that a command which lingers in the log cannot kill a node that has recovered since:
 * CONDEMN gives the suspect an epoch, from then on no voter that applied it prolongs the node's lease; then either ABSOLVE or DEAD
 * with that epoch, whichever comes first in the log, wins. See member/detector.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "member/nodeset.h"
#include "member/settings.h"
#include "wire/rd.h"
#include "wire/wr.h"

enum {
	CLUSTER_SLOTS = 128, /* slot s is pids s * 32768 ..; slot 0 belongs to nobody */
	CLUSTER_SLOT_SIZE = 32768,
	CLUSTER_NAME_SIZE = 64,
	CLUSTER_ADDR_SIZE = 128,
	CLUSTER_LABELS = 16,
	CLUSTER_LABEL_KEY_SIZE = 32,
	CLUSTER_LABEL_VALUE_SIZE = 64,
	CLUSTER_TOKENS = 256,
	CLUSTER_CMD_MAX = 4096,         /* bytes of one command */
	CLUSTER_SNAPSHOT_MAX = 1 << 20, /* bytes of a snapshot */
};

enum member_state { MEMBER_NONE, MEMBER_JOINED, MEMBER_ACTIVE, MEMBER_DRAINING, MEMBER_DEAD, MEMBER_REMOVED };

struct cluster_label {
	char key[CLUSTER_LABEL_KEY_SIZE];
	char value[CLUSTER_LABEL_VALUE_SIZE];
};

struct cluster_member {
	uint16_t id; /* 0: no such member */
	enum member_state state;
	bool leaving;         /* REMOVE was asked for: when its space has ended it is removed */
	uint32_t incarnation; /* of its space; 0: never had one. A number is never used again by this node */
	uint32_t suspect;     /* epoch of the CONDEMN in force, 0: none */
	uint64_t up_nonce;    /* of the last UP, so that a repeated one is known */
	uint64_t removed_at;  /* version at which it was removed */
	char name[CLUSTER_NAME_SIZE];
	char addr[CLUSTER_ADDR_SIZE];        /* host:port of its links */
	char stream_addr[CLUSTER_ADDR_SIZE]; /* host:port of its stream agent, or empty */
	uint32_t cpus;
	uint64_t memory; /* bytes */
	unsigned n_labels;
	struct cluster_label labels[CLUSTER_LABELS]; /* in order of keys */
};

struct cluster_setting {
	char key[SETTING_KEY_SIZE];
	char value[SETTING_VALUE_SIZE];
};

struct cluster_token {
	uint8_t hash[32];    /* SHA-256 of the secret */
	uint64_t expires_ms; /* CLOCK_REALTIME */
	uint16_t used_by;    /* the member that it admitted, 0: not used yet */
	uint64_t used_nonce; /* of the ADD that used it */
};

struct cluster {
	uint64_t version; /* commands applied; 0: no cluster yet */
	uint8_t id[16];
	uint64_t created_ms; /* CLOCK_REALTIME; the epoch of the space's common clock */
	uint32_t last_epoch; /* of CONDEMN */
	struct cluster_member members[NODE_MAX + 1]; /* by id */
	uint16_t slot_owner[CLUSTER_SLOTS];          /* node, 0: free */
	uint64_t slot_freed[CLUSTER_SLOTS];          /* version at which it was freed, 0: never used */
	unsigned n_settings;
	struct cluster_setting settings[SETTINGS_MAX]; /* those that differ from the initial value */
	unsigned n_tokens;
	struct cluster_token tokens[CLUSTER_TOKENS];
};

/* Fields after the type, in this order. now is CLOCK_REALTIME in ms as the proposer saw it. */
enum cluster_cmd_type {
	CLUSTER_INIT = 1,    /* raw 16 cluster id, u64 now, str name, str addr, str stream_addr, u32 cpus, u64 memory: member 1, joined */
	CLUSTER_ADD,         /* raw 32 token hash, u64 now, u64 nonce, str name, str addr, str stream_addr, u32 cpus, u64 memory -> id */
	CLUSTER_UP,          /* u16 node, u32 incarnation so far, u64 nonce, str addr, str stream_addr, u32 cpus, u64 memory -> new incarnation */
	CLUSTER_GONE,        /* u16 node, u32 incarnation: by its own word its space has ended */
	CLUSTER_CONDEMN,     /* u16 node, u32 incarnation -> epoch */
	CLUSTER_ABSOLVE,     /* u16 node, u32 epoch */
	CLUSTER_DEAD,        /* u16 node, u32 incarnation, u32 epoch */
	CLUSTER_DRAIN,       /* u16 node, u8 on */
	CLUSTER_REMOVE,      /* u16 node */
	CLUSTER_LABEL,       /* u16 node, str key, str value (empty: remove the label) */
	CLUSTER_SETTING,     /* str key, str value */
	CLUSTER_SETTING_DEL, /* str key: back to the initial value */
	CLUSTER_TOKEN_ADD,   /* raw 32 hash, u64 now, u64 expires */
	CLUSTER_TOKEN_DEL,   /* raw 32 hash */
	CLUSTER_SLOT,        /* u16 slot, u16 node: the slot is this member's from now on (0: free) */
};

/* A command, decoded. Only the fields of its type count. */
struct cluster_cmd {
	enum cluster_cmd_type type;
	uint16_t node;
	uint16_t slot;
	uint32_t incarnation;
	uint32_t epoch;
	uint32_t cpus;
	uint64_t memory;
	uint64_t now_ms;
	uint64_t expires_ms;
	uint64_t nonce;
	bool on;
	uint8_t hash[32];
	uint8_t cluster_id[16];
	char name[CLUSTER_NAME_SIZE];
	char addr[CLUSTER_ADDR_SIZE];
	char stream_addr[CLUSTER_ADDR_SIZE];
	char key[SETTING_KEY_SIZE]; /* of a setting or label */
	char value[SETTING_VALUE_SIZE];
};

/* Appends the command to w. -EINVAL for an unknown type. */
int cluster_cmd_encode(const struct cluster_cmd *cmd, struct wr *w);

/* Decodes a whole command. -EBADMSG for one that is not well formed, -EOPNOTSUPP for an unknown version or type. On failure
 * *ret is untouched. */
int cluster_cmd_decode(const void *p, size_t n, struct cluster_cmd *ret);

/* What a command did. */
struct cluster_effect {
	int status;                /* 0 or why it was refused (below) */
	uint32_t value;            /* the id, incarnation or epoch that the command gives */
	uint16_t died;             /* a space that has ended by this command: its node (0: none) ... */
	uint32_t died_incarnation; /* ... and incarnation */
	uint16_t member;           /* the member that the command was about, 0: none */
};

/* Applies an encoded command; always counts it in c->version. status: -EBADMSG, -EOPNOTSUPP as decode; -EINVAL (a value that is not
 * allowed), -ENOENT (no such member, setting, token), -EEXIST (name or address is another member's; cluster exists), -ENOSPC (no id,
 * slot, room for labels or tokens), -ESTALE (another incarnation or epoch by now), -EBUSY (the member is not in that state),
 * -EKEYREJECTED (unknown token), -EKEYEXPIRED, -EKEYREVOKED (used token; removed member). A refused command changes nothing else. */
struct cluster_effect cluster_apply(struct cluster *c, const void *p, size_t n);

/* The member with this id, or NULL; removed ones are returned too. */
const struct cluster_member *cluster_member(const struct cluster *c, uint16_t node);

/* The member of this name (not removed), or NULL. */
const struct cluster_member *cluster_member_named(const struct cluster *c, const char *name);

/* Whether the member's space counts as running: active or draining. */
bool cluster_is_live(const struct cluster_member *m);

/* Whether this is the hash of a token that was made here, used or not. */
bool cluster_knows_token(const struct cluster *c, const uint8_t hash[static 32]);

/* "joined", "active", ... */
const char *member_state_name(enum member_state state);

/* The value of a label, or NULL. Borrowed from m. */
const char *cluster_label_get(const struct cluster_member *m, const char *key);

/* The value in force, the initial one if nobody set it; NULL for an unknown setting. Borrowed from c. */
const char *cluster_setting(const struct cluster *c, const char *key);

/* The same for numbers (0 for an unknown one). */
uint32_t cluster_setting_number(const struct cluster *c, const char *key);

/* Fills ret with the slots of a node, in order; returns how many. */
unsigned cluster_slots(const struct cluster *c, uint16_t node, uint16_t ret[static CLUSTER_SLOTS]);

/* The owner of the slot that this pid lies in: its registrar, or 0. */
uint16_t cluster_registrar(const struct cluster *c, uint32_t pid);

/* Appends a snapshot: u8 version (1), u64 version count, raw 16 id, u64 created, u32 last epoch, u32 n { u16 id, u8 state, u8 leaving,
 * u32 incarnation, u32 suspect, u64 up_nonce, u64 removed_at, str name, str addr, str stream_addr, u32 cpus, u64 memory,
 * u32 n { str key, str value } }, 128 x { u16 owner, u64 freed }, u32 n { str key, str value }, u32 n { raw 32 hash, u64 expires,
 * u16 used_by, u64 used_nonce }. */
void cluster_encode(const struct cluster *c, struct wr *w);

/* Replaces *c by the snapshot. -EBADMSG (c is then untouched), -ENOMEM. */
int cluster_decode(struct cluster *c, const void *p, size_t n);

/* 0 when the text is host:port with a port in 1..65535 ("[v6]:port" too), else -EINVAL with words in e. */
int cluster_addr_check(const char *addr, struct err *e);

/* 0 when the text can be a node's name: letters, digits, dots and hyphens, 1..63; else -EINVAL with words in e. */
int cluster_name_check(const char *name, struct err *e);

/* The same for a label's key and value (value may be empty: no label). */
int cluster_label_check(const char *key, const char *value, struct err *e);
