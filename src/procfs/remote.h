/* What the /proc servers of two nodes say to each other; pandod carries it without looking inside (docs/protocol.md).
 *
 * Request: u8 version, u8 op, credentials, u32 pid, path, u64 off, u32 size, u32 flags, data. Every op has all fields.
 * Reply: u8 version, i32 status (0 or -errno), and when it is 0 the body of the op. All paths are relative to the root of the
 * native procfs of the space of the node that serves. */
#pragma once

#include <stdint.h>

#include "procfs/cred.h"
#include "wire/rd.h"
#include "wire/wr.h"

enum {
	REMOTE_VERSION = 1,
	REMOTE_PATH_MAX = 512,
	REMOTE_BODY_MAX = 3 << 20,  /* bytes of a reply, below LINK_MSG_MAX */
	REMOTE_CHUNK = 1 << 20,     /* bytes of a file asked for at once */
	REMOTE_FILE_MAX = 256 << 10, /* bytes of one file of a bulk reply */
	REMOTE_PID_MAX = 1 << 22,
};

enum remote_op {
	REMOTE_BULK = 1, /* stat, status, statm, cmdline of all processes from pid on -> u32 next (0: end), count, processes */
	REMOTE_WHERE,    /* is this pid yours, and where is it? -> u8 remote_where, u16 node, owner */
	REMOTE_STAT,     /* attributes of path -> attr */
	REMOTE_LIST,     /* entries of the directory path, from the off-th on -> u64 next (0: end), count, entries */
	REMOTE_READ,     /* size bytes of path from off on -> u8 eof, bytes */
	REMOTE_READLINK, /* -> text */
	REMOTE_WRITE,    /* data to path; only a node asks itself -> u32 bytes written */
	REMOTE_STATS,    /* stat, meminfo, loadavg, uptime and (flag) cpuinfo of the node -> five texts */
	REMOTE_OP_END,
};

enum { REMOTE_STATS_CPUINFO = 1 }; /* flags of REMOTE_STATS */

struct remote_req {
	uint8_t op;
	struct cred cred;
	uint32_t pid;
	char path[REMOTE_PATH_MAX];
	uint64_t off;
	uint32_t size;
	uint32_t flags;
	const uint8_t *data; /* borrowed from the message */
	size_t data_n;
};

/* Appends the request to w. */
void remote_req_put(struct wr *w, const struct remote_req *q);
/* 0 or -EBADMSG (also for a path that remote_path_ok refuses), -EPROTONOSUPPORT for another version, -EOPNOTSUPP for an unknown op. */
int remote_req_get(const void *p, size_t n, struct remote_req *ret);

/* Whether a path is relative and without empty, "." and ".." components; "" is the root. */
int remote_path_ok(const char *path);
/* The pid that the first component names, 0 if it is not a number; *ret_rest (may be NULL) is what follows it, without slash. */
uint32_t remote_path_pid(const char *path, const char **ret_rest);
/* A decimal number 1..REMOTE_PID_MAX without leading zeros, else 0. */
uint32_t remote_pid_parse(const char *name);

struct remote_attr {
	uint32_t mode, uid, gid, nlink;
	uint64_t size;
	int64_t mtime;
};

enum remote_where { REMOTE_NOWHERE, REMOTE_HERE, REMOTE_ELSEWHERE };

enum { REMOTE_PID_DUMPABLE = 1 }; /* flags of a process: its files belong to its user, not to root */

struct remote_owner {
	uint32_t uid, gid; /* of the directory */
	uint8_t flags;
};

struct remote_proc {
	uint32_t pid;
	struct remote_owner owner;
	const char *text[4]; /* stat, status, statm, cmdline: borrowed from the message, no NUL behind them */
	size_t text_n[4];
};
enum remote_text { REMOTE_T_STAT, REMOTE_T_STATUS, REMOTE_T_STATM, REMOTE_T_CMDLINE };

struct remote_entry {
	char name[256];
	struct remote_attr attr;
	char link[REMOTE_PATH_MAX]; /* of a symbolic link whose text could be read, else "" */
};

enum remote_stats_file { REMOTE_S_STAT, REMOTE_S_MEMINFO, REMOTE_S_LOADAVG, REMOTE_S_UPTIME, REMOTE_S_CPUINFO, REMOTE_S_COUNT };

void remote_attr_put(struct wr *w, const struct remote_attr *a);
void remote_attr_get(struct rd *r, struct remote_attr *ret);
void remote_owner_put(struct wr *w, const struct remote_owner *o);
void remote_owner_get(struct rd *r, struct remote_owner *ret);
void remote_proc_put(struct wr *w, const struct remote_proc *p);
void remote_proc_get(struct rd *r, struct remote_proc *ret);
void remote_entry_put(struct wr *w, const struct remote_entry *e);
void remote_entry_get(struct rd *r, struct remote_entry *ret);

enum { REMOTE_PROC_MIN = 4 + 9 + 4 * 4, REMOTE_ENTRY_MIN = 4 + 32 + 4 }; /* least bytes on the wire, for rd_count */

/* Starts a reply with this status; the body follows when it is 0. */
void remote_reply_put(struct wr *w, int status);
/* Reads the head of a reply: its status (0 or -errno), -EBADMSG or -EPROTONOSUPPORT. *ret then is at the body. */
int remote_reply_get(const void *p, size_t n, struct rd *ret);
