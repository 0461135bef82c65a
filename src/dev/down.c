/* The end of a trial cluster: cleans by what is there, not by what should be. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "dev/cg.h"
#include "dev/ops.h"
#include "dev/proc.h"

enum { LOCK_MS = 10000, GONE_MS = 10000 };

/* Recorded processes that are in no cgroup of ours any more: there should be none. */
static int kill_recorded(const struct dev_proc *p, uint64_t until_ms, struct err *e)
{
	_cleanup_(close_p) int pidfd = -1;
	if (proc_open(p, &pidfd) < 0)
		return 0;
	(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0); /* -ESRCH: dead already */
	int rc = proc_wait_gone(pidfd, proc_left(until_ms));
	return rc == 0 ? 0 : err_set(e, rc, "process %d does not end", (int)p->pid);
}

/* The processes of a node vanish with its pid 1, the networks with the processes: what remains are cgroups and files.
 */
static int end_all(const struct cg *cg, const char *name, const struct trial *c, struct err *e)
{
	uint64_t until = clock_ms() + GONE_MS;
	int rc = cg ? cg_kill(cg, name, CG_CLUSTER, e) : 0;
	for (unsigned i = 1; c && i <= c->n && rc == 0; i++)
		rc = kill_recorded(&c->node[i].init, until, e);
	if (rc == 0 && c)
		rc = kill_recorded(&c->lan_proc, until, e);
	/* A start that was interrupted may have had a process between two cgroups: look again for as long as some are
	 * left. */
	for (unsigned step = 0; cg && rc == 0; proc_nap(&step)) {
		rc = cg_remove(cg, name, CG_CLUSTER, 300, e);
		if (rc != -EBUSY || proc_left(until) == 0)
			break;
		rc = cg_kill(cg, name, CG_CLUSTER, e);
	}
	return rc;
}

int dev_down(const char *name, struct err *e)
{
	_cleanup_(trial_free_p) struct trial *c = NULL;
	struct cg cg;
	int rc = trial_name_check(name, e);
	if (rc < 0)
		return rc;
	int has_cg = cg_find(&cg, NULL) == 0;
	rc = trial_load(name, LOCK_MS, &c, e);
	if (rc == -ENOENT && !(has_cg && cg_exists(&cg, name)))
		return rc;
	if (rc < 0 && rc != -ENOENT && rc != -ENODATA && rc != -EBADMSG)
		return rc;
	*e = (struct err){ .text = "" }; /* what cannot be read is no failure: it is cleaned up all the same */
	rc = end_all(has_cg ? &cg : NULL, name, c, e);
	if (rc == 0 && c)
		rc = trial_remove_dir(c, e);
	return rc == 0 ? 0 : err_wrap(e, rc, "%s is not gone", name);
}
