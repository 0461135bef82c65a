/* For tests: a pandod without a cluster. Answers every request of docs/control.md with something plausible (texts with characters that must not
 * reach a terminal included), and `run` by really running the command here, with the descriptors, the terminal and everything else of the request. */
#pragma once

#include <sys/types.h>

/* Starts it, serving DIR/control.sock; it dies with this process. *ret_pid is for fake_stop. Returns when it listens. */
void fake_start(const char *dir, pid_t *ret_pid);
void fake_stop(pid_t pid);
