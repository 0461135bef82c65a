/* The parsers of ELF files and of ld.so.cache on sound, cut and mutated bytes. Memory is exact, so that a sanitizer
 * sees one byte too many. */
#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"
#include "image/fileid-elf.h"

static uint8_t *file_read(const char *path, size_t *ret_n)
{
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0)
		return NULL;
	CHECK(fstat(fd, &st) == 0);
	uint8_t *p = malloc((size_t)st.st_size + 1);
	CHECK(p && read(fd, p, (size_t)st.st_size) == st.st_size);
	*ret_n = (size_t)st.st_size;
	return p;
}

/* Parses a copy of exactly n bytes. */
static int parse(const uint8_t *p, size_t n, struct elf_info *ret)
{
	_cleanup_(free_p) uint8_t *copy = malloc(n ? n : 1);
	CHECK(copy);
	memcpy(copy, p, n);
	return elf_parse(&(struct elf_src){ .fd = -1, .mem = copy, .mem_n = n }, ret);
}

static void test_a_sound_program_is_understood(void)
{
	size_t n;
	_cleanup_(free_p) uint8_t *p = file_read("/bin/bash", &n);
	struct elf_info a, b;
	if (!p)
		return;
	_cleanup_(close_p) int fd = open("/bin/bash", O_RDONLY | O_CLOEXEC);
	CHECK(parse(p, n, &a) == 0 && elf_parse(&(struct elf_src){ .fd = fd }, &b) == 0);
	CHECK(a.is64 && a.interp && strncmp(a.interp, "/lib", 4) == 0 && a.n_needed >= 2 && a.build_id_n == 20);
	CHECK(a.n_needed == b.n_needed && strcmp(a.interp, b.interp) == 0 && memcmp(a.build_id, b.build_id, 20) == 0);
	int libc = 0;
	for (size_t i = 0; i < a.n_needed; i++)
		libc |= strcmp(a.needed[i], "libc.so.6") == 0;
	CHECK(libc && ldcache_kind(a.is64, a.machine) > 0);
	elf_info_fini(&a);
	elf_info_fini(&b);
}

static void test_other_files_are_no_elf(void)
{
	struct elf_info i;
	CHECK(parse((const uint8_t *)"", 0, &i) == ELF_E_OTHER);
	CHECK(parse((const uint8_t *)"#!/bin/sh\n", 10, &i) == ELF_E_OTHER);
	CHECK(parse((const uint8_t *)"\177ELF", 4, &i) == ELF_E_OTHER);
	CHECK(parse((const uint8_t *)"\177ELF\2\2\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, &i) ==
	      ELF_E_OTHER); /* big endian */
	CHECK(parse((const uint8_t *)"\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, &i) == -EBADMSG);
}

/* A small program with all that is parsed, every byte of it of meaning. */
struct tiny {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[4];
	char interp[8];
	Elf64_Dyn dyn[9];
	uint32_t note[8];
	char str[64];
};

static struct tiny tiny_make(void)
{
	struct tiny t;
	memset(&t, 0, sizeof t);
	memcpy(t.eh.e_ident, "\177ELF\2\1\1", 7);
	t.eh.e_type = ET_DYN;
	t.eh.e_machine = EM_X86_64;
	t.eh.e_phoff = offsetof(struct tiny, ph);
	t.eh.e_phentsize = sizeof(Elf64_Phdr);
	t.eh.e_phnum = 4;
	t.ph[0] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_vaddr = 0x1000, .p_filesz = sizeof t };
	t.ph[1] =
	    (Elf64_Phdr){ .p_type = PT_INTERP, .p_offset = offsetof(struct tiny, interp), .p_filesz = sizeof t.interp };
	t.ph[2] =
	    (Elf64_Phdr){ .p_type = PT_DYNAMIC, .p_offset = offsetof(struct tiny, dyn), .p_filesz = sizeof t.dyn };
	t.ph[3] = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = offsetof(struct tiny, note), .p_filesz = sizeof t.note };
	memcpy(t.interp, "/ld.so\0", 8);
	static const char strings[64] = "\0liba.so\0libb.so\0/rpath\0/runpath\0soname.so";
	memcpy(t.str, strings, sizeof t.str);
	const Elf64_Dyn dyn[9] = {
		{ .d_tag = DT_NEEDED, .d_un.d_val = 1 },
		{ .d_tag = DT_NEEDED, .d_un.d_val = 9 },
		{ .d_tag = DT_RPATH, .d_un.d_val = 17 },
		{ .d_tag = DT_STRTAB, .d_un.d_val = 0x1000 + offsetof(struct tiny, str) },
		{ .d_tag = DT_STRSZ, .d_un.d_val = sizeof t.str },
		{ .d_tag = DT_SONAME, .d_un.d_val = 33 },
		{ .d_tag = DT_FLAGS_1, .d_un.d_val = DF_1_NODEFLIB },
		{ .d_tag = DT_DEBUG },
		{ .d_tag = DT_NULL },
	};
	memcpy(t.dyn, dyn, sizeof dyn);
	const uint32_t note[8] = { 4, 8, NT_GNU_BUILD_ID, 0x00554e47, 0x11111111, 0x22222222 };
	memcpy(t.note, note, sizeof note);
	return t;
}

static int tiny_parse(const struct tiny *t, struct elf_info *i)
{
	return parse((const uint8_t *)t, sizeof *t, i);
}

static void test_every_field_of_a_tiny_program_is_read(void)
{
	struct tiny t = tiny_make();
	struct elf_info i;
	CHECK(tiny_parse(&t, &i) == 0);
	CHECK(strcmp(i.interp, "/ld.so") == 0 && i.n_needed == 2 && strcmp(i.needed[0], "liba.so") == 0 &&
	      strcmp(i.needed[1], "libb.so") == 0 && strcmp(i.rpath, "/rpath") == 0 && !i.runpath &&
	      strcmp(i.soname, "soname.so") == 0 && i.nodeflib && i.build_id_n == 8 && i.build_id[7] == 0x22);
	elf_info_fini(&i);
	t.dyn[7] = (Elf64_Dyn){ .d_tag = DT_RUNPATH, .d_un.d_val = 24 };
	CHECK(tiny_parse(&t, &i) == 0 && strcmp(i.runpath, "/runpath") == 0 && !i.rpath);
	elf_info_fini(&i);
}

static void test_broken_fields_are_refused(void)
{
	struct elf_info i;
	struct tiny t = tiny_make();
	t.eh.e_phnum = ELF_PHDRS_MAX + 1;
	CHECK(tiny_parse(&t, &i) == -EBADMSG);
	t = tiny_make();
	t.eh.e_phentsize = 1;
	CHECK(tiny_parse(&t, &i) == -EBADMSG);
	t = tiny_make();
	t.eh.e_phoff = UINT64_MAX - 8;
	CHECK(tiny_parse(&t, &i) == -EBADMSG);
	t = tiny_make();
	t.ph[1].p_filesz = UINT64_MAX;
	CHECK(tiny_parse(&t, &i) == -EBADMSG);
	t = tiny_make();
	t.interp[7] = 'x'; /* no end */
	CHECK(tiny_parse(&t, &i) == -EBADMSG);
	t = tiny_make();
	t.dyn[0].d_un.d_val = UINT64_MAX;
	CHECK(tiny_parse(&t, &i) == -EBADMSG);
	t = tiny_make();
	t.dyn[3].d_un.d_val = 1; /* string table in no segment */
	CHECK(tiny_parse(&t, &i) == -EBADMSG);
	t = tiny_make();
	t.ph[0].p_offset = UINT64_MAX - 4; /* wraps around */
	CHECK(tiny_parse(&t, &i) == -EBADMSG);
	t = tiny_make();
	memset(t.str, 'x', sizeof t.str);
	CHECK(tiny_parse(&t, &i) == -EBADMSG);
	t = tiny_make();
	t.note[0] = UINT32_MAX; /* notes are for us only: no error, no build id */
	CHECK(tiny_parse(&t, &i) == 0 && i.build_id_n == 0);
	elf_info_fini(&i);
	t = tiny_make();
	t.note[1] = ELF_BUILD_ID_MAX + 4;
	CHECK(tiny_parse(&t, &i) == 0 && i.build_id_n == 0);
	elf_info_fini(&i);
}

static void test_every_prefix_and_mutation_of_a_program_is_survived(void)
{
	struct tiny t = tiny_make();
	struct elf_info i;
	for (size_t cut = 0; cut < sizeof t; cut++)
		if (parse((const uint8_t *)&t, cut, &i) == 0)
			elf_info_fini(&i);
	static const uint8_t with[] = { 0x01, 0x7f, 0x80, 0xff };
	uint8_t *b = (uint8_t *)&t;
	for (size_t at = 0; at < sizeof t; at++) {
		for (size_t k = 0; k < sizeof with; k++) {
			uint8_t was = b[at];
			b[at] ^= with[k];
			if (tiny_parse(&t, &i) == 0)
				elf_info_fini(&i);
			b[at] = was;
		}
	}
	size_t n;
	_cleanup_(free_p) uint8_t *real = file_read("/bin/true", &n);
	for (size_t cut = 0; real && cut < n; cut += cut < 2000 ? 1 : 487)
		if (parse(real, cut, &i) == 0)
			elf_info_fini(&i);
}

static int script(const char *text, size_t n, char ret[static ELF_SCRIPT_HEAD])
{
	_cleanup_(free_p) char *copy = malloc(n ? n : 1);
	CHECK(copy);
	memcpy(copy, text, n);
	return elf_script_interp(copy, n, ret);
}

static void test_interpreters_of_scripts_are_read_as_the_kernel_does(void)
{
	char i[ELF_SCRIPT_HEAD];
	CHECK(script("#!/bin/sh\n", 10, i) == 0 && strcmp(i, "/bin/sh") == 0);
	CHECK(script("#! \t/bin/sh -e x\n", 17, i) == 0 && strcmp(i, "/bin/sh") == 0);
	CHECK(script("#!/bin/sh", 9, i) == 0 && strcmp(i, "/bin/sh") == 0);
	CHECK(script("#!sh\n", 5, i) == 0 && strcmp(i, "sh") == 0);
	CHECK(script("#!", 2, i) == -ENOEXEC && script("#!  \n/bin/sh", 12, i) == -ENOEXEC);
	CHECK(script("", 0, i) == ELF_E_OTHER && script("#", 1, i) == ELF_E_OTHER &&
	      script("x#!/bin/sh", 10, i) == ELF_E_OTHER);
	char cut[ELF_SCRIPT_HEAD];
	memset(cut, 'x', sizeof cut);
	memcpy(cut, "#!/", 3);
	CHECK(script(cut, sizeof cut, i) == -ENOEXEC);
	cut[sizeof cut - 1] = ' '; /* the argument is cut off, not the name */
	CHECK(script(cut, sizeof cut, i) == 0 && strlen(i) == sizeof cut - 3);
}

/* --- ld.so.cache --- */

static const char *const no_caps[] = { NULL };

static int find(const uint8_t *p, size_t n, const char *name, const char *const *caps, char ret[static 256])
{
	_cleanup_(free_p) uint8_t *copy = malloc(n ? n : 1);
	const char *path;
	CHECK(copy);
	memcpy(copy, p, n);
	int rc = ldcache_find(copy, n, name, 0x0303, caps, &path);
	(void)snprintf(ret, 256, "%s", rc ? "" : path);
	return rc;
}

/* A cache with variants: liba plain, for v2 and v3; libb only for v3; of two kinds. */
struct cache {
	char magic[20];
	uint32_t n, len_strings;
	uint8_t flags[4];
	uint32_t extension, unused[3];
	struct entry {
		uint32_t kind, key, value, osversion;
		uint32_t hwcap[2]; /* low, high: as the file has it, without a demand for alignment */
	} e[6];
	char str[160];
	uint32_t ext[2 + 4], names[2];
};

static uint32_t str_at(const struct cache *c, const char *s)
{
	for (size_t i = 0; i < sizeof c->str; i++)
		if ((i == 0 || !c->str[i - 1]) && strcmp(c->str + i, s) == 0)
			return (uint32_t)(offsetof(struct cache, str) + i);
	CHECK(0);
	return 0;
}

static struct cache cache_make(void)
{
	struct cache c;
	memset(&c, 0, sizeof c);
	memcpy(c.magic, "glibc-ld.so.cache1.1", 20);
	static const char strings[160] =
	    "liba.so\0libb.so\0/plain/liba.so\0/v2/liba.so\0/v3/liba.so\0/v3/libb.so\0/i386/liba.so\0"
	    "x86-64-v2\0x86-64-v3\0/old/liba.so";
	memcpy(c.str, strings, sizeof c.str);
	c.n = 6;
	c.len_strings = sizeof c.str;
	c.extension = offsetof(struct cache, ext);
	const struct entry e[6] = {
		{ 0x0003, str_at(&c, "liba.so"), str_at(&c, "/i386/liba.so"), 0, { 0, 0 } },
		{ 0x0303, str_at(&c, "liba.so"), str_at(&c, "/old/liba.so"), 0, { 0, UINT32_C(1) << 31 } },
		{ 0x0303, str_at(&c, "liba.so"), str_at(&c, "/v2/liba.so"), 0, { 0, UINT32_C(1) << 30 } },
		{ 0x0303, str_at(&c, "liba.so"), str_at(&c, "/plain/liba.so"), 0, { 0, 0 } },
		{ 0x0303, str_at(&c, "liba.so"), str_at(&c, "/v3/liba.so"), 0, { 1, UINT32_C(1) << 30 } },
		{ 0x0303, str_at(&c, "libb.so"), str_at(&c, "/v3/libb.so"), 0, { 1, UINT32_C(1) << 30 } },
	};
	memcpy(c.e, e, sizeof e);
	const uint32_t ext[6] = { 0xeaa42174u, 1, 1, 0, offsetof(struct cache, names), 8 };
	memcpy(c.ext, ext, sizeof ext);
	c.names[0] = str_at(&c, "x86-64-v2");
	c.names[1] = str_at(&c, "x86-64-v3");
	return c;
}

static void test_the_cache_gives_the_best_variant_for_the_cpu(void)
{
	static const char *const v3[] = { "x86-64-v3", "x86-64-v2", NULL }, *const v2[] = { "x86-64-v2", NULL };
	struct cache c = cache_make();
	const uint8_t *p = (const uint8_t *)&c;
	char path[256];
	CHECK(find(p, sizeof c, "liba.so", v3, path) == 0 && strcmp(path, "/v3/liba.so") == 0);
	CHECK(find(p, sizeof c, "liba.so", v2, path) == 0 && strcmp(path, "/v2/liba.so") == 0);
	CHECK(find(p, sizeof c, "liba.so", no_caps, path) == 0 && strcmp(path, "/plain/liba.so") == 0);
	CHECK(find(p, sizeof c, "libb.so", v3, path) == 0 && strcmp(path, "/v3/libb.so") == 0);
	CHECK(find(p, sizeof c, "libb.so", v2, path) == -ENOENT);
	CHECK(find(p, sizeof c, "libc.so", v3, path) == -ENOENT);
	CHECK(find(p, sizeof c, "lib", v3, path) == -ENOENT);

	/* the old format in front of it */
	static const uint8_t old[32] = "ld.so-1.7.0\0\1\0\0\0";
	uint8_t both[32 + sizeof c];
	memcpy(both, old, 32);
	memcpy(both + 32, &c, sizeof c);
	CHECK(find(both, sizeof both, "liba.so", v3, path) == 0 && strcmp(path, "/v3/liba.so") == 0);
	both[15] = 0xff;
	CHECK(find(both, sizeof both, "liba.so", v3, path) == -EBADMSG);
}

static void test_every_prefix_and_mutation_of_a_cache_is_survived(void)
{
	static const char *const v3[] = { "x86-64-v3", "x86-64-v2", NULL };
	struct cache c = cache_make();
	uint8_t *b = (uint8_t *)&c;
	char path[256];
	for (size_t cut = 0; cut < offsetof(struct cache, str); cut++)
		CHECK(find(b, cut, "liba.so", v3, path) == -EBADMSG);
	for (size_t cut = 0; cut < sizeof c; cut++)
		(void)find(b, cut, "liba.so", v3, path);
	static const uint8_t with[] = { 0x01, 0x7f, 0x80, 0xff };
	for (size_t at = 0; at < sizeof c; at++) {
		for (size_t k = 0; k < sizeof with; k++) {
			uint8_t was = b[at];
			b[at] ^= with[k];
			(void)find(b, sizeof c, "liba.so", v3, path);
			b[at] = was;
		}
	}
	c.e[4].value = (uint32_t)sizeof c - 1; /* a string without an end */
	c.names[1] = str_at(&c, "x86-64-v3");
	b[sizeof c - 1] = 'x';
	(void)find(b, sizeof c, "liba.so", v3, path);
}

static void test_the_cache_of_this_machine_is_understood(void)
{
	size_t n;
	char path[256];
	_cleanup_(free_p) uint8_t *p = file_read("/etc/ld.so.cache", &n);
	if (!p || ldcache_kind(1, EM_X86_64) < 0)
		return;
	CHECK(find(p, n, "libc.so.6", elf_hwcaps(), path) == 0 && access(path, R_OK) == 0);
	CHECK(find(p, n, "libnonexistent.so.6", elf_hwcaps(), path) == -ENOENT);
}

int main(void)
{
	TEST(test_a_sound_program_is_understood);
	TEST(test_other_files_are_no_elf);
	TEST(test_every_field_of_a_tiny_program_is_read);
	TEST(test_broken_fields_are_refused);
	TEST(test_every_prefix_and_mutation_of_a_program_is_survived);
	TEST(test_interpreters_of_scripts_are_read_as_the_kernel_does);
	TEST(test_the_cache_gives_the_best_variant_for_the_cpu);
	TEST(test_every_prefix_and_mutation_of_a_cache_is_survived);
	TEST(test_the_cache_of_this_machine_is_understood);
	return 0;
}
