/* deps: fileid wire */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "image/fileid-elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Whatever is taken for an ELF file has strings that end within their limit. */
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct elf_info i;
	if (elf_parse(&(struct elf_src){ .fd = -1, .mem = p, .mem_n = n }, &i) != 0)
		return 0;
	if (i.n_needed > ELF_NEEDED_MAX || i.build_id_n > ELF_BUILD_ID_MAX)
		__builtin_trap();
	for (size_t k = 0; k < i.n_needed; k++)
		if (strlen(i.needed[k]) >= ELF_STRING_MAX)
			__builtin_trap();
	if ((i.interp && strlen(i.interp) >= ELF_STRING_MAX) || (i.rpath && i.runpath))
		__builtin_trap();
	elf_info_fini(&i);
	return 0;
}
