/* Sessions of `pando run`: a root (a stub: session leader, owner of the terminal, parent) and under it the command, in a
 * group of its own, as a shell would start it. So the command can be placed like any other child, its group is not orphaned, and
 * its stops and its end come by the root's wait. The root ends when the command has ended. */
#include "space/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

struct session {
	struct space *s;
	struct space_run run;
	struct watch *w;
	int32_t root, command; /* numbers, 0: not yet */
	unsigned n_answers;
	int is_started, is_over;
	int status;            /* last wait status */
};

static void session_fail(struct session *se, int status, const char *at)
{
	struct space *s = se->s;
	if (!se->is_started) {
		se->is_started = 1;
		se->is_over = 1;
		se->run.started(se->run.ctx, status, 0, at);
	}
	struct proc *root = se->root ? proc_find(s, se->root) : NULL;
	if (root)
		(void)proc_command(s, root, (struct stub_cmd){ STUB_EXIT, 0, 0 }, NULL, NULL);
}

void session_free(struct session *se)
{
	for (uint32_t i = 0; se->run.fds && i < se->run.image.n_fds; i++)
		(void)close_fd(se->run.fds[i]);
	free(se->run.fds);
	(void)close_fd(se->run.tty);
	exec_image_fini(&se->run.image);
	free(se);
}

static void command_there(void *ctx, struct proc *p, int status, const char *at)
{
	struct session *se = ctx;
	if (status < 0) {
		session_fail(se, status, at);
		return;
	}
	se->command = p->pid;
	se->is_started = 1;
	struct proc *root = proc_find(se->s, se->root);
	if (root)
		root->r->pgid = p->pid; /* for a hang-up: the group of the command */
	se->run.started(se->run.ctx, 0, p->pid, NULL);
}

/* Where the command is to start: as asked, or as the policy says. With the terminal it stays, unless asked otherwise. */
static uint16_t session_node(struct session *se, struct proc *root)
{
	struct space *s = se->s;
	uint16_t node = se->run.node;
	if (!node && se->run.tty_number < 0) {
		struct space_place q = { .path = se->run.image.path, .pid = root->pid, .outer = proc_outer(s, root), .sid = root->pid };
		node = s->cfg.place(s->cfg.ctx, &q);
	}
	return place_usable(s, node);
}

static void root_has_tty(void *ctx, struct proc *root, int64_t result)
{
	struct session *se = ctx;
	struct err e = { 0 };
	if (!root || result < 0) {
		session_fail(se, result < 0 ? (int)result : -ESRCH, "terminal");
		return;
	}
	struct arrive_local l = { .image = se->run.image, .fds = se->run.fds, .ctty = se->run.tty_number, .ctx = se, .done = command_there };
	uint16_t node = session_node(se, root);
	se->run.image = (struct exec_image){ 0 };
	se->run.fds = NULL;
	int rc = node == se->s->self ? arrive_run(se->s, root, se->w, &l, &e) : place_run(se->s, root, se->w, node, &l, &e);
	if (rc < 0)
		session_fail(se, rc, "setup");
}

static void root_ready(struct session *se)
{
	struct proc *root = proc_find(se->s, se->root);
	if (!root || !se->w)
		return;
	if (se->run.tty < 0) {
		root_has_tty(se, root, 0);
		return;
	}
	int rc = proc_command(se->s, root, (struct stub_cmd){ STUB_CTTY, 0, 0 }, root_has_tty, se);
	if (rc < 0)
		session_fail(se, rc, "terminal");
}

int session_tty(struct proc *root)
{
	return root->session ? root->session->run.tty : -1;
}

static void root_answer(void *ctx, const struct zyg_msg *m, int fd)
{
	struct session *se = ctx;
	struct space *s = se->s;
	struct err e = { 0 };

	se->n_answers++;
	if (m->result < 0) {
		(void)close_fd(fd);
		session_fail(se, m->result, "setup");
		session_free(se);
		return;
	}
	if (!se->root) {
		se->root = m->pid;
		struct proc *root = proc_new(s, m->pid, PREC_LOCAL, s->self);
		if (root) {
			root->session = se;
			root->r->flags = PREC_SESSION;
			root->r->sid = m->pid;
			root->r->pgid = 0;
			root->is_settled = 1;
			root->r->uid = se->run.image.uid[0];
		}
	}
	struct proc *root = proc_find(s, se->root);
	if (m->op == ZYG_LISTENER) {
		if (!root || watch_add(s, fd, se->root, &se->w, &e) < 0) {
			(void)close_fd(fd);
			session_fail(se, root ? e.code : -ENOMEM, "setup");
			return;
		}
		root->r->watch = se->w->index;
		root_ready(se);
	}
}

int space_run_start(struct space *s, struct space_run *run, struct err *e)
{
	struct session *se = calloc(1, sizeof *se);
	if (!se)
		return err_set(e, -ENOMEM, "no memory");
	se->s = s;
	struct zyg_cmd c = { .op = ZYG_SESSION };
	int rc = zyg_command(s, &c, NULL, 0, 2, root_answer, se);
	if (rc < 0) {
		free(se);
		return err_set(e, rc, "the zygote cannot be reached: %s", strerror(-rc));
	}
	se->run = *run;
	se->run.image.leads_group = 1;
	se->run.image.sid = se->run.image.pgid = se->run.image.pid = 1; /* known when it is forked */
	*run = (struct space_run){ .tty = -1 };
	return 0;
}

/* The set-up of a command that had not started was lost with our predecessor: its client asks again. */
void sessions_reload(struct space *s)
{
	struct proc *root, *tmp;
	HASH_ITER(hh, s->procs, root, tmp) {
		if (!(root->r->flags & PREC_SESSION))
			continue;
		struct session *se = root->r->pgid > 0 ? calloc(1, sizeof *se) : NULL;
		if (!se) {
			(void)proc_command(s, root, (struct stub_cmd){ STUB_EXIT, 0, 0 }, NULL, NULL);
			continue;
		}
		*se = (struct session){ .s = s, .run = { .tty = -1, .tty_number = -1 }, .w = s->watches[root->r->watch], .root = root->pid,
					.command = root->r->pgid, .n_answers = 2, .is_started = 1 };
		root->session = se;
	}
}

void session_child(struct space *s, struct proc *root, int32_t pid, int status, uint64_t utime, uint64_t stime, uint64_t maxrss)
{
	struct session *se = root->session;
	if (!se || pid != se->command || se->is_over)
		return;
	se->status = status;
	int over = WIFEXITED(status) || WIFSIGNALED(status);
	se->is_over = over;
	if (se->run.changed)
		se->run.changed(se->run.ctx, status, utime, stime, maxrss);
	if (over)
		(void)proc_command(s, root, (struct stub_cmd){ STUB_EXIT, 0, 0 }, NULL, NULL);
}

void session_ended(struct space *s, struct proc *root)
{
	struct session *se = take_ptr(root->session);
	(void)s;
	if (!se)
		return;
	if (!se->is_started)
		se->run.started(se->run.ctx, -EIO, 0, "setup");
	else if (!se->is_over && se->run.changed)
		se->run.changed(se->run.ctx, SIGKILL, 0, 0, 0); /* the root was killed by force */
	session_free(se);
}

static struct session *session_find(struct space *s, int32_t command)
{
	struct proc *p, *tmp;
	HASH_ITER(hh, s->procs, p, tmp) {
		if (p->session && p->session->command == command && command > 0)
			return p->session;
	}
	return NULL;
}

int space_run_signal(struct space *s, int32_t pid, int signo, int group)
{
	struct session *se = session_find(s, pid);
	struct proc *root = se ? proc_find(s, se->root) : NULL;
	if (!root || se->is_over || signo < 0 || signo > 64)
		return -ESRCH;
	struct proc *p = proc_find(s, pid);
	if (!group && p && p->r->kind == PREC_GHOST) {
		signal_forward(s, p, signo, SI_USER, root->pid, root->r->uid, 0);
		return 0;
	}
	return proc_command(s, root, (struct stub_cmd){ STUB_KILL, group ? -pid : pid, signo }, NULL, NULL);
}

int space_run_attach(struct space *s, int32_t pid, void *ctx,
		     void (*changed)(void *ctx, int status, uint64_t utime_us, uint64_t stime_us, uint64_t maxrss_kb), int *ret_status)
{
	struct session *se = session_find(s, pid);
	if (!se)
		return -ESRCH;
	se->run.ctx = ctx;
	se->run.changed = changed;
	if (ret_status)
		*ret_status = se->status;
	return 0;
}
