#include "stub/proto.h"
#include "stub/body.h"

#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/securebits.h>
#include <sys/syscall.h>

#include "stub/sys.h"

enum { MAP_PRIVATE_ = 2, PROT_RW_ = 3, SIG_SETMASK_ = 2, TIOCSPGRP_ = 0x5410, PRIO_PROCESS_ = 0 };

struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

/* What failed, for the report. */
struct failure {
	enum stub_stage at;
	long error; /* -errno */
};

static long fail(struct failure *f, enum stub_stage at, long error)
{
	f->at = at;
	f->error = error;
	return error;
}

static long limits_set(const struct stub_body *b, struct failure *f)
{
	for (int i = 0; i < STUB_RLIMITS; i++) {
		long rc = sys4(SYS_prlimit64, 0, i, b->rlimit[i], 0);
		if (rc == -1) { /* EPERM: this node's hard limit is lower and we may not raise it; the lower one holds */
			uint64_t now[2];
			(void)sys4(SYS_prlimit64, 0, i, 0, now);
			if (now[1] > b->rlimit[i][0])
				now[0] = b->rlimit[i][0];
			else
				now[0] = now[1];
			rc = sys4(SYS_prlimit64, 0, i, now, 0);
		}
		if (rc < 0)
			return fail(f, STUB_AT_LIMITS, rc);
	}
	uint64_t any = 0;
	for (int i = 0; i < 16; i++)
		any |= b->cpus[i];
	if (any)
		(void)sys3(SYS_sched_setaffinity, 0, sizeof b->cpus, b->cpus); /* a mask without a CPU of this node: as if unset */
	(void)sys3(SYS_setpriority, PRIO_PROCESS_, 0, b->nice);
	(void)sys1(SYS_umask, b->umask);
	if (b->personality)
		(void)sys1(SYS_personality, b->personality);
	if (b->timer_slack_ns)
		(void)sys2(SYS_prctl, PR_SET_TIMERSLACK, b->timer_slack_ns);
	return 0;
}

/* Bounding set, ids, then the other sets: the order in which nothing that is still needed is lost. PR_SET_KEEPCAPS keeps the
 * permitted set over the change of ids. */
static long creds_set(const struct stub_body *b, struct failure *f)
{
	for (unsigned long cap = 0; cap < 64; cap++) {
		if (b->cap_bounding & (1ull << cap))
			continue;
		if (sys2(SYS_prctl, PR_CAPBSET_READ, cap) == 1) {
			long rc = sys2(SYS_prctl, PR_CAPBSET_DROP, cap);
			if (rc < 0)
				return fail(f, STUB_AT_CREDS, rc);
		}
	}
	long rc = sys2(SYS_setgroups, b->n_groups, b->groups);
	if (rc == 0)
		rc = sys5(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0);
	if (rc == 0)
		rc = sys3(SYS_setresgid, b->gid[0], b->gid[1], b->gid[2]);
	if (rc == 0)
		rc = sys3(SYS_setresuid, b->uid[0], b->uid[1], b->uid[2]);
	if (rc < 0)
		return fail(f, STUB_AT_CREDS, rc);

	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	for (int i = 0; i < 2; i++) {
		data[i].effective = (uint32_t)(b->cap_permitted >> (32 * i)); /* all for now: securebits needs CAP_SETPCAP */
		data[i].permitted = (uint32_t)(b->cap_permitted >> (32 * i));
		data[i].inheritable = (uint32_t)(b->cap_inheritable >> (32 * i));
	}
	rc = sys2(SYS_capset, &head, data);
	if (rc < 0)
		return fail(f, STUB_AT_CREDS, rc);
	for (unsigned long cap = 0; cap < 64; cap++)
		if (b->cap_ambient & (1ull << cap))
			(void)sys5(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
	if (b->securebits) {
		rc = sys5(SYS_prctl, PR_SET_SECUREBITS, b->securebits, 0, 0, 0);
		if (rc < 0)
			return fail(f, STUB_AT_CREDS, rc);
	} else {
		(void)sys5(SYS_prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0);
	}
	for (int i = 0; i < 2; i++)
		data[i].effective = (uint32_t)(b->cap_effective >> (32 * i));
	rc = sys2(SYS_capset, &head, data);
	if (rc < 0)
		return fail(f, STUB_AT_CREDS, rc);
	if (b->no_new_privs)
		(void)sys5(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (b->pdeath_signal)
		(void)sys2(SYS_prctl, PR_SET_PDEATHSIG, b->pdeath_signal);
	return 0;
}

static void signals_set(const struct stub_body *b)
{
	/* All of them: the daemons that we descend from ignore some. */
	for (long s = 1; s <= 64; s++) {
		struct kernel_sigaction action = { .handler = b->ignored >> (s - 1) & 1 };
		(void)sys4(SYS_rt_sigaction, s, &action, 0, 8);
	}
	(void)sys4(SYS_rt_sigprocmask, SIG_SETMASK_, &b->blocked, 0, 8);
}

static long body_steps(struct stub_body *b, struct failure *f)
{
	char *base = (char *)b;
	long rc = 0;

	if (b->pgid) {
		rc = sys2(SYS_setpgid, 0, b->pgid < 0 ? 0 : b->pgid);
		if (rc < 0 && !(rc == -1 && sys0(SYS_getpid) == sys1(SYS_getsid, 0))) /* a session leader leads its group already */
			return fail(f, STUB_AT_GROUP, rc);
	}
	if (b->ctty >= 0) {
		int32_t own = (int32_t)sys0(SYS_getpid);
		rc = sys3(SYS_ioctl, b->ctty, TIOCSPGRP_, &own); /* SIGTTOU is blocked: allowed from the background */
		if (rc < 0)
			return fail(f, STUB_AT_TTY, rc);
	}
	rc = limits_set(b, f);
	if (rc < 0)
		return rc;
	rc = creds_set(b, f);
	if (rc < 0)
		return rc;
	if (b->cwd) {
		rc = sys1(SYS_chdir, base + b->cwd);
		if (rc < 0)
			return fail(f, STUB_AT_CWD, rc);
	}

	/* Offsets become pointers in place. */
	uint64_t *argv = (uint64_t *)(void *)(base + b->argv), *envp = (uint64_t *)(void *)(base + b->envp);
	for (uint64_t *p = argv; *p; p++)
		*p += (uint64_t)base;
	for (uint64_t *p = envp; *p; p++)
		*p += (uint64_t)base;
	signals_set(b);
	rc = sys3(SYS_execve, base + b->path, argv, envp);

	uint64_t all = ~0ull;
	(void)sys4(SYS_rt_sigprocmask, SIG_SETMASK_, &all, 0, 8);
	return fail(f, STUB_AT_EXEC, rc);
}

void body_run(uint32_t size)
{
	struct failure f = { STUB_AT_IMAGE, 0 };
	long fd = sys2(PANDO_NR, STUB_FD, 0);
	long at = fd < 0 ? fd : sys6(SYS_mmap, 0, size, PROT_RW_, MAP_PRIVATE_, fd, 0);
	if (fd >= 0)
		(void)sys1(SYS_close, fd);
	if (at < 0) {
		(void)sys3(PANDO_NR, STUB_FAILED, STUB_AT_IMAGE, -at);
		return;
	}

	struct stub_body *b = (struct stub_body *)at;
	for (uint32_t i = 1; i <= b->n_fds; i++) {
		long rc = sys2(PANDO_NR, STUB_FD, i);
		if (rc < 0) {
			(void)sys3(PANDO_NR, STUB_FAILED, STUB_AT_FD, -rc);
			return;
		}
	}
	(void)body_steps(b, &f);
	(void)sys3(PANDO_NR, STUB_FAILED, f.at, -f.error);
}

long body_exec(struct stub_body *b)
{
	struct failure f = { STUB_AT_IMAGE, 0 };
	return body_steps(b, &f);
}
