#include "stream/names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream/store.h"

enum { NAME_BYTES_MAX = 255, DEPTH_MAX = 64 };

struct names {
	struct store *store; /* borrowed */
	struct fnode *by_id; /* hash */
	struct fnode *root;
	uint64_t last_id;
};

static struct fnode *child(const struct fnode *dir, const char *name)
{
	struct fnode *f;
	HASH_FIND(hh_name, dir->children, name, strlen(name), f);
	return f;
}

/* A node for a record, not yet linked to its parent. */
static struct fnode *node_of(struct names *n, struct fnode_rec *r)
{
	size_t len = strlen(r->name);
	struct fnode *f = calloc(1, sizeof *f + len + 1);
	if (!f)
		return NULL;
	memcpy(f->name, r->name, len + 1);
	f->r = r;
	f->nodeid = r->nodeid;
	f->is_dir = (int)r->is_dir;
	HASH_ADD(hh_id, n->by_id, nodeid, sizeof f->nodeid, f);
	if (f->nodeid > n->last_id)
		n->last_id = f->nodeid;
	return f;
}

static void node_link(struct fnode *f, struct fnode *parent)
{
	f->parent = parent;
	HASH_ADD_KEYPTR(hh_name, parent->children, f->name, strlen(f->name), f);
}

static struct fnode *node_add(struct names *n, struct fnode *parent, const char *name, int is_dir)
{
	size_t len = strlen(name);
	struct fnode_rec *r = store_new(n->store, STORE_NAME, sizeof *r + len + 1);
	if (!r)
		return NULL;
	memcpy(r->name, name, len + 1);
	r->nodeid = n->last_id + 1;
	r->parent = parent ? parent->nodeid : 0;
	r->is_dir = (uint32_t)is_dir;
	struct fnode *f = node_of(n, r);
	if (!f) {
		store_free(n->store, r);
		return NULL;
	}
	if (parent)
		node_link(f, parent);
	store_commit(r);
	return f;
}

static void node_free(struct names *n, struct fnode *f)
{
	HASH_DELETE(hh_id, n->by_id, f);
	store_free(n->store, f->r);
	free(f);
}

/* Frees f when nobody needs it, then its parent likewise. */
static void node_prune(struct names *n, struct fnode *f)
{
	while (f->parent && !f->file && !f->r->n_lookup && !f->children) {
		struct fnode *parent = f->parent;
		HASH_DELETE(hh_name, parent->children, f);
		node_free(n, f);
		f = parent;
	}
}

static void node_restore(void *ctx, void *p, size_t size)
{
	struct names *n = ctx;
	(void)node_of(n, p); /* without memory its name is lost, and what is below it */
}

/* Puts the nodes of the store in their places. */
static void nodes_link(struct names *n)
{
	struct fnode *f, *tmp;
	HASH_ITER(hh_id, n->by_id, f, tmp) {
		struct fnode *parent = names_get(n, f->r->parent);
		if (!f->r->parent)
			n->root = f;
		else if (parent && parent != f)
			node_link(f, parent);
		else
			node_free(n, f);
	}
}

int names_new(struct store *store, struct names **ret)
{
	struct names *n = calloc(1, sizeof *n);
	if (!n)
		return -ENOMEM;
	n->store = store;
	store_each(store, STORE_NAME, node_restore, n);
	nodes_link(n);
	if (!n->root)
		n->root = node_add(n, NULL, "", 1); /* FUSE_ROOT_ID is 1 */
	if (!n->root) {
		free(n);
		return -ENOMEM;
	}
	*ret = n;
	return 0;
}

void names_tidy(struct names *n)
{
	struct fnode *f, *tmp;
	uint64_t *ids = calloc(HASH_CNT(hh_id, n->by_id), sizeof *ids);
	size_t k = 0;
	if (!ids)
		return; /* some names stay in memory */
	HASH_ITER(hh_id, n->by_id, f, tmp)
		ids[k++] = f->nodeid;
	for (size_t i = 0; i < k; i++) {
		f = names_get(n, ids[i]);
		if (f)
			node_prune(n, f);
	}
	free(ids);
}

void names_free(struct names *n)
{
	struct fnode *f, *tmp;
	if (!n)
		return;
	HASH_ITER(hh_id, n->by_id, f, tmp) {
		HASH_CLEAR(hh_name, f->children);
	}
	HASH_ITER(hh_id, n->by_id, f, tmp)
		node_free(n, f);
	free(n);
}

/* Next component of a path: 0 when there is none. Dots would lead elsewhere. */
static size_t component(const char **p, char ret[static NAME_BYTES_MAX + 1])
{
	while (**p == '/')
		(*p)++;
	size_t len = strcspn(*p, "/");
	size_t n = len < NAME_BYTES_MAX ? len : NAME_BYTES_MAX;
	memcpy(ret, *p, n);
	ret[n] = 0;
	if (strcmp(ret, ".") == 0 || strcmp(ret, "..") == 0)
		ret[0] = '_';
	*p += len;
	return n;
}

/* Puts the file at text below dir. -EEXIST when something is in the way. */
static int add_below(struct names *n, struct fnode *dir, const char *text, void *file, struct fnode **ret)
{
	char name[NAME_BYTES_MAX + 1], next[NAME_BYTES_MAX + 1];
	size_t len = component(&text, name);
	if (!len)
		strcpy(name, "delegated");
	for (int depth = 0; len && depth < DEPTH_MAX; depth++) {
		if (!component(&text, next))
			break;
		struct fnode *d = child(dir, name);
		if (d && !d->is_dir) {
			node_prune(n, dir);
			return -EEXIST;
		}
		if (!d && !(d = node_add(n, dir, name, 1)))
			return -ENOMEM;
		dir = d;
		strcpy(name, next);
	}
	if (child(dir, name)) {
		node_prune(n, dir);
		return -EEXIST;
	}
	struct fnode *f = node_add(n, dir, name, 0);
	if (!f)
		return -ENOMEM;
	f->file = file;
	*ret = f;
	return 0;
}

int names_add(struct names *n, const char *text, void *file, struct fnode **ret, unsigned *ret_index)
{
	int rc = add_below(n, n->root, text, file, ret);
	*ret_index = 0;
	for (unsigned i = 1; rc == -EEXIST && i < NAMES_INDEX_MAX; i++) {
		char dir[16];
		(void)snprintf(dir, sizeof dir, "~%u", i);
		struct fnode *d = child(n->root, dir);
		if (!d && !(d = node_add(n, n->root, dir, 1)))
			return -ENOMEM;
		if (!d->is_dir)
			continue;
		rc = add_below(n, d, text, file, ret);
		*ret_index = i;
	}
	return rc == -EEXIST ? -EMFILE : rc;
}

int names_path(const struct fnode *f, unsigned index, char ret[static NAMES_PATH_MAX])
{
	const struct fnode *chain[DEPTH_MAX + 4];
	size_t n = 0, at = 0;
	for (; f->parent; f = f->parent) {
		if (n == sizeof chain / sizeof *chain)
			return -ENAMETOOLONG;
		chain[n++] = f;
	}
	if (index && n)
		n--; /* the "~" directory is the root */
	while (n > 0) {
		size_t len = strlen(chain[--n]->name);
		if (at + len + 2 > NAMES_PATH_MAX)
			return -ENAMETOOLONG;
		if (at)
			ret[at++] = '/';
		memcpy(ret + at, chain[n]->name, len);
		at += len;
	}
	ret[at] = 0;
	return 0;
}

struct fnode *names_get(const struct names *n, uint64_t nodeid)
{
	struct fnode *f;
	HASH_FIND(hh_id, n->by_id, &nodeid, sizeof nodeid, f);
	return f;
}

struct fnode *names_lookup(const struct names *n, uint64_t parent, const char *name)
{
	struct fnode *dir = names_get(n, parent);
	struct fnode *f = dir && dir->is_dir ? child(dir, name) : NULL;
	return f && (f->is_dir || f->file) ? f : NULL;
}

struct fnode *names_retire(struct names *n, struct fnode *f)
{
	f->file = NULL;
	if (f->r->n_lookup)
		return f;
	node_prune(n, f);
	return NULL;
}

void names_forget(struct names *n, uint64_t nodeid, uint64_t count)
{
	struct fnode *f = names_get(n, nodeid);
	if (!f)
		return;
	f->r->n_lookup -= count < f->r->n_lookup ? count : f->r->n_lookup;
	node_prune(n, f);
}
