/* deps: fileid wire */
#include <stddef.h>
#include <stdint.h>

#include "image/fileid-elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* A path that is found lies within the bytes, with its end. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const char *const caps[] = { "x86-64-v3", "x86-64-v2", NULL }, *const names[] = { "a", "libc.so.6", "" };
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		const char *path = NULL;
		if (ldcache_find(p, n, names[i], 0x0303, caps, &path) != 0)
			continue;
		const uint8_t *at = (const uint8_t *)path, *end = p + n;
		if (at < p || at >= end)
			__builtin_trap();
		while (at < end && *at)
			at++;
		if (at == end)
			__builtin_trap();
	}
	return 0;
}
