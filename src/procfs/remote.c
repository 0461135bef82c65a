#include "procfs/remote.h"

#include <errno.h>
#include <string.h>

uint32_t remote_pid_parse(const char *name)
{
	uint32_t v = 0;
	if (*name == '0')
		return 0;
	for (; *name; name++) {
		if (*name < '0' || *name > '9')
			return 0;
		v = v * 10 + (uint32_t)(*name - '0');
		if (v > REMOTE_PID_MAX)
			return 0;
	}
	return v;
}

int remote_path_ok(const char *path)
{
	if (!*path)
		return 1;
	for (const char *p = path;; p++) {
		size_t n = strcspn(p, "/");
		if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return 0;
		p += n;
		if (!*p)
			return 1;
	}
}

uint32_t remote_path_pid(const char *path, const char **ret_rest)
{
	char num[16];
	size_t n = strcspn(path, "/");
	if (ret_rest)
		*ret_rest = path[n] ? path + n + 1 : path + n;
	if (n >= sizeof(num))
		return 0;
	memcpy(num, path, n);
	num[n] = 0;
	return remote_pid_parse(num);
}

void remote_req_put(struct wr *w, const struct remote_req *q)
{
	wr_u8(w, REMOTE_VERSION);
	wr_u8(w, q->op);
	cred_put(w, &q->cred);
	wr_u32(w, q->pid);
	wr_str(w, q->path);
	wr_u64(w, q->off);
	wr_u32(w, q->size);
	wr_u32(w, q->flags);
	wr_bytes(w, q->data, q->data_n);
}

int remote_req_get(const void *p, size_t n, struct remote_req *ret)
{
	struct rd r;
	rd_init(&r, p, n);
	uint8_t version = rd_u8(&r);
	if (!r.bad && version != REMOTE_VERSION)
		return -EPROTONOSUPPORT;
	*ret = (struct remote_req){ .op = rd_u8(&r) };
	cred_get(&r, &ret->cred);
	ret->pid = rd_u32(&r);
	rd_str(&r, ret->path, sizeof(ret->path));
	ret->off = rd_u64(&r);
	ret->size = rd_u32(&r);
	ret->flags = rd_u32(&r);
	ret->data = rd_bytes(&r, REMOTE_CHUNK, &ret->data_n);
	if (!remote_path_ok(ret->path))
		rd_fail(&r);
	int rc = rd_done(&r);
	if (rc < 0)
		return rc;
	return ret->op == 0 || ret->op >= REMOTE_OP_END ? -EOPNOTSUPP : 0;
}

void remote_attr_put(struct wr *w, const struct remote_attr *a)
{
	wr_u32(w, a->mode);
	wr_u32(w, a->uid);
	wr_u32(w, a->gid);
	wr_u32(w, a->nlink);
	wr_u64(w, a->size);
	wr_i64(w, a->mtime);
}

void remote_attr_get(struct rd *r, struct remote_attr *ret)
{
	ret->mode = rd_u32(r);
	ret->uid = rd_u32(r);
	ret->gid = rd_u32(r);
	ret->nlink = rd_u32(r);
	ret->size = rd_u64(r);
	ret->mtime = rd_i64(r);
}

void remote_owner_put(struct wr *w, const struct remote_owner *o)
{
	wr_u32(w, o->uid);
	wr_u32(w, o->gid);
	wr_u8(w, o->flags);
}

void remote_owner_get(struct rd *r, struct remote_owner *ret)
{
	ret->uid = rd_u32(r);
	ret->gid = rd_u32(r);
	ret->flags = rd_u8(r);
}

void remote_proc_put(struct wr *w, const struct remote_proc *p)
{
	wr_u32(w, p->pid);
	remote_owner_put(w, &p->owner);
	for (size_t i = 0; i < 4; i++)
		wr_bytes(w, p->text[i], p->text_n[i]);
}

void remote_proc_get(struct rd *r, struct remote_proc *ret)
{
	ret->pid = rd_u32(r);
	remote_owner_get(r, &ret->owner);
	for (size_t i = 0; i < 4; i++)
		ret->text[i] = (const char *)rd_bytes(r, REMOTE_FILE_MAX, &ret->text_n[i]);
	if (ret->pid == 0 || ret->pid > REMOTE_PID_MAX)
		rd_fail(r);
}

void remote_entry_put(struct wr *w, const struct remote_entry *e)
{
	wr_str(w, e->name);
	remote_attr_put(w, &e->attr);
	wr_str(w, e->link);
}

void remote_entry_get(struct rd *r, struct remote_entry *ret)
{
	rd_str(r, ret->name, sizeof(ret->name));
	remote_attr_get(r, &ret->attr);
	rd_str(r, ret->link, sizeof(ret->link));
	if (!*ret->name || strchr(ret->name, '/') || !remote_path_ok(ret->name))
		rd_fail(r);
}

void remote_reply_put(struct wr *w, int status)
{
	wr_u8(w, REMOTE_VERSION);
	wr_i32(w, status);
}

int remote_reply_get(const void *p, size_t n, struct rd *ret)
{
	rd_init(ret, p, n);
	uint8_t version = rd_u8(ret);
	int32_t status = rd_i32(ret);
	if (ret->bad)
		return -EBADMSG;
	if (version != REMOTE_VERSION)
		return -EPROTONOSUPPORT;
	if (status > 0 || status <= -512) /* the kernel refuses those from a FUSE server, and the caller would hang */
		return -EBADMSG;
	return status;
}
