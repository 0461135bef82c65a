/* The names and node numbers of the files in the agent's FUSE file system. No I/O; loop thread.
 *
 * A file's place is the text of the real link ("/home/u/log", "pipe:[4711]"), so that readlink of /proc/PID/fd/N shows it. When the
 * text is taken by another file, it lies in a directory "~1", "~2" ... of the root, which is then the root of a mount of its own. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

struct store;

/* What outlives the process. */
struct fnode_rec {
	uint64_t nodeid, parent;
	uint64_t n_lookup; /* how often the kernel was told of it */
	uint32_t is_dir;
	char name[];
};

struct fnode {
	uint64_t nodeid;
	struct fnode_rec *r;    /* owned */
	struct fnode *parent;   /* borrowed; NULL of the root */
	struct fnode *children; /* hash by name; directories only */
	void *file;             /* the user's; NULL: a directory, or a file that is retired */
	int is_dir;
	UT_hash_handle hh_id, hh_name;
	char name[]; /* at most 255 bytes */
};

struct names;

enum { NAMES_INDEX_MAX = 10000, NAMES_PATH_MAX = 4200 };

/* With the nodes that the store has (borrowed); their files are to be set again, then names_tidy. */
int names_new(struct store *store, struct names **ret);
void names_free(struct names *n); /* NULL is fine */

/* Frees what neither a file nor the kernel needs. */
void names_tidy(struct names *n);

/* Adds a file for the link text. *ret_index is 0 or the number of its "~" directory. -ENOMEM, -EMFILE when all places are taken. */
int names_add(struct names *n, const char *text, void *file, struct fnode **ret, unsigned *ret_index);

/* The path of f from the root of its mount (index as from names_add). -ENAMETOOLONG. */
int names_path(const struct fnode *f, unsigned index, char ret[static NAMES_PATH_MAX]);

struct fnode *names_get(const struct names *n, uint64_t nodeid);           /* NULL: unknown */
struct fnode *names_lookup(const struct names *n, uint64_t parent, const char *name);

/* The file is used no longer. It stays until the kernel has forgotten it; returns it then, so that the caller can ask the kernel to
 * (parent's nodeid and name), or NULL when it is gone already. */
struct fnode *names_retire(struct names *n, struct fnode *f);

/* The kernel forgot it count times: frees it when it is retired, and directories that became empty. */
void names_forget(struct names *n, uint64_t nodeid, uint64_t count);
