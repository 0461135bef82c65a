/* The end of the lease where other programs of this machine can see it: in a small file that lies in the run directory.
 *
 * pandod keeps it up to date. Who reads it: pandod started again, to go on without freezing the space; and a watchdog (the keeper),
 * which must freeze the space when the end has come and pandod has not moved it, because pandod is dead or stuck then.
 *
 * 40 bytes: "PANDOLE1", raw 16 boot id, u64 incarnation of the space (0: none), u64 end in ms of CLOCK_BOOTTIME (0: may not run,
 * all ones: no end), little endian. The last two are each written at once, by one aligned store. Any thread. */
#pragma once

#include <stdint.h>

#include "base/err.h"

struct lease_file;

/* Opens or makes the file and maps it. On 0 the caller owns *ret, and the file holds no lease until lease_file_set. */
int lease_file_open(const char *path, struct lease_file **ret, struct err *e);

/* Publishes. */
void lease_file_set(struct lease_file *f, uint32_t incarnation, uint64_t until_ms);

/* Unmaps; the file stays. NULL is fine. Returns NULL. */
struct lease_file *lease_file_close(struct lease_file *f);

/* Reads what was published on this boot of the machine. -ENOENT: nothing was; then both are 0. */
int lease_file_read(const char *path, uint32_t *ret_incarnation, uint64_t *ret_until_ms);

/* Now, in ms of CLOCK_BOOTTIME: what ends are compared with. */
uint64_t lease_now_ms(void);
