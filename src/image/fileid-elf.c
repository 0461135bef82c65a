#include "image/fileid-elf.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "wire/rd.h"

enum { NOTES_MAX = 8192, DYNAMIC_MAX = 65536, EHDR_MAX = 64 };

struct segment {
	uint32_t type;
	uint64_t offset, vaddr, filesz;
};

/* Of a file while it is parsed. */
struct parse {
	const struct elf_src *src;
	struct elf_info *info;
	struct segment seg[ELF_PHDRS_MAX];
	size_t n_seg;
	uint64_t strtab, strsz; /* offset in the file, size */
};

/* Exactly n bytes at an offset: 0, -EBADMSG when they are not there. */
static int src_read(const struct elf_src *src, uint64_t at, void *to, size_t n)
{
	if (at > INT64_MAX - n)
		return -EBADMSG;
	if (src->fd < 0) {
		if (at > src->mem_n || n > src->mem_n - at)
			return -EBADMSG;
		memcpy(to, src->mem + at, n);
		return 0;
	}
	ssize_t got = pread(src->fd, to, n, (off_t)at);
	if (got < 0)
		return -errno;
	return (size_t)got == n ? 0 : -EBADMSG; /* a short read of a regular file is its end */
}

/* At most n bytes, and how many. */
static int src_read_some(const struct elf_src *src, uint64_t at, void *to, size_t n, size_t *ret_n)
{
	if (at > INT64_MAX - n)
		return -EBADMSG;
	if (src->fd < 0) {
		size_t left = at < src->mem_n ? src->mem_n - at : 0;
		*ret_n = left < n ? left : n;
		memcpy(to, src->mem + (at < src->mem_n ? at : 0), *ret_n);
		return 0;
	}
	ssize_t got = pread(src->fd, to, n, (off_t)at);
	if (got < 0)
		return -errno;
	*ret_n = (size_t)got;
	return 0;
}

/* An address, size or offset of the file's class. */
static uint64_t word(struct rd *r, int is64)
{
	return is64 ? rd_u64(r) : rd_u32(r);
}

static void skip(struct rd *r, size_t n)
{
	(void)rd_raw(r, n);
}

static int header_read(struct parse *p, uint64_t *ret_phoff, uint16_t *ret_phnum)
{
	uint8_t b[EHDR_MAX];
	size_t n = 0;
	int rc = src_read_some(p->src, 0, b, sizeof b, &n);
	if (rc < 0)
		return rc;
	if (n < 20 || memcmp(b, ELFMAG, SELFMAG) != 0 || b[EI_DATA] != ELFDATA2LSB ||
	    (b[EI_CLASS] != ELFCLASS32 && b[EI_CLASS] != ELFCLASS64))
		return ELF_E_OTHER;

	struct elf_info *i = p->info;
	struct rd r;
	rd_init(&r, b, n);
	i->is64 = b[EI_CLASS] == ELFCLASS64;
	skip(&r, EI_NIDENT);
	i->type = rd_u16(&r);
	i->machine = rd_u16(&r);
	skip(&r, 4);             /* e_version */
	(void)word(&r, i->is64); /* e_entry */
	*ret_phoff = word(&r, i->is64);
	(void)word(&r, i->is64); /* e_shoff */
	skip(&r, 4 + 2);         /* e_flags, e_ehsize */
	uint16_t phentsize = rd_u16(&r);
	*ret_phnum = rd_u16(&r);
	if (r.bad || phentsize != (i->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) || *ret_phnum > ELF_PHDRS_MAX)
		return -EBADMSG;
	return 0;
}

static int segments_read(struct parse *p, uint64_t phoff, uint16_t phnum)
{
	uint8_t b[ELF_PHDRS_MAX * sizeof(Elf64_Phdr)];
	int is64 = p->info->is64;
	size_t n = phnum * (is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr));
	int rc = src_read(p->src, phoff, b, n);
	if (rc < 0)
		return rc;
	struct rd r;
	rd_init(&r, b, n);
	for (uint16_t i = 0; i < phnum; i++) {
		struct segment s = { .type = rd_u32(&r) };
		if (is64)
			skip(&r, 4); /* p_flags */
		s.offset = word(&r, is64);
		s.vaddr = word(&r, is64);
		(void)word(&r, is64); /* p_paddr */
		s.filesz = word(&r, is64);
		(void)word(&r, is64); /* p_memsz */
		skip(&r, 8);          /* p_align, or p_flags and p_align */
		p->seg[p->n_seg++] = s;
	}
	return rd_done(&r);
}

static const struct segment *segment_of(const struct parse *p, uint32_t type)
{
	for (size_t i = 0; i < p->n_seg; i++)
		if (p->seg[i].type == type)
			return &p->seg[i];
	return NULL;
}

static int interp_read(struct parse *p)
{
	const struct segment *s = segment_of(p, PT_INTERP);
	if (!s)
		return 0;
	if (s->filesz < 2 || s->filesz > ELF_STRING_MAX)
		return -EBADMSG;
	_cleanup_(free_p) char *text = malloc(s->filesz);
	if (!text)
		return -ENOMEM;
	int rc = src_read(p->src, s->offset, text, s->filesz);
	if (rc < 0)
		return rc;
	if (text[s->filesz - 1] != 0)
		return -EBADMSG; /* the kernel refuses it too */
	p->info->interp = take_ptr(text);
	return 0;
}

/* The build id among the notes of one segment. Notes that make no sense are no error: nothing but this reads them. */
static void notes_read(struct parse *p, const struct segment *s)
{
	uint8_t b[NOTES_MAX];
	size_t n = s->filesz < sizeof b ? (size_t)s->filesz : sizeof b;
	if (src_read(p->src, s->offset, b, n) < 0)
		return;
	struct rd r;
	rd_init(&r, b, n);
	while (!r.bad && r.n >= 12) {
		uint32_t namesz = rd_u32(&r), descsz = rd_u32(&r), type = rd_u32(&r);
		if (namesz > NOTES_MAX || descsz > NOTES_MAX)
			return;
		const uint8_t *name = rd_raw(&r, namesz);
		skip(&r, -namesz & 3);
		const uint8_t *desc = rd_raw(&r, descsz);
		if (!name || !desc)
			return;
		if (type == NT_GNU_BUILD_ID && namesz == 4 && memcmp(name, "GNU", 4) == 0 && descsz >= 8 &&
		    descsz <= ELF_BUILD_ID_MAX) {
			memcpy(p->info->build_id, desc, descsz);
			p->info->build_id_n = (uint8_t)descsz;
			return;
		}
		size_t pad = -descsz & 3;
		skip(&r, pad < r.n ? pad : r.n);
	}
}

/* The place in the file of an address. 0 or -EBADMSG. */
static int place_of(const struct parse *p, uint64_t vaddr, uint64_t *ret)
{
	for (size_t i = 0; i < p->n_seg; i++) {
		const struct segment *s = &p->seg[i];
		if (s->type == PT_LOAD && vaddr >= s->vaddr && vaddr - s->vaddr < s->filesz &&
		    s->offset <= UINT64_MAX - (vaddr - s->vaddr)) {
			*ret = s->offset + (vaddr - s->vaddr);
			return 0;
		}
	}
	return -EBADMSG;
}

/* A string of the string table; *ret is owned by the caller. */
static int string_read(const struct parse *p, uint64_t at, char **ret)
{
	char text[ELF_STRING_MAX];
	size_t n = 0;
	if (at >= p->strsz || p->strtab > UINT64_MAX - at)
		return -EBADMSG;
	size_t most = p->strsz - at < sizeof text ? (size_t)(p->strsz - at) : sizeof text;
	int rc = src_read_some(p->src, p->strtab + at, text, most, &n);
	if (rc < 0)
		return rc;
	if (!memchr(text, 0, n))
		return -EBADMSG;
	free(*ret); /* a tag that occurs twice: the last counts */
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

struct dyn {
	uint64_t needed[ELF_NEEDED_MAX];
	size_t n_needed;
	uint64_t soname, rpath, runpath, strtab, strsz, flags_1;
	int has_soname, has_rpath, has_runpath, has_strtab;
};

static int dynamic_tags(const struct parse *p, const uint8_t *b, size_t n, struct dyn *d)
{
	int is64 = p->info->is64;
	struct rd r;
	rd_init(&r, b, n);
	while (r.n >= (is64 ? 16u : 8u)) {
		uint64_t tag = word(&r, is64), v = word(&r, is64);
		switch (tag) {
		case DT_NULL:
			return 0;
		case DT_NEEDED:
			if (d->n_needed == ELF_NEEDED_MAX)
				return -EBADMSG;
			d->needed[d->n_needed++] = v;
			break;
		case DT_STRTAB:
			d->strtab = v;
			d->has_strtab = 1;
			break;
		case DT_STRSZ:
			d->strsz = v;
			break;
		case DT_SONAME:
			d->soname = v;
			d->has_soname = 1;
			break;
		case DT_RPATH:
			d->rpath = v;
			d->has_rpath = 1;
			break;
		case DT_RUNPATH:
			d->runpath = v;
			d->has_runpath = 1;
			break;
		case DT_FLAGS_1:
			d->flags_1 = v;
			break;
		default:
			break;
		}
	}
	return 0; /* without DT_NULL: the segment's end is the end */
}

static int dynamic_strings(struct parse *p, const struct dyn *d)
{
	struct elf_info *i = p->info;
	if (!d->n_needed && !d->has_soname && !d->has_rpath && !d->has_runpath)
		return 0;
	if (!d->has_strtab)
		return -EBADMSG;
	int rc = place_of(p, d->strtab, &p->strtab);
	p->strsz = d->strsz;
	if (!rc && d->n_needed) {
		i->needed = calloc(d->n_needed, sizeof *i->needed);
		rc = i->needed ? 0 : -ENOMEM;
	}
	for (size_t k = 0; !rc && k < d->n_needed; k++) {
		rc = string_read(p, d->needed[k], &i->needed[k]);
		i->n_needed = k + 1;
	}
	if (!rc && d->has_soname)
		rc = string_read(p, d->soname, &i->soname);
	if (!rc && d->has_runpath)
		rc = string_read(p, d->runpath, &i->runpath);
	if (!rc && d->has_rpath && !d->has_runpath) /* ld.so ignores it beside a DT_RUNPATH */
		rc = string_read(p, d->rpath, &i->rpath);
	return rc;
}

static int dynamic_read(struct parse *p)
{
	const struct segment *s = segment_of(p, PT_DYNAMIC);
	if (!s || !s->filesz)
		return 0;
	if (s->filesz > DYNAMIC_MAX)
		return -EBADMSG;
	_cleanup_(free_p) uint8_t *b = malloc(s->filesz);
	_cleanup_(free_p) struct dyn *d = calloc(1, sizeof *d);
	if (!b || !d)
		return -ENOMEM;
	int rc = src_read(p->src, s->offset, b, s->filesz);
	if (!rc)
		rc = dynamic_tags(p, b, s->filesz, d);
	if (rc < 0)
		return rc;
	p->info->nodeflib = !!(d->flags_1 & DF_1_NODEFLIB);
	return dynamic_strings(p, d);
}

int elf_parse(const struct elf_src *src, struct elf_info *ret)
{
	struct elf_info info = { 0 };
	_cleanup_(free_p) struct parse *p = calloc(1, sizeof *p);
	if (!p)
		return -ENOMEM;
	p->src = src;
	p->info = &info;

	uint64_t phoff = 0;
	uint16_t phnum = 0;
	int rc = header_read(p, &phoff, &phnum);
	if (!rc)
		rc = segments_read(p, phoff, phnum);
	if (!rc)
		rc = interp_read(p);
	if (!rc)
		rc = dynamic_read(p);
	for (size_t i = 0; !rc && i < p->n_seg && !info.build_id_n; i++)
		if (p->seg[i].type == PT_NOTE)
			notes_read(p, &p->seg[i]);
	if (rc) {
		elf_info_fini(&info);
		return rc;
	}
	*ret = info;
	return 0;
}

void elf_info_fini(struct elf_info *i)
{
	for (size_t k = 0; k < i->n_needed; k++)
		free(i->needed[k]);
	free(i->needed);
	free(i->interp);
	free(i->soname);
	free(i->rpath);
	free(i->runpath);
	*i = (struct elf_info){ 0 };
}

int elf_script_interp(const char *head, size_t n, char ret[static ELF_SCRIPT_HEAD])
{
	if (n < 2 || head[0] != '#' || head[1] != '!')
		return 1;
	const char *end = memchr(head, '\n', n);
	size_t len = end ? (size_t)(end - head) : n, at = 2;
	while (at < len && (head[at] == ' ' || head[at] == '\t'))
		at++;
	size_t from = at;
	while (at < len && head[at] != ' ' && head[at] != '\t' && head[at])
		at++;
	if (at == from || (at == len && !end && n == ELF_SCRIPT_HEAD))
		return -ENOEXEC; /* no name, or one that is cut off */
	memcpy(ret, head + from, at - from);
	ret[at - from] = 0;
	return 0;
}
