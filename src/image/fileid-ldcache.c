/* /etc/ld.so.cache (glibc 2.2 and later; elf/cache.c and dl-cache.h there):
 *
 *   perhaps the old format first: "ld.so-1.7.0", a pad byte, u32 count, count x 12 bytes; then up to a multiple of 8:
 *   "glibc-ld.so.cache1.1", u32 count, u32 size of strings, u8 flags, 3 bytes, u32 offset of the extension, 12 bytes;
 *   count x { i32 kind, u32 name, u32 path, u32 osversion, u64 hwcap }; the strings; the extension.
 *
 * Offsets count from the new header. Bit 62 of hwcap alone in the upper half says that the lower half is a place in the
 * extension's list of names of CPU variants. */
#include <errno.h>
#include <string.h>

#include <elf.h>

#include "image/fileid-elf.h"
#include "wire/rd.h"

enum {
	OLD_HEAD = 16,
	OLD_ENTRY = 12,
	NEW_HEAD = 48,
	NEW_ENTRY = 24,
	KIND_ANY_ELF = 1,
	ENTRIES_MAX = 1 << 19,
	NAMES_MAX = 256
};

#define NEW_MAGIC "glibc-ld.so.cache1.1"
#define OLD_MAGIC "ld.so-1.7.0"
#define EXT_MAGIC 0xeaa42174u
#define HWCAP_IS_NAME (UINT32_C(1) << 30) /* in the upper half */

#if defined(__x86_64__)
#include <cpuid.h>

/* The levels of the x86-64 psABI, as ld.so judges them. */
static int x86_level(void)
{
	unsigned a, b, c, d, b7 = 0, c7 = 0, d7 = 0, ce = 0;
	if (!__get_cpuid(1, &a, &b, &c, &d))
		return 1;
	unsigned c1 = c;
	if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7))
		b7 = 0;
	if (!__get_cpuid(0x80000001, &a, &b, &ce, &d))
		ce = 0;
	unsigned v2 = bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT | bit_CMPXCHG16B;
	if ((c1 & v2) != v2 || !(ce & bit_LAHF_LM))
		return 1;
	unsigned v3 = bit_AVX | bit_F16C | bit_FMA | bit_MOVBE | bit_OSXSAVE, v3b = bit_AVX2 | bit_BMI | bit_BMI2;
	if ((c1 & v3) != v3 || (b7 & v3b) != v3b || !(ce & (1u << 5) /* LZCNT */))
		return 2;
	unsigned lo, hi;
	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	if ((lo & 6) != 6)
		return 2;
	unsigned v4 = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
	return (b7 & v4) == v4 && (lo & 0xe0) == 0xe0 ? 4 : 3;
}

const char *const *elf_hwcaps(void)
{
	static const char *const levels[] = { "x86-64-v4", "x86-64-v3", "x86-64-v2", NULL };
	return levels + (4 - x86_level());
}
#else
const char *const *elf_hwcaps(void)
{
	static const char *const none[] = { NULL };
	return none;
}
#endif

int ldcache_kind(uint8_t is64, uint16_t machine)
{
#if defined(__x86_64__)
	if (machine == EM_X86_64)
		return is64 ? 0x0303 : 0x0803; /* x32 */
	if (machine == EM_386 && !is64)
		return 0x0003;
#elif defined(__aarch64__)
	if (machine == EM_AARCH64 && is64)
		return 0x0a03;
#endif
	return -1;
}

/* Where the new format begins. */
static int new_at(const uint8_t *p, size_t n, size_t *ret)
{
	*ret = 0;
	if (n >= OLD_HEAD && memcmp(p, OLD_MAGIC, sizeof OLD_MAGIC - 1) == 0) {
		struct rd r;
		rd_init(&r, p + 12, 4);
		uint64_t at = OLD_HEAD + (uint64_t)rd_u32(&r) * OLD_ENTRY;
		at = (at + 7) & ~UINT64_C(7);
		if (at > n)
			return -EBADMSG;
		*ret = (size_t)at;
	}
	if (n - *ret < NEW_HEAD || memcmp(p + *ret, NEW_MAGIC, sizeof NEW_MAGIC - 1) != 0)
		return -EBADMSG;
	return 0;
}

/* The string at an offset, or NULL where there is none that ends within. */
static const char *string_at(const uint8_t *p, size_t n, uint32_t at)
{
	return at < n && memchr(p + at, 0, n - at) ? (const char *)p + at : NULL;
}

/* The section of the extension with the names of CPU variants. Absent or broken: no names. */
static struct rd names_find(const uint8_t *p, size_t n, uint32_t ext)
{
	struct rd r, none = { .p = p };
	if (!ext || ext >= n)
		return none;
	rd_init(&r, p + ext, n - ext);
	if (rd_u32(&r) != EXT_MAGIC)
		return none;
	uint32_t count = rd_count(&r, 64, 16);
	while (count--) {
		uint32_t tag = rd_u32(&r);
		(void)rd_u32(&r); /* flags */
		uint32_t at = rd_u32(&r), size = rd_u32(&r);
		if (!r.bad && tag == 1 && at <= n && size <= n - at) {
			struct rd names;
			rd_init(&names, p + at, size);
			return names;
		}
	}
	return none;
}

/* How much a variant is preferred: the place in hwcaps counted from the end, or 0 for one that this CPU cannot run. */
static unsigned preference(const uint8_t *p, size_t n, struct rd names, uint32_t index, const char *const *hwcaps)
{
	if (index >= NAMES_MAX)
		return 0;
	(void)rd_raw(&names, (size_t)index * 4);
	uint32_t at = rd_u32(&names);
	const char *name = names.bad ? NULL : string_at(p, n, at);
	unsigned count = 0, found = 0;
	while (hwcaps[count])
		count++;
	for (unsigned i = 0; name && i < count && !found; i++)
		if (strcmp(name, hwcaps[i]) == 0)
			found = count - i;
	return found;
}

int ldcache_find(const uint8_t *p, size_t n, const char *name, int kind, const char *const *hwcaps,
		 const char **ret_path)
{
	size_t at;
	int rc = new_at(p, n, &at);
	if (rc < 0)
		return rc;
	p += at;
	n -= at;
	struct rd r;
	rd_init(&r, p + sizeof NEW_MAGIC - 1, n - (sizeof NEW_MAGIC - 1));
	uint32_t count = rd_u32(&r);
	(void)rd_raw(&r, 4 + 1 + 3);
	uint32_t ext = rd_u32(&r);
	(void)rd_raw(&r, 12);
	if (r.bad || count > ENTRIES_MAX || (uint64_t)count * NEW_ENTRY > r.n)
		return -EBADMSG;

	struct rd names = names_find(p, n, ext);
	const char *best = NULL;
	unsigned best_pref = 0;
	size_t name_n = strlen(name) + 1;
	while (count--) {
		uint32_t k = rd_u32(&r), key = rd_u32(&r), value = rd_u32(&r);
		(void)rd_u32(&r); /* osversion */
		uint64_t hwcap = rd_u64(&r);
		if ((k != (uint32_t)kind && k != KIND_ANY_ELF) || key >= n || name_n > n - key ||
		    memcmp(p + key, name, name_n) != 0)
			continue;
		unsigned pref = 0;
		if (hwcap >> 32 == HWCAP_IS_NAME) {
			pref = preference(p, n, names, (uint32_t)hwcap, hwcaps);
			if (!pref)
				continue;
		} else if (hwcap) {
			continue; /* variants of before glibc 2.33, gone in 2.37 */
		}
		const char *path = string_at(p, n, value);
		if (!path)
			return -EBADMSG;
		if (!best || pref > best_pref) {
			best = path;
			best_pref = pref;
		}
	}
	if (!best)
		return -ENOENT;
	*ret_path = best;
	return 0;
}
