/* What pandod and pando-streams ask of the keeper that started them: to keep descriptors for a successor, and to watch the space.
 *
 * The keeper gives each of its programs one end of a socket pair ($PANDO_KEEPER_FD). Names belong to the program: what pando-streams
 * keeps is not seen by pandod. What was put stays until it is dropped or replaced, over any number of deaths of the program, and is
 * lost with the keeper only.
 *
 * Recipe of pandod:
 *   keeper_open; -ENOENT: started by hand, go on with NULL: nothing is kept
 *   struct space_keep keep = { .ctx = k, .put = keeper_put, .drop = keeper_drop, .take = keeper_take, .each = keeper_each };
 *   after space_new, which makes the space or finds it again: keeper_space(k, space_ends_get(s), lease_path), also when it is the
 *     predecessor's space, and again for each new one after an end; keeper_space(k, NULL, NULL) after it has been wiped, and
 *     keeper_drop of what is not needed without it
 *   keeper_ready when the control socket listens: `systemctl start` returns then
 *   SIGTERM: the node is to leave: wipe the space, member_leave, exit 0. It also comes when the keeper itself has died (then the kept
 *     descriptors are lost and another keeper waits for our end): the same is to be done.
 *
 * Lease: the keeper reads the lease file (member/lease_file.h) by itself and freezes the space when the end has passed. It thaws what
 * it froze when the end lies in the future again. So pandod must write the file before it thaws the space, and write 0 before it freezes
 * it for want of a lease.
 *
 * A program has one struct keeper; the thread that opened it uses it. Calls block while the keeper is busy, which is for
 * microseconds, at most for KEEPER_WAIT_MS. NULL is fine everywhere: then nobody keeps anything, put and drop and the like do nothing
 * and say 0, and nothing is found. */
#pragma once

#include <sys/types.h>

#include "base/err.h"

enum {
	KEEPER_NAME_MAX = 120,    /* bytes of a name, without the NUL; at least 1 */
	KEEPER_FDS_MAX = 65536,   /* kept for one program */
	KEEPER_WAIT_MS = 10000,
};

struct keeper;
struct space_ends;

/* Takes the socket that $PANDO_KEEPER_FD names and unsets the variable; the socket is closed by an exec from now on. On 0 the caller
 * owns *ret. -ENOENT: not started by a keeper. -ENOTSOCK, -EINVAL: the variable is wrong. After a failure *ret is NULL. */
int keeper_open(struct keeper **ret, struct err *e);

/* Closes the socket; what is kept stays kept. Returns NULL. */
struct keeper *keeper_close(struct keeper *k);

/* In the following, keeper is a struct keeper * (or NULL): the types are those of struct space_keep.
 *
 * All say -EPIPE when the keeper is gone, -ETIMEDOUT when it does not move, -EINVAL for an empty or too long name, -ENOMEM. */

/* Keeps fd's description under name instead of what was there. fd stays the caller's. No answer is waited for: see keeper_sync.
 * -EBADF. */
int keeper_put(void *keeper, const char *name, int fd);

/* Keeps nothing under name any more. 0 also when there was nothing. No answer is waited for. */
int keeper_drop(void *keeper, const char *name);

/* A new descriptor for what is kept under name, close-on-exec; it stays kept. -ENOENT. Waits for the answer. */
int keeper_take(void *keeper, const char *name);

/* Calls fn for each kept name that starts with prefix ("": all), in no order, with a new descriptor that is fn's. fn may call all of
 * these functions: it sees what was kept when keeper_each was called. Waits for the answers. When they do not come or there is no room
 * for all the descriptors, fn is called for those that came, and the keeper's fault is logged. */
void keeper_each(void *keeper, const char *prefix, void (*fn)(void *arg, const char *name, int fd), void *arg);

/* Waits until all that was said is done. -EDQUOT: since the last keeper_sync some put was not kept, because the program has
 * KEEPER_FDS_MAX or the keeper has no descriptors left. */
int keeper_sync(void *keeper);

/* Announces the space, its watchdog's object; ends is copied. NULL: there is none any more. lease_path: absolute, may not exist yet.
 * On 0 the keeper knows it: should it die from now on, the next keeper destroys the space. Waits for the answer. */
int keeper_space(void *keeper, const struct space_ends *ends, const char *lease_path);

/* This program serves now. */
int keeper_ready(void *keeper);
