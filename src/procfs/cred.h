/* The credentials of the process that asks, carried to the node that reads for it, and put on by the thread that reads. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "wire/rd.h"
#include "wire/wr.h"

enum { CRED_GROUPS_MAX = 128 }; /* more are dropped: that can only deny */

#define CRED_CAPS_ALL (~(uint64_t)0)

struct cred {
	uint32_t uid, gid; /* file system ids */
	uint64_t caps;     /* effective capabilities; only meaningful in the user namespace of the space */
	uint32_t n_groups;
	uint32_t groups[CRED_GROUPS_MAX];
};

void cred_put(struct wr *w, const struct cred *c);
void cred_get(struct rd *r, struct cred *ret); /* a failure sticks in r */

/* Parses a text of the form of /proc/PID/status: effective capabilities and groups go to *c, the rest of it stays. */
void cred_parse_status(const char *text, struct cred *c);

/* What is known of the thread tid of the space (0: somebody outside of it) that asks with these file system ids: groups and
 * capabilities are read from the native procfs procfd. A thread in another user namespace than pid 1 of the space has none; one
 * that cannot be read has none. Somebody outside the space has all capabilities when uid is 0. Any thread. */
void cred_of(int procfd, pid_t tid, uint32_t uid, uint32_t gid, struct cred *ret);

/* Puts the credentials on for this thread only: file system uid and gid, groups, effective capabilities. On failure nothing has
 * changed. -EPERM when this process lacks the right. Between the two calls the thread does nothing but the access in question. */
int cred_enter(const struct cred *c);

/* Back to those that the program was started with. Aborts the program when the kernel refuses: never go on as somebody else. */
void cred_leave(void);
