/* What ld.so would read of a program or library, and of its cache of libraries. Both are hostile bytes: everything is
 * bounded and checked, offsets never followed without a range check. Any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
	ELF_NEEDED_MAX = 512,  /* libraries named by one file */
	ELF_STRING_MAX = 4096, /* bytes of one name or search path */
	ELF_PHDRS_MAX = 128,
	ELF_BUILD_ID_MAX = 32,
	LDCACHE_SIZE_MAX = 16 << 20,
	ELF_SCRIPT_HEAD = 256, /* bytes of a file that the kernel looks at to tell what it is */
};

/* Where the bytes come from: a descriptor of a regular file, or memory (fd -1). Borrowed. */
struct elf_src {
	int fd;
	const uint8_t *mem;
	size_t mem_n;
};

struct elf_info {
	uint8_t is64;
	uint16_t machine, type; /* EM_, ET_ of elf.h */
	char *interp;           /* owned, as all strings here; NULL when absent */
	char *soname, *rpath, *runpath;
	char **needed;
	size_t n_needed;
	int nodeflib; /* DF_1_NODEFLIB */
	uint8_t build_id[ELF_BUILD_ID_MAX];
	uint8_t build_id_n; /* 0: none */
};

/* 0; ELF_E_OTHER when it is no ELF file of this byte order; -EBADMSG when it is one and broken; -ENOMEM, -errno of
 * reading. Only on 0 does the caller own *ret, and frees it by elf_info_fini. */
enum { ELF_E_OTHER = 1 };
int elf_parse(const struct elf_src *src, struct elf_info *ret) __attribute__((warn_unused_result));
void elf_info_fini(struct elf_info *i);

/* The interpreter in the "#!" line of a file that begins with these n bytes, as the kernel reads it
 * (fs/binfmt_script.c). 0; ELF_E_OTHER when it is no script; -ENOEXEC when it names none, or the name is cut off. */
int elf_script_interp(const char *head, size_t n, char ret[static ELF_SCRIPT_HEAD]) __attribute__((warn_unused_result));

/* The order in which this CPU's variants of libraries are preferred ("x86-64-v3", "x86-64-v2"); ended by NULL. */
const char *const *elf_hwcaps(void);

/* The id that ld.so.cache gives to libraries of this kind of machine, or -1 for one that is not run here. */
int ldcache_kind(uint8_t is64, uint16_t machine);

/* Looks a library up in the bytes of /etc/ld.so.cache as ld.so does. 0 and its path in the cache (borrowed from p);
 * -ENOENT; -EBADMSG when the cache is no such file or broken (ld.so then goes on without it). */
int ldcache_find(const uint8_t *p, size_t n, const char *name, int kind, const char *const *hwcaps,
		 const char **ret_path) __attribute__((warn_unused_result));
