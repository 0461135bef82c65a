/* Helpers that live on when `pando dev up` has ended, and die with it when it is interrupted before it was done.
 *
 * The helper and its starter share a socket pair, the leash: the helper says "ready"; the starter says "stay" when all
 * is well; the leash's end without that word ends the helper. Single-threaded programs only. */
#pragma once

#include <sys/types.h>

#include "base/err.h"

/* Starter: makes the pair. *ret_theirs is for the helper, with CLOEXEC set: leash_detach clears that. The caller owns
 * both. */
int leash_new(int *ret_ours, int *ret_theirs, struct err *e);

/* Helper, after fork and before exec: new session; standard input from /dev/null, output and errors to log_fd (-1:
 * /dev/null); default signals; no descriptors above 2 but the n in keep. 0 or -errno. */
int leash_detach(int log_fd, const int *keep, int n);

/* Starter: waits for the helper's "ready" (or "no: why"), at most ms. what names the helper in the words. */
int leash_ready(int leash_fd, int ms, const char *what, struct err *e);

/* Starter: sends a word ("stay"). */
int leash_say(int leash_fd, const char *word, struct err *e);
