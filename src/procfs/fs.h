/* Inside of pando-procfs. One loop thread owns all of this; only the reading of the native procfs for somebody (procfs/serve.h) is
 * done by libuv's worker threads. Include arrows: client -> fs -> lookup, dir, file -> gather, entry -> call. */
#pragma once

#define FUSE_USE_VERSION 35

#include <fuse_lowlevel.h>
#include <limits.h>
#include <stdint.h>
#include <uthash.h>
#include <uv.h>

#include "base/err.h"
#include "procfs/chan.h"
#include "procfs/ino.h"
#include "procfs/journal.h"
#include "procfs/remote.h"
#include "procfs/snap.h"
#include "procfs/table.h"

enum {
	TIMEOUT_MS = 3000,      /* longest wait for another node's answer about one file */
	GATHER_MS = 2000,       /* longest wait for all nodes' processes or figures: who is late is left out. A busy node needs a while */
	GATHER_SKIP_MS = 8000,  /* who was late is not waited for so long, unless it answers after all */
	SNAP_FRESH_MS = 20,     /* a list of processes this young is not asked for again */
	SNAP_READ_MS = 300,     /* a process file out of the last snapshot, read by somebody who did not list /proc */
	SNAP_SCAN_MS = 10000,   /* the same, by the thread that has /proc open since that snapshot */
	SNAP_LIST_MS = 5000,    /* a node that is late is shown as it was so long ago at most */
	FIGURES_FRESH_MS = 1000,
	CPUINFO_FRESH_MS = 60000,
	WHERE_FRESH_MS = 1000,  /* what another node said about where a pid is */
	JOBS_MAX = 256,         /* at once, waiting for a worker */
	GLOBALS = REMOTE_S_COUNT,
};

#define TTL_EVER 1e8
#define TTL_KNOWN 3600.0 /* names that every process has */
#define TTL_ATTR 1.0
#define TTL_ATTR_OPEN 10.0 /* of files that everybody may read: who owns them decides nothing */
/* A name that was just listed, for the one who listed it to go through (ps lists a thousand at a time, then reads three files of each). One
 * of this node is not believed in for as long: when its process leaves, its directory shows the ghost's files until then. */
#define TTL_LISTED 0.1
#define TTL_LISTED_REMOTE 0.5

/* ---- calls: questions to a node's procfs, this node's own included (call.c) ---- */

/* Runs once, on the loop, never within call_start. status: 0 and body at the answer's body, or -errno. p, n: the whole answer. */
typedef void (*call_fn)(void *ctx, int status, struct rd *body, const void *p, size_t n);

struct call {
	uint64_t id;
	uint64_t until_ms;
	call_fn done; /* NULL: forgotten */
	void *ctx;
	UT_hash_handle hh;
};

/* Runs once, on the loop, with the reply of serve_run; within job_start only when another node's question needs no reading. */
typedef void (*job_fn)(void *ctx, const void *p, size_t n);

struct fs;
struct dirh;

/* Asks node. 0 and *ret_id, or -errno (done never runs): -ENOTCONN without pandod, -ENOMEM, -EAGAIN too much under way. */
int call_start(struct fs *fs, uint16_t node, const struct remote_req *q, uint32_t timeout_ms, call_fn done, void *ctx, uint64_t *ret_id);
/* done will not run any more. Unknown ids are fine. */
void call_forget(struct fs *fs, uint64_t id);
/* pandod brought the answer of call id. */
void call_answer(struct fs *fs, uint64_t id, int status, const void *p, size_t n);
/* All calls to other nodes end with this error (pandod is gone). */
void call_fail_all(struct fs *fs, int error);
/* Ends those that waited too long; from the tick. */
void call_expire(struct fs *fs, uint64_t now_ms);

/* Does a question that came from node `from` (or this node itself). done runs in every case. */
void job_start(struct fs *fs, uint16_t from, const void *p, size_t n, job_fn done, void *ctx);

/* ---- gather: all nodes' processes and figures (gather.c) ---- */

struct peer {
	struct snap *snap;          /* owned: the last whole one */
	struct snap *next;          /* owned: being fetched */
	uint64_t next_since_ms, skip_until_ms;
	uint64_t call;              /* of next; 0: none */
	char *figures[GLOBALS];     /* owned texts; NULL: not known */
	size_t figures_n[GLOBALS];
	uint64_t figures_ms, cpuinfo_ms, figures_since_ms, figures_skip_ms;
	unsigned figures_calls;     /* under way */
	unsigned cpuinfo_calls;     /* those of them that ask for cpuinfo as well */
};

enum gather_what { GATHER_PROCS, GATHER_FIGURES };

struct gather {
	enum gather_what what;
	uint64_t until_ms;
	void (*done)(void *ctx);
	void *ctx;
	struct gather *prev, *next;
};

/* Sees to it that the snapshots of all nodes (or their figures) are fresh; done runs when they are or GATHER_MS is over, possibly
 * within this call. Failures show as missing data only. */
void gather_procs(struct fs *fs, void (*done)(void *ctx), void *ctx);
void gather_figures(struct fs *fs, int cpuinfo, void (*done)(void *ctx), void *ctx);
void gather_expire(struct fs *fs, uint64_t now_ms);
/* The merged text of a global file out of what is known now; local_only: this node's own. */
void gather_text(struct fs *fs, enum remote_stats_file file, int local_only, struct wr *ret);
/* What belonged to a node that is down or gone is dropped. */
void gather_peer_down(struct fs *fs, uint16_t node);
void gather_fini(struct fs *fs);

/* ---- entries: what a name is, and its attributes (entry.c) ---- */

/* One name of a directory. */
struct dent {
	struct ino ino;          /* INO_PATH: node is set, the number not yet */
	struct remote_attr attr; /* INO_PATH; of INO_RPID uid and gid, of INO_RFILE the mode as well */
	char *name;              /* owned; NULL: the number ino.pid */
	char *path;              /* owned; INO_PATH: within its node's procfs */
	char *link;              /* owned; INO_PATH, a link whose text is known */
	int known;               /* INO_PATH: a link that every process has */
	uint64_t cookie;         /* of a list: rising */
};

/* A path of a node's procfs that the kernel knows. */
struct path_node {
	uint64_t ino;
	uint16_t node;
	struct remote_attr attr;
	uint64_t attr_ms; /* when the attributes were true */
	uint64_t lookups; /* the kernel's references */
	char *link;       /* owned */
	char *path;       /* borrowed from key */
	UT_hash_handle hh_ino, hh_key;
	int keyed;        /* found by key: no link */
	int known;        /* a link that every process has: its owner is that of the process */
	char key[];       /* "NODE/path" */
};

void dent_fini(struct dent *d);

/* Where a process of another node is. */
struct where {
	uint32_t pid;
	uint16_t node;
	struct remote_owner owner;
	uint64_t ms;
	UT_hash_handle hh;
};

/* Where pid is, as far as it is known without asking: 0 and *ret; -ENOENT it is no process of another node; 1: it has to be asked
 * for. tid: who wants to know (his own snapshots count), 0: anybody. */
int where_find(struct fs *fs, uint32_t pid, uint32_t tid, struct where *ret);
void where_note(struct fs *fs, uint32_t pid, uint16_t node, const struct remote_owner *owner);
void where_forget(struct fs *fs, uint32_t pid);
void where_expire(struct fs *fs, uint64_t now_ms);

/* The snapshot that holds pid of node for this thread, or NULL. */
const struct remote_proc *snap_for(struct fs *fs, uint32_t tid, uint16_t node, uint32_t pid);

/* Text of a link that needs no question: 0, -errno, or 1: it has to be asked for. c is the caller (exe, cwd and root of a local
 * process are shown to those only who may trace it). */
int entry_link(struct fs *fs, fuse_ino_t v, const struct cred *c, char ret[static PATH_MAX]);

/* Fills the answer to a lookup, and counts it for INO_PATH. listed: by readdirplus. -ENOENT when the process is gone, -ENOMEM. */
int entry_fill(struct fs *fs, const struct dent *d, int listed, struct fuse_entry_param *ret);

/* Attributes of what needs no question: 0, -errno, or 1: it has to be asked for. *ret_ttl: how long they are true. */
int entry_attr(struct fs *fs, fuse_ino_t v, struct stat *ret, double *ret_ttl);

/* Looks a name up without asking: 0 and *ret (the caller calls dent_fini), -errno, or 1: it has to be asked for. */
int entry_find(struct fs *fs, const struct ino *parent, fuse_ino_t parent_v, const char *name, uint32_t tid, struct dent *ret);

/* The node and path that the contents of a file or directory are asked for by; -EINVAL for what has none, -ESTALE, -ENAMETOOLONG. */
int entry_path(struct fs *fs, fuse_ino_t v, uint16_t *ret_node, char ret_path[static REMOTE_PATH_MAX]);

/* Whom to ask where pid is when where_find says 1. */
uint16_t where_hint(struct fs *fs, uint32_t pid);

/* What a node said of one name below dir ("" is the root of its procfs). -EBADMSG, -ENAMETOOLONG, -ENOMEM. */
int entry_from_remote(struct fs *fs, uint16_t node, const char *dir, const struct remote_entry *e, struct dent *ret);

struct path_node *path_node_find(struct fs *fs, fuse_ino_t v);
void path_node_forget(struct fs *fs, fuse_ino_t v, uint64_t n);
void entry_fini(struct fs *fs);

/* Names of the root of the native procfs and of its process directories, read once. */
struct native_name {
	uint32_t hash;
	mode_t mode;
	char *name; /* owned */
};
struct native_names {
	struct native_name *v; /* owned */
	size_t n;
	int done;
};
const struct native_names *native_root(struct fs *fs);
const struct native_names *native_pid(struct fs *fs);
const struct native_name *native_by_name(const struct native_names *names, const char *name);
const struct native_name *native_by_hash(const struct native_names *names, uint32_t hash);

/* ---- operations that wait for an answer ---- */

struct op {
	struct fs *fs;
	fuse_req_t req; /* NULL once answered (interrupted) */
	struct cred cred;
	uint64_t call; /* under way; 0: none */
	void (*answered)(struct op *op, int status, struct rd *body);
	void (*gathered)(struct op *op);
	/* of the operation */
	fuse_ino_t ino;
	uint64_t fh;
	uint16_t node;
	uint32_t pid, tid;
	int hops, plus;
	size_t size;
	off_t off;
	struct fuse_file_info fi;
	char name[256];
	char path[REMOTE_PATH_MAX];
	void *data; /* owned by the operation */
	void (*data_free)(void *data);
};

/* A new operation of req, whose answer may take time; an interrupted caller is told EINTR at once, and the rest of the operation is
 * dropped. NULL: req has been answered with ENOMEM. */
struct op *op_new(struct fs *fs, fuse_req_t req);
/* Reads the credentials of the caller; needed before asking as him. */
void op_cred(struct op *op);
/* Asks; answered runs later, unless the caller was interrupted (then op is gone). A failure to ask answers -errno and ends op. */
void op_ask(struct op *op, uint16_t node, struct remote_req *q, void (*answered)(struct op *op, int status, struct rd *body));
/* Waits for the gathering; gathered may run within this call. */
void op_gather(struct op *op, enum gather_what what, int cpuinfo, void (*gathered)(struct op *op));
/* Answers and frees. rc <= 0. */
void op_err(struct op *op, int rc);
/* Frees what was answered by a fuse_reply function. */
void op_done(struct op *op);

/* ---- open files and directories (file.c, dir.c) ---- */

struct file {
	struct fs *fs;
	uint64_t fh;
	fuse_ino_t ino;
	struct cred cred; /* of the one who opened */
	int has_cred;
	int pass;         /* not a text: every read is asked for (mem, pagemap) */
	int used;         /* something of the content was read: a read at 0 asks again */
	int eof;
	off_t base;       /* of the first byte of buf */
	struct wr buf;
	UT_hash_handle hh;
};

struct dirh {
	struct fs *fs;
	uint64_t fh;
	fuse_ino_t ino;
	uint32_t tid;
	struct dent *v; /* owned */
	size_t n, cap;
	struct snap *snaps[TABLE_NODES]; /* owned references: of the root */
	uint64_t opened_ms;
	int read; /* something of it */
	UT_hash_handle hh;
	struct dirh *by_tid_prev, *by_tid_next;
};

struct fs {
	uv_loop_t *loop;
	/* pandod */
	struct chan *chan; /* owned; NULL without pandod */
	uint16_t self;
	struct table table;
	struct table table_next; /* being received */
	int table_is_next, table_synced;
	/* the mount */
	struct fuse_session *se;
	struct journal *journal;
	int fuse_fd, proc_fd; /* owned; -1 */
	uv_poll_t poll;
	uint64_t journal_ino; /* which mount it is */
	int serving, going, stopped;
	int inited; /* libfuse had its FUSE_INIT */
	int silent; /* nothing is answered any more: the next server does */
	/* state */
	uv_timer_t tick;
	struct call *calls;
	uint32_t next_call;
	unsigned n_jobs;
	struct peer peers[TABLE_NODES];
	struct gather *gathers;
	struct path_node *paths_by_ino, *paths_by_key;
	uint64_t next_path;
	uint32_t next_text;
	struct where *wheres;
	struct native_names root_names, pid_names;
	struct file *files;
	struct dirh *dirs;
	struct dirh *scans; /* open roots, newest first */
	uint64_t next_fh;
	uint64_t init_mnt_ino; /* mount namespace of pid 1 of the space; 0: not known yet */
	void (*on_gone)(struct fs *fs, int error); /* the mount is gone (0) or cannot be served */
};

/* Starts the tick, which ends what waits too long; it stops by itself. */
void fs_tick(struct fs *fs);
/* The process of this thread of the space, 0 when there is none. */
uint32_t fs_tgid(struct fs *fs, uint32_t tid);
/* Features of the process of this thread. */
uint32_t fs_features(struct fs *fs, uint32_t tid);

/* The FUSE operations of each file. */
void lookup_op(fuse_req_t req, fuse_ino_t parent, const char *name);
void getattr_op(fuse_req_t req, fuse_ino_t v, struct fuse_file_info *fi);
void setattr_op(fuse_req_t req, fuse_ino_t v, struct stat *st, int to_set, struct fuse_file_info *fi);
void readlink_op(fuse_req_t req, fuse_ino_t v);
void opendir_op(fuse_req_t req, fuse_ino_t v, struct fuse_file_info *fi);
void readdir_op(fuse_req_t req, fuse_ino_t v, size_t size, off_t off, struct fuse_file_info *fi);
void readdirplus_op(fuse_req_t req, fuse_ino_t v, size_t size, off_t off, struct fuse_file_info *fi);
void releasedir_op(fuse_req_t req, fuse_ino_t v, struct fuse_file_info *fi);
void open_op(fuse_req_t req, fuse_ino_t v, struct fuse_file_info *fi);
void read_op(fuse_req_t req, fuse_ino_t v, size_t size, off_t off, struct fuse_file_info *fi);
void write_op(fuse_req_t req, fuse_ino_t v, const char *buf, size_t size, off_t off, struct fuse_file_info *fi);
void release_op(fuse_req_t req, fuse_ino_t v, struct fuse_file_info *fi);
void file_fini(struct fs *fs);
void dir_fini(struct fs *fs);

/* An unmounted fs on this loop: only the state. */
void fs_init(struct fs *fs, uv_loop_t *loop);
/* Serves the mount behind these descriptors (taken also when it fails), beginning with what an earlier server left unanswered. */
int fs_serve(struct fs *fs, int fuse_fd, int proc_fd, int journal_fd, struct err *e);
/* Begins to take requests; until then they wait in the kernel. */
void fs_go(struct fs *fs);
/* Stops serving without answering what is under way, and frees all but proc_fd; handles on the loop are closed, the loop has to be
 * run once more (workers may still read), then proc_fd is the caller's to close. */
void fs_fini(struct fs *fs);
