/* deps: image */
/* The image of a process at exec: refused, or such that it is the same bytes when written again, and becomes a file for the stub. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/exec.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct exec_image im;
	struct wr w = { 0 };
	int fd;
	uint32_t size;
	if (exec_image_decode(p, n, &im, NULL) < 0)
		return 0;
	exec_image_encode(&im, &w);
	if (w.n != n || memcmp(w.p, p, n) != 0)
		abort();
	wr_fini(&w);
	if (exec_image_body(&im, -1, &fd, &size, NULL) == 0) {
		if (size & 7)
			abort();
		(void)close(fd);
	}
	exec_image_fini(&im);
	return 0;
}
