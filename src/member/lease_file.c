#include "member/lease_file.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "wire/rd.h"

enum { SIZE = 40, BOOT_ID = 16, AT_BOOT = 8, AT_INCARNATION = 24, AT_UNTIL = 32 };

static const char magic[8] = { 'P', 'A', 'N', 'D', 'O', 'L', 'E', '1' };

struct lease_file {
	uint8_t *map; /* owned, SIZE bytes, page aligned */
};

uint64_t lease_now_ms(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_BOOTTIME, &ts); /* cannot fail for this clock */
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* The kernel's boot id as 16 bytes; zeros where there is none. */
static void boot_id(uint8_t ret[static BOOT_ID])
{
	char text[64] = { 0 };
	memset(ret, 0, BOOT_ID);
	_cleanup_(close_p) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof text - 1) < 36)
		return;
	unsigned n = 0;
	for (const char *p = text; *p && n < 2 * BOOT_ID; p++) {
		const char *digits = "0123456789abcdef", *d = strchr(digits, *p);
		if (!d)
			continue;
		ret[n / 2] = (uint8_t)(ret[n / 2] << 4 | (d - digits));
		n++;
	}
}

static void store(uint8_t *at, uint64_t v)
{
	__atomic_store_n((uint64_t *)(void *)at, htole64(v), __ATOMIC_SEQ_CST); /* aligned: the map is, and the offsets are */
}

int lease_file_open(const char *path, struct lease_file **ret, struct err *e)
{
	_cleanup_(close_p) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(e, -errno, "open %s: %m", path);
	if (ftruncate(fd, SIZE) < 0)
		return err_set(e, -errno, "size %s: %m", path);
	struct lease_file *f = calloc(1, sizeof *f);
	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	void *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		free(f);
		return err_set(e, -errno, "map %s: %m", path);
	}
	f->map = map;
	store(f->map + AT_UNTIL, 0);
	store(f->map + AT_INCARNATION, 0);
	memcpy(f->map, magic, sizeof magic);
	boot_id(f->map + AT_BOOT);
	*ret = f;
	return 0;
}

void lease_file_set(struct lease_file *f, uint32_t incarnation, uint64_t until_ms)
{
	uint64_t before = le64toh(*(const uint64_t *)(const void *)(f->map + AT_INCARNATION));
	if (before != incarnation) {
		store(f->map + AT_UNTIL, 0); /* the end of one space is never seen with the number of another */
		store(f->map + AT_INCARNATION, incarnation);
	}
	store(f->map + AT_UNTIL, until_ms);
}

struct lease_file *lease_file_close(struct lease_file *f)
{
	if (f)
		(void)munmap(f->map, SIZE); /* ours, whole */
	free(f);
	return NULL;
}

int lease_file_read(const char *path, uint32_t *ret_incarnation, uint64_t *ret_until_ms)
{
	uint8_t bytes[SIZE], boot[BOOT_ID];
	*ret_incarnation = 0;
	*ret_until_ms = 0;
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || pread(fd, bytes, SIZE, 0) != SIZE)
		return -ENOENT;
	boot_id(boot);
	if (memcmp(bytes, magic, sizeof magic) != 0 || memcmp(bytes + AT_BOOT, boot, BOOT_ID) != 0)
		return -ENOENT;

	struct rd r;
	rd_init(&r, bytes + AT_INCARNATION, SIZE - AT_INCARNATION);
	uint64_t incarnation = rd_u64(&r);
	uint64_t until_ms = rd_u64(&r);
	if (!incarnation || incarnation > UINT32_MAX)
		return -ENOENT;
	*ret_incarnation = (uint32_t)incarnation;
	*ret_until_ms = until_ms;
	return 0;
}
