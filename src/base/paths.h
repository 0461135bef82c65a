/* Where things are. Any thread. */
#pragma once

#define PANDO_RUN_DIR "/run/pando"       /* control.sock, streams.sock, keeper.sock ... ; --run or $PANDO_RUN changes it */
#define PANDO_STATE_DIR "/var/lib/pando" /* keys, certificates, raft log; --state or $PANDO_STATE changes it */

enum { PATHS_MAX = 4096 };

/* The directory of pandod and the other helpers: $PANDO_LIBEXEC; else the directory of this executable if pandod is there (a
 * build tree); else ../lib/pando from it. -ENOENT when pandod is in none of them. */
int paths_libexec(char ret_dir[static PATHS_MAX]);
