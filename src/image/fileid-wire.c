/* A set on the wire: u16 version (1); path, cwd, LD_LIBRARY_PATH, LD_PRELOAD as texts; u8 bits (1 secure, 2 other, 4
 * writable); 16 bytes of the boot id; u32 count and so many files: u8 role, path, u32 mode, uid, gid, dev_major,
 * dev_minor, u64 ino, size, i64 mtime_ns, ctime_ns, u64 net, caps, build id as bytes, u8 hashed and then 2 x u64. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "image/fileid-int.h"

enum { SET_VERSION = 1, BIT_SECURE = 1, BIT_OTHER = 2, BIT_WRITABLE = 4, FILE_MIN = 1 + 4 + 20 + 48 + 4 + 1 };

struct fileid_set *fileid_set_new(void)
{
	struct fileid_set *s = calloc(1, sizeof *s);
	if (s)
		s->refs = 1;
	return s;
}

struct fileid_set *fileid_set_ref(struct fileid_set *s)
{
	s->refs++;
	return s;
}

struct fileid_set *fileid_set_unref(struct fileid_set *s)
{
	if (!s || --s->refs)
		return NULL;
	for (size_t i = 0; i < s->n; i++)
		free(s->files[i].path);
	free(s->files);
	free(s->path);
	free(s->cwd);
	free(s->ld_library_path);
	free(s->ld_preload);
	free(s);
	return NULL;
}

void fileid_set_unref_p(struct fileid_set **s)
{
	*s = fileid_set_unref(*s);
}

static void file_encode(struct wr *w, const struct fileid_file *f)
{
	wr_u8(w, (uint8_t)f->role);
	wr_str(w, f->path);
	wr_u32(w, f->st.mode);
	wr_u32(w, f->st.uid);
	wr_u32(w, f->st.gid);
	wr_u32(w, f->st.dev_major);
	wr_u32(w, f->st.dev_minor);
	wr_u64(w, f->st.ino);
	wr_u64(w, f->st.size);
	wr_i64(w, f->st.mtime_ns);
	wr_i64(w, f->st.ctime_ns);
	wr_u64(w, f->net);
	wr_u64(w, f->caps);
	wr_bytes(w, f->build_id, f->build_id_n);
	wr_u8(w, f->hashed);
	if (f->hashed) {
		wr_u64(w, f->hash[0]);
		wr_u64(w, f->hash[1]);
	}
}

void fileid_set_encode(struct wr *w, const struct fileid_set *s)
{
	wr_u16(w, SET_VERSION);
	wr_str(w, s->path);
	wr_str(w, s->cwd);
	wr_str(w, s->ld_library_path);
	wr_str(w, s->ld_preload);
	wr_u8(w,
	      (uint8_t)((s->secure ? BIT_SECURE : 0) | (s->other ? BIT_OTHER : 0) | (s->writable ? BIT_WRITABLE : 0)));
	wr_raw(w, s->boot, sizeof s->boot);
	wr_u32(w, (uint32_t)s->n);
	for (size_t i = 0; i < s->n; i++)
		file_encode(w, &s->files[i]);
}

/* A text of at most max bytes; NULL and a failed reader otherwise. Owned. */
static char *text_read(struct rd *r, size_t max, int *oom)
{
	size_t n;
	const uint8_t *p = rd_bytes(r, max, &n);
	if (memchr(p, 0, n))
		rd_fail(r);
	if (r->bad)
		return NULL;
	char *s = malloc(n + 1);
	if (!s) {
		*oom = 1;
		rd_fail(r);
		return NULL;
	}
	memcpy(s, p, n);
	s[n] = 0;
	return s;
}

static void file_decode(struct rd *r, struct fileid_file *f, int *oom)
{
	size_t n;
	uint8_t role = rd_u8(r);
	if (role < FILEID_PROGRAM || role > FILEID_OPEN)
		rd_fail(r);
	f->role = r->bad ? FILEID_PROGRAM : (enum fileid_role)role;
	f->path = text_read(r, 2 * FILEID_PATH_MAX, oom);
	if (f->path && f->path[0] != '/')
		rd_fail(r);
	f->st.mode = rd_u32(r);
	f->st.uid = rd_u32(r);
	f->st.gid = rd_u32(r);
	f->st.dev_major = rd_u32(r);
	f->st.dev_minor = rd_u32(r);
	f->st.ino = rd_u64(r);
	f->st.size = rd_u64(r);
	f->st.mtime_ns = rd_i64(r);
	f->st.ctime_ns = rd_i64(r);
	f->net = rd_u64(r);
	f->caps = rd_u64(r);
	const uint8_t *id = rd_bytes(r, sizeof f->build_id, &n);
	memcpy(f->build_id, id, n);
	f->build_id_n = (uint8_t)n;
	uint8_t hashed = rd_u8(r);
	if (hashed > 1)
		rd_fail(r);
	f->hashed = hashed == 1;
	if (f->hashed) {
		f->hash[0] = rd_u64(r);
		f->hash[1] = rd_u64(r);
	}
}

int fileid_set_decode(struct rd *r, struct fileid_set **ret)
{
	int oom = 0;
	_cleanup_(fileid_set_unref_p) struct fileid_set *s = fileid_set_new();
	if (!s)
		return -ENOMEM;
	if (rd_u16(r) != SET_VERSION)
		rd_fail(r);
	s->path = text_read(r, FILEID_PATH_MAX, &oom);
	s->cwd = text_read(r, FILEID_PATH_MAX, &oom);
	s->ld_library_path = text_read(r, FILEID_ENV_MAX, &oom);
	s->ld_preload = text_read(r, FILEID_ENV_MAX, &oom);
	if (s->cwd && s->cwd[0] != '/')
		rd_fail(r);
	uint8_t bits = rd_u8(r);
	if (bits > (BIT_SECURE | BIT_OTHER | BIT_WRITABLE))
		rd_fail(r);
	s->secure = bits & BIT_SECURE;
	s->other = bits & BIT_OTHER;
	s->writable = bits & BIT_WRITABLE;
	const uint8_t *boot = rd_raw(r, sizeof s->boot);
	if (boot)
		memcpy(s->boot, boot, sizeof s->boot);
	uint32_t n = rd_count(r, FILEID_FILES_MAX, FILE_MIN);
	if (!n)
		rd_fail(r); /* a program is at least itself */
	else if (!(s->files = calloc(n, sizeof *s->files)))
		return -ENOMEM;
	for (uint32_t i = 0; i < n && !r->bad; i++) {
		s->n = i + 1;
		file_decode(r, &s->files[i], &oom);
		bool open = s->files[i].role == FILEID_OPEN;
		if (open != (s->files[0].role == FILEID_OPEN) || (open && n > 1))
			rd_fail(r);
	}
	int rc = rd_done(r);
	if (rc < 0)
		return oom ? -ENOMEM : rc;
	*ret = take_ptr(s);
	return 0;
}
