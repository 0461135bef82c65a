#include "cli/joincheck.h"

#include <errno.h>
#include <mntent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/paths.h"
#include "cli/out.h"
#include "kern/probe.h"

enum { UP_MS = 15000, ASK_MS = 2000, DOCTOR_MS = 10000, NAP_MS = 100 };

static void warning(const char *what, const char *consequence)
{
	(void)fflush(stdout);
	(void)fprintf(stderr, "warning: %s: %s\n", what, consequence);
}

/* ---- before ---- */

static void check_kernel(void)
{
	struct kern_has has;
	int rc = probe_run(&has);
	if (rc < 0) {
		warning("the features of the kernel could not be tried", strerror(-rc));
		return;
	}
	for (size_t i = 0; i < probe_n; i++)
		if (probe_list[i].needed && !probe_present(&has, &probe_list[i]))
			warning(probe_list[i].name, probe_list[i].without);
}

/* The other nodes' clocks are not known yet; whether somebody keeps this one is. */
static void check_clock(void)
{
	struct timex t = {};
	int rc = adjtimex(&t);
	if (rc == TIME_ERROR || (t.status & STA_UNSYNC))
		warning("the clock is not kept by a time service", "if it differs from those of other nodes, make rebuilds too much or too little; "
			"\"pando doctor\" tells by how much");
}

static int is_shared_type(const char *type)
{
	static const char *const types[] = { "nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.ceph", "fuse.ceph-fuse", "fuse.glusterfs", "glusterfs",
					     "lustre", "gpfs", "ocfs2", "gfs2", "afs", "9p", "virtiofs", "beegfs", "pvfs2", "fuse.sshfs",
					     "fuse.juicefs", "fuse.moosefs", "fuse.mfs", "coda", "panfs", "wekafs" };
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (strcmp(type, types[i]) == 0)
			return 1;
	return 0;
}

static void check_shared(void)
{
	if (getenv("PANDO_DEV_NODE")) /* nodes of a trial cluster share the machine's tree */
		return;
	FILE *f = setmntent("/proc/self/mounts", "re");
	int found = 0;
	for (struct mntent *m; f && (m = getmntent(f));)
		found |= is_shared_type(m->mnt_type);
	if (f)
		(void)endmntent(f);
	if (!found)
		warning("no file system that machines share is mounted here (NFS and the like)",
			"a process is sent to another node only when its program, libraries, directory and files are the same there");
}

void joincheck_before(void)
{
	check_kernel();
	check_clock();
	check_shared();
}

/* ---- after ---- */

static const char *run_dir(void)
{
	const char *dir = getenv("PANDO_RUN");
	return dir && *dir ? dir : PANDO_RUN_DIR;
}

static int keeper_runs(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	if (snprintf(to.sun_path, sizeof to.sun_path, "%s/keeper.sock", run_dir()) >= (int)sizeof to.sun_path)
		return 0;
	_cleanup_(close_p) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return 0;
	/* EPROTOTYPE: somebody listens, with another type of socket; EAGAIN: and is busy. */
	return connect(fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EPROTOTYPE || errno == EAGAIN;
}

static int ask(const char *what, int ms, struct ctl_msg *ret, struct err *e)
{
	struct ctl_client *c = NULL;
	int rc = ctl_client_open(NULL, &c, e);
	if (rc < 0)
		return rc;
	json_t *req = json_pack("{s:s}", "cmd", what);
	rc = req ? ctl_client_call(c, req, NULL, 0, ms, NULL, NULL, ret, e) : err_set(e, -ENOMEM, "no memory");
	json_decref(req);
	ctl_client_close(c);
	if (rc < 0) {
		ctl_msg_fini(ret);
		*ret = (struct ctl_msg){};
	}
	return rc;
}

/* Asks until pandod says that it is up. 0, or -ETIMEDOUT with the last words. */
static int up_wait(struct ctl_msg *ret, struct err *e)
{
	uint64_t until = clock_ms() + UP_MS;
	for (;;) {
		struct err last = {};
		if (ask("status", ASK_MS, ret, &last) == 0) {
			const char *state = json_string_value(json_object_get(ret->json, "state"));
			if (state && strcmp(state, "up") == 0)
				return 0;
			(void)err_set(&last, -EAGAIN, "its state is \"%.60s\"", state ? state : "?");
			ctl_msg_fini(ret);
			*ret = (struct ctl_msg){};
		}
		if (clock_ms() >= until)
			return err_set(e, -ETIMEDOUT, "pandod is not up after %d s: %s", UP_MS / 1000, last.text);
		(void)poll(NULL, 0, NAP_MS);
	}
}

static void doctor_show(void)
{
	struct err e = {};
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	if (ask("doctor", DOCTOR_MS, &m, &e) < 0) {
		warning("the checks of the node could not be made", e.text);
		return;
	}
	size_t i;
	json_t *c;
	json_array_foreach(json_object_get(m.json, "checks"), i, c)
	{
		char name[256], level[16], detail[OUT_CELL_MAX], text[OUT_CELL_MAX], what[OUT_CELL_MAX + 300];
		out_any(c, "level", level, sizeof level);
		if (strcmp(level, "ok") == 0)
			continue;
		out_any(c, "name", name, sizeof name);
		out_any(c, "detail", detail, sizeof detail);
		out_any(c, "consequence", text, sizeof text);
		(void)snprintf(what, sizeof what, "%s (%s)", name, detail);
		warning(what, text);
	}
}

int joincheck_after(const struct cli_cmd *cmd)
{
	if (!keeper_runs()) {
		(void)printf("It is not running yet. Start it, now and at each boot, by: systemctl enable --now pando\n");
		return CLI_OK;
	}
	if (isatty(2))
		(void)fprintf(stderr, "waiting for pandod ...\r");
	struct err e = {};
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	int rc = up_wait(&m, &e);
	if (isatty(2))
		(void)fprintf(stderr, "\033[K");
	if (rc < 0)
		return cli_error(cmd, "%s; what was written stays, see \"journalctl -u pando\"", e.text);
	char up[32], members[32];
	out_any(m.json, "up", up, sizeof up);
	out_any(m.json, "members", members, sizeof members);
	(void)printf("It is up: %s of %s nodes.\n", up, members);
	doctor_show();
	return CLI_OK;
}
