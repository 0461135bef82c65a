/* The /proc server's connection to pandod: comes up by itself and comes back when pandod does. Loop thread. */
#pragma once

#include "procfs/fs.h"

struct client;

/* Connects to run_dir/procfs.sock now and whenever the connection is lost; serves fs once pandod hands its mount over. gone runs at
 * most once: the mount is gone or was replaced by another (0), or cannot be served (-errno). On 0 the caller owns *ret. */
int client_new(struct fs *fs, const char *run_dir, void (*gone)(void *ctx, int error), void *ctx, struct client **ret, struct err *e);
/* Closes; the loop has to be run once more before fs is freed. */
void client_free(struct client *c);
