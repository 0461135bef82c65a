/* The filter of supervised sessions: everything is allowed but the calls below, which are the ones where one machine and a
 * cluster differ (design table in ARCHITECTURE.md). Rules on the number alone cost 13-25 ns on all other calls; the few that look
 * at an argument do so only for their own number. Foreign architectures (i386, x32) are allowed unsupervised. */
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <seccomp.h>
#include <string.h>

#include "space/create.h"
#include "stub/proto.h"

static const int g_always[] = {
	PANDO_NR,
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(kill),
	SCMP_SYS(tkill),
	SCMP_SYS(tgkill),
	SCMP_SYS(rt_sigqueueinfo),
	SCMP_SYS(rt_tgsigqueueinfo),
	SCMP_SYS(pidfd_open),
	SCMP_SYS(pidfd_send_signal),
	SCMP_SYS(getpgid),
	SCMP_SYS(getsid),
	SCMP_SYS(setpgid),
	SCMP_SYS(setsid),
	SCMP_SYS(io_uring_setup),
};

/* Calls that name another process: trapped unless the argument is 0 (the caller itself). */
static const struct {
	int nr;
	unsigned arg;
} g_not_zero[] = {
	{ SCMP_SYS(getpriority), 1 },       { SCMP_SYS(setpriority), 1 },        { SCMP_SYS(sched_setscheduler), 0 },
	{ SCMP_SYS(sched_getscheduler), 0 }, { SCMP_SYS(sched_setparam), 0 },    { SCMP_SYS(sched_getparam), 0 },
	{ SCMP_SYS(sched_setaffinity), 0 }, { SCMP_SYS(sched_getaffinity), 0 }, { SCMP_SYS(sched_setattr), 0 },
	{ SCMP_SYS(sched_getattr), 0 },     { SCMP_SYS(prlimit64), 0 },
	{ SCMP_SYS(wait4), 3 },             { SCMP_SYS(waitid), 4 },             /* with rusage */
	{ SCMP_SYS(times), 0 },
};

/* Of the standard descriptors: stat.c. */
static int stat_rules(scmp_filter_ctx ctx)
{
	struct scmp_arg_cmp std = SCMP_A0(SCMP_CMP_LE, 2);
	int rc = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(fstat), 1, std);
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(newfstatat), 2, std, SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(statx), 2, std, SCMP_A2(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
	return rc;
}

int space_filter_write(int fd, struct err *e)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	if (!ctx)
		return err_set(e, -ENOMEM, "seccomp filter: no memory");

	int rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW);
	for (size_t i = 0; rc == 0 && i < sizeof g_always / sizeof g_always[0]; i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, g_always[i], 0);
	for (size_t i = 0; rc == 0 && i < sizeof g_not_zero / sizeof g_not_zero[0]; i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, g_not_zero[i].nr, 1, SCMP_CMP(g_not_zero[i].arg, SCMP_CMP_NE, 0));
	if (rc == 0)
		rc = stat_rules(ctx);
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(getrusage), 1, SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)-1));
	if (rc == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(prctl), 1, SCMP_A0_32(SCMP_CMP_EQ, PR_SET_CHILD_SUBREAPER));
	if (rc == 0)
		rc = seccomp_export_bpf(ctx, fd);
	seccomp_release(ctx);
	return rc < 0 ? err_set(e, rc, "seccomp filter: %s", strerror(-rc)) : 0;
}
