/* The cache of programs and hashes, and the comparison.
 *
 * A program is kept under what was asked (root, path, environment), with the state of each of its files and of each
 * place that was looked at. It is used again when a look at each of them shows that state; so what is replaced,
 * touched, added or removed is seen at once. What changed within the last 50 ms is not kept: a second change in the
 * same tick of the file system's clock could not be told from the first. */
#include "image/fileid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HASH_NONFATAL_OOM 1 /* out of memory leaves hh.tbl NULL instead of ending the program */
#include <uthash.h>
#include <xxhash.h>

#include "base/cleanup.h"
#include "image/fileid-int.h"

struct program {
	uint64_t key[2];
	struct fileid_set *set;       /* owned reference */
	struct fileid_watch *watches; /* owned */
	size_t n_watches;
	UT_hash_handle hh;
};

struct known_hash {
	struct hash_key {
		uint64_t ino, size;
		int64_t mtime_ns, ctime_ns;
		uint32_t dev_major, dev_minor;
	} key;
	uint64_t hash[2];
	UT_hash_handle hh;
};

struct fileid {
	struct program *programs;  /* in order of use, oldest first */
	struct known_hash *hashes; /* the same */
	struct fileid_ldcache ld;
	struct fileid_net *net; /* owned */
	uint8_t boot[16];
	uint64_t hits, misses;
};

/* --- the object --- */

static void program_free(struct program *p)
{
	(void)fileid_set_unref(p->set);
	for (size_t i = 0; i < p->n_watches; i++)
		free(p->watches[i].path);
	free(p->watches);
	free(p);
}

int fileid_new(struct fileid **ret)
{
	struct fileid *c = calloc(1, sizeof *c);
	if (!c)
		return -ENOMEM;
	c->net = fileid_net_new();
	if (!c->net) {
		free(c);
		return -ENOMEM;
	}
	/* Without it devices and inodes of two nodes are never compared: slower, not wrong. */
	char id[64] = "";
	_cleanup_(close_p) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, id, sizeof id - 1) > 30) {
		XXH128_hash_t h = XXH3_128bits(id, strlen(id));
		memcpy(c->boot, &h.low64, 8);
		memcpy(c->boot + 8, &h.high64, 8);
	}
	*ret = c;
	return 0;
}

struct fileid *fileid_free(struct fileid *c)
{
	if (!c)
		return NULL;
	struct program *p, *p_next;
	HASH_ITER(hh, c->programs, p, p_next)
	{
		HASH_DEL(c->programs, p);
		program_free(p);
	}
	struct known_hash *k, *k_next;
	HASH_ITER(hh, c->hashes, k, k_next)
	{
		HASH_DEL(c->hashes, k);
		free(k);
	}
	c->net = fileid_net_free(c->net);
	free(c->ld.p);
	free(c);
	return NULL;
}

void fileid_counts(const struct fileid *c, uint64_t *ret_hits, uint64_t *ret_misses)
{
	*ret_hits = c->hits;
	*ret_misses = c->misses;
}

/* --- known hashes --- */

static struct hash_key hash_key_of(const struct fileid_stat *st)
{
	struct hash_key k;
	memset(&k, 0, sizeof k);
	k.ino = st->ino;
	k.size = st->size;
	k.mtime_ns = st->mtime_ns;
	k.ctime_ns = st->ctime_ns;
	k.dev_major = st->dev_major;
	k.dev_minor = st->dev_minor;
	return k;
}

static void hash_recall(struct fileid *c, struct fileid_file *f)
{
	struct hash_key key = hash_key_of(&f->st);
	struct known_hash *k;
	HASH_FIND(hh, c->hashes, &key, sizeof key, k);
	if (k) {
		f->hashed = true;
		memcpy(f->hash, k->hash, sizeof f->hash);
	}
}

static void hash_keep(struct fileid *c, const struct fileid_file *f)
{
	if (fileid_stat_fresh(&f->st, fileid_now_ns()))
		return;
	struct hash_key key = hash_key_of(&f->st);
	struct known_hash *k;
	HASH_FIND(hh, c->hashes, &key, sizeof key, k);
	if (k)
		return;
	if (HASH_COUNT(c->hashes) >= FILEID_HASHES_MAX) {
		k = c->hashes;
		HASH_DEL(c->hashes, k);
		free(k);
	}
	k = calloc(1, sizeof *k);
	if (!k)
		return; /* it is read again next time */
	k->key = key;
	memcpy(k->hash, f->hash, sizeof k->hash);
	HASH_ADD(hh, c->hashes, key, sizeof k->key, k);
	if (!k->hh.tbl)
		free(k);
}

/* *budget: how many bytes this call may still read, so that nobody's huge file keeps the loop. */
static int file_hash(struct fileid *c, int root_fd, struct fileid_file *f, uint64_t *budget)
{
	if (!S_ISREG(f->st.mode))
		return 0;
	if (!f->hashed)
		hash_recall(c, f);
	if (f->hashed)
		return 0;
	if (f->st.size > *budget)
		return -EFBIG;
	*budget -= f->st.size;
	int rc = fileid_hash_file(root_fd, f->path, &f->st, f->hash);
	if (rc < 0)
		return rc;
	f->hashed = true;
	hash_keep(c, f);
	return 0;
}

int fileid_set_hash(struct fileid *c, int root_fd, struct fileid_set *s, struct err *e)
{
	uint64_t budget = FILEID_HASH_BYTES;
	for (size_t i = 0; i < s->n; i++) {
		int rc = file_hash(c, root_fd, &s->files[i], &budget);
		if (rc < 0)
			return err_set(e, rc, "%s: %s", s->files[i].path,
				       rc == -ESTALE ? "has changed meanwhile" : strerror(-rc));
	}
	return 0;
}

/* --- listing a program --- */

static void key_text(XXH128_hash_t *h, const char *text)
{
	*h = XXH3_128bits_withSeed(text ? text : "", text ? strlen(text) : 0, h->low64 ^ (h->high64 << 1));
}

static bool given(const char *text)
{
	return text && *text;
}

static bool cwd_counts(const struct fileid_req *q)
{
	return q->path[0] != '/' || given(q->ld_library_path) || given(q->ld_preload);
}

/* The key is a hash, which a user could make collide: what was asked is compared too. */
static bool asked_the_same(const struct fileid_req *q, const struct fileid_set *s)
{
	return strcmp(q->path, s->path) == 0 &&
	       strcmp(given(q->ld_library_path) ? q->ld_library_path : "", s->ld_library_path) == 0 &&
	       strcmp(given(q->ld_preload) ? q->ld_preload : "", s->ld_preload) == 0 &&
	       (!cwd_counts(q) || strcmp(given(q->cwd) ? q->cwd : "/", s->cwd) == 0);
}

/* Under what an answer is kept. Whether the current directory counts shows in the path and the environment, but for
 * relative search paths within files; answers by those are not kept. */
static int key_of(const struct fileid_req *q, int secure_given, uint64_t ret[static 2])
{
	struct fileid_stat root;
	int rc = fileid_stat_fd(q->root_fd, &root);
	if (rc < 0)
		return rc;
	uint64_t ids[] = { root.ino, root.dev_major, root.dev_minor, q->ruid,
			   q->euid,  q->rgid,        q->egid,        (uint64_t)(secure_given + 1) };
	XXH128_hash_t h = XXH3_128bits(ids, sizeof ids);
	key_text(&h, q->path);
	key_text(&h, q->ld_library_path);
	key_text(&h, q->ld_preload);
	if (cwd_counts(q))
		key_text(&h, q->cwd);
	ret[0] = h.low64;
	ret[1] = h.high64;
	return 0;
}

/* Whether all that a kept answer rests on is as it was. */
static bool program_holds(const struct fileid_req *q, const struct program *p)
{
	struct fileid_stat st;
	for (size_t i = 0; i < p->set->n; i++)
		if (fileid_stat_at(q->root_fd, NULL, p->set->files[i].path, &st) < 0 ||
		    !fileid_stat_same(&st, &p->set->files[i].st))
			return false;
	for (size_t i = 0; i < p->n_watches; i++) {
		const struct fileid_watch *w = &p->watches[i];
		bool there = fileid_stat_at(q->root_fd, NULL, w->path, &st) == 0;
		if (there == w->absent || (there && !fileid_stat_same(&st, &w->st)))
			return false;
	}
	return true;
}

static bool may_keep(const struct fileid_req *q, const struct fileid_found *f)
{
	int64_t now = fileid_now_ns();
	if (f->by_cwd && !cwd_counts(q))
		return false;
	for (size_t i = 0; i < f->n; i++)
		if (fileid_stat_fresh(&f->files[i].st, now))
			return false;
	for (size_t i = 0; i < f->n_watches; i++)
		if (!f->watches[i].absent && fileid_stat_fresh(&f->watches[i].st, now))
			return false;
	return true;
}

/* Keeps the set and takes the watches over. Failing is no harm. */
static void program_keep(struct fileid *c, const uint64_t key[static 2], struct fileid_set *s, struct fileid_found *f)
{
	struct program *p;
	if (HASH_COUNT(c->programs) >= FILEID_PROGRAMS_MAX) {
		p = c->programs;
		HASH_DEL(c->programs, p);
		program_free(p);
	}
	p = calloc(1, sizeof *p);
	if (!p)
		return;
	memcpy(p->key, key, sizeof p->key);
	p->set = fileid_set_ref(s);
	p->watches = f->watches;
	p->n_watches = f->n_watches;
	f->watches = NULL;
	f->n_watches = 0;
	HASH_ADD(hh, c->programs, key, sizeof p->key, p);
	if (!p->hh.tbl)
		program_free(p);
}

/* Makes it the youngest. It may be freed for want of memory. */
static void program_touch(struct fileid *c, struct program *p)
{
	if (!p->hh.next)
		return; /* it is; and the table must not become empty, which frees it */
	HASH_DEL(c->programs, p);
	HASH_ADD(hh, c->programs, key, sizeof p->key, p);
	if (!p->hh.tbl)
		program_free(p);
}

/* Makes a set of what was found; its files are moved into it. */
static struct fileid_set *set_of(struct fileid *c, const struct fileid_req *q, struct fileid_found *f)
{
	struct fileid_set *s = fileid_set_new();
	if (!s)
		return NULL;
	s->path = strdup(q->path);
	s->cwd = strdup(given(q->cwd) ? q->cwd : "/");
	s->ld_library_path = strdup(q->ld_library_path ? q->ld_library_path : "");
	s->ld_preload = strdup(q->ld_preload ? q->ld_preload : "");
	if (!s->path || !s->cwd || !s->ld_library_path || !s->ld_preload)
		return fileid_set_unref(s);
	s->secure = f->secure;
	s->other = f->other;
	memcpy(s->boot, c->boot, sizeof s->boot);
	for (size_t i = 0; i < f->n; i++) {
		struct fileid_stat *st = &f->files[i].st;
		f->files[i].net = fileid_net_of(c->net, st->dev_major, st->dev_minor);
		hash_recall(c, &f->files[i]);
	}
	s->files = f->files;
	s->n = f->n;
	f->files = NULL;
	f->n = 0;
	return s;
}

static int program_list(struct fileid *c, const struct fileid_req *q, int secure_given, struct fileid_set **ret,
			struct err *e)
{
	uint64_t key[2];
	struct program *p;
	int rc = key_of(q, secure_given, key);
	if (rc < 0)
		return err_set(e, rc, "root directory of the process: %s", strerror(-rc));
	HASH_FIND(hh, c->programs, key, sizeof key, p);
	if (p && asked_the_same(q, p->set) && program_holds(q, p)) {
		c->hits++;
		*ret = fileid_set_ref(p->set);
		program_touch(c, p);
		return 0;
	}
	if (p) {
		HASH_DEL(c->programs, p);
		program_free(p);
	}
	c->misses++;

	struct fileid_found f = { .secure_given = secure_given };
	rc = fileid_find(q, &c->ld, &f, e);
	bool keep = !rc && may_keep(q, &f);
	struct fileid_set *s = rc ? NULL : set_of(c, q, &f);
	if (!rc && !s)
		rc = err_set(e, -ENOMEM, "%s: out of memory", q->path);
	if (!rc) {
		if (keep)
			program_keep(c, key, s, &f);
		*ret = s;
	}
	fileid_found_fini(&f);
	return rc;
}

int fileid_exec(struct fileid *c, const struct fileid_req *req, struct fileid_set **ret, struct err *e)
{
	return program_list(c, req, -1, ret, e);
}

/* --- open files --- */

int fileid_open_file(struct fileid *c, int root_fd, int fd, const char *path, bool writable, struct fileid_set **ret,
		     struct err *e)
{
	struct fileid_file f = { .role = FILEID_OPEN };
	struct fileid_stat there;
	int rc = fileid_stat_fd(fd, &f.st);
	if (rc < 0)
		return err_set(e, rc, "%s: %s", path, strerror(-rc));
	if (!S_ISREG(f.st.mode) && !S_ISDIR(f.st.mode))
		return err_set(e, -EOPNOTSUPP, "%s: neither a file nor a directory", path);
	if (path[0] != '/' || strlen(path) >= FILEID_PATH_MAX || fileid_stat_at(root_fd, NULL, path, &there) < 0 ||
	    there.ino != f.st.ino || there.dev_major != f.st.dev_major || there.dev_minor != f.st.dev_minor)
		return err_set(e, -ESTALE, "%s: no longer leads to the open file", path);

	struct fileid_req q = { .root_fd = root_fd, .path = path };
	struct fileid_found found = { .files = calloc(1, sizeof *found.files), .n = 1 };
	if (!found.files)
		return err_set(e, -ENOMEM, "%s: out of memory", path);
	f.path = strdup(path);
	found.files[0] = f;
	struct fileid_set *s = f.path ? set_of(c, &q, &found) : NULL;
	fileid_found_fini(&found);
	if (!s)
		return err_set(e, -ENOMEM, "%s: out of memory", path);
	s->writable = writable;
	*ret = s;
	return 0;
}

/* --- comparing --- */

static enum fileid_outcome say(struct fileid_verdict *v, enum fileid_outcome o, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static enum fileid_outcome say(struct fileid_verdict *v, enum fileid_outcome o, const char *fmt, ...)
{
	va_list ap;
	v->outcome = o;
	va_start(ap, fmt);
	(void)vsnprintf(v->why, sizeof v->why, fmt, ap);
	va_end(ap);
	return o;
}

/* Both nodes are on one kernel, or look at one network file system, or all that the inode knows is equal. */
static bool is_shared(const struct fileid_file *a, const struct fileid_file *b, bool same_boot)
{
	if (same_boot)
		if (a->st.ino == b->st.ino && a->st.dev_major == b->st.dev_major && a->st.dev_minor == b->st.dev_minor)
			return true;
	if (a->st.ino != b->st.ino)
		return false;
	if (a->net && a->net == b->net)
		return true;
	return a->st.size == b->st.size && a->st.mtime_ns == b->st.mtime_ns && a->st.ctime_ns == b->st.ctime_ns;
}

/* Whether two files that are not shared have one content. Hashes ours if that decides. */
static enum fileid_outcome same_content(struct fileid *c, int root_fd, const struct fileid_file *a,
					struct fileid_file *b, uint64_t *budget, struct fileid_verdict *v)
{
	if (a->st.size != b->st.size)
		return say(v, FILEID_DIFFERENT, "%s: %llu bytes there, %llu here", a->path,
			   (unsigned long long)a->st.size, (unsigned long long)b->st.size);
	if (a->build_id_n && b->build_id_n) {
		if (a->build_id_n != b->build_id_n || memcmp(a->build_id, b->build_id, a->build_id_n) != 0)
			return say(v, FILEID_DIFFERENT, "%s: another build", a->path);
		if (a->st.mtime_ns == b->st.mtime_ns)
			return FILEID_SAME;
		/* else it could have been patched in place (chrpath keeps size and build id): the content decides */
	}
	if (a->st.size > *budget)
		return say(v, FILEID_DIFFERENT, "%s: too large to compare the content", a->path);
	if (!a->hashed)
		return say(v, FILEID_NEED_HASH, "%s: only its content can tell", a->path);
	int rc = file_hash(c, root_fd, b, budget);
	if (rc < 0)
		return say(v, FILEID_DIFFERENT, "%s: cannot be read here: %s", a->path, strerror(-rc));
	if (memcmp(a->hash, b->hash, sizeof a->hash) != 0)
		return say(v, FILEID_DIFFERENT, "%s: other content of the same size", a->path);
	return FILEID_SAME;
}

static enum fileid_outcome rights_same(const struct fileid_file *a, const struct fileid_file *b,
				       struct fileid_verdict *v)
{
	if (a->st.mode != b->st.mode)
		return say(v, FILEID_DIFFERENT, "%s: mode %o there, %o here", a->path, a->st.mode, b->st.mode);
	if (a->st.uid != b->st.uid || a->st.gid != b->st.gid)
		return say(v, FILEID_DIFFERENT, "%s: owner %u:%u there, %u:%u here", a->path, a->st.uid, a->st.gid,
			   b->st.uid, b->st.gid);
	if (a->caps != b->caps)
		return say(v, FILEID_DIFFERENT, "%s: other file capabilities", a->path);
	return FILEID_SAME;
}

static enum fileid_outcome open_check(struct fileid *c, int root_fd, const struct fileid_set *theirs,
				      struct fileid_verdict *v)
{
	const struct fileid_file *a = &theirs->files[0];
	struct fileid_file b = { .path = a->path, .role = FILEID_OPEN };
	uint64_t budget = FILEID_HASH_BYTES;
	int rc = fileid_stat_at(root_fd, NULL, a->path, &b.st);
	if (rc < 0)
		return say(v, rc == -ENOENT || rc == -ENOTDIR ? FILEID_ABSENT : FILEID_DIFFERENT, "%s: %s here",
			   a->path, strerror(-rc));
	b.net = fileid_net_of(c->net, b.st.dev_major, b.st.dev_minor);
	if (rights_same(a, &b, v) != FILEID_SAME)
		return v->outcome;
	if (is_shared(a, &b, memcmp(theirs->boot, c->boot, sizeof c->boot) == 0))
		return FILEID_SAME;
	if (S_ISDIR(a->st.mode))
		return say(v, FILEID_LIKE, "%s: a directory like it, not the same one", a->path);
	if (theirs->writable)
		return say(v, FILEID_DIFFERENT, "%s: open for writing and not shared", a->path);
	return same_content(c, root_fd, a, &b, &budget, v);
}

static enum fileid_outcome program_check(struct fileid *c, int root_fd, const struct fileid_set *theirs,
					 struct fileid_set *ours, struct fileid_verdict *v)
{
	bool same_boot = memcmp(theirs->boot, c->boot, sizeof c->boot) == 0;
	enum fileid_outcome all = FILEID_SAME;
	uint64_t budget = FILEID_HASH_BYTES;
	for (size_t i = 0; i < theirs->n && i < ours->n; i++) {
		const struct fileid_file *a = &theirs->files[i];
		struct fileid_file *b = &ours->files[i];
		if (a->role != b->role || strcmp(a->path, b->path) != 0)
			return say(v, FILEID_DIFFERENT, "%s there is %s here", a->path, b->path);
		if (rights_same(a, b, v) != FILEID_SAME)
			return v->outcome;
		if (is_shared(a, b, same_boot))
			continue;
		enum fileid_outcome o = same_content(c, root_fd, a, b, &budget, v);
		if (o == FILEID_NEED_HASH)
			all = o; /* another file may settle it without */
		else if (o != FILEID_SAME)
			return o;
	}
	if (theirs->n != ours->n || theirs->other != ours->other)
		return say(v, FILEID_DIFFERENT, "%s: takes %zu files there, %zu here", theirs->path, theirs->n,
			   ours->n);
	if (all == FILEID_SAME)
		v->why[0] = 0;
	return v->outcome = all;
}

enum fileid_outcome fileid_check(struct fileid *c, int root_fd, const struct fileid_set *theirs,
				 struct fileid_verdict *ret)
{
	*ret = (struct fileid_verdict){ .outcome = FILEID_SAME };
	if (theirs->files[0].role == FILEID_OPEN)
		return ret->outcome = open_check(c, root_fd, theirs, ret);

	struct fileid_req q = {
		.root_fd = root_fd,
		.path = theirs->path,
		.cwd = theirs->cwd,
		.ld_library_path = theirs->ld_library_path,
		.ld_preload = theirs->ld_preload,
	};
	_cleanup_(fileid_set_unref_p) struct fileid_set *ours = NULL;
	struct err e = { .text = "" };
	int rc = program_list(c, &q, theirs->secure, &ours, &e);
	if (rc < 0)
		return say(ret, rc == -ENOENT || rc == -ENOTDIR ? FILEID_ABSENT : FILEID_DIFFERENT, "%s (here)",
			   e.text);
	return program_check(c, root_fd, theirs, ours, ret);
}
