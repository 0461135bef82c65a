/* A cluster without pandod, for tests of the /proc server: a few spaces (pid and mount namespaces) on this machine, each with its own
 * pando-procfs, between which this program stands as their pandods, links and keepers.
 *
 *   procfs-fake --server PATH [--nodes N] [--procs K] [--uid UID] [--no-finish] -- COMMAND...
 *
 * Node i is called "node<i>" and has the pids of slot i. Nodes 2 and up have K sleeping processes each, every second one of UID. COMMAND runs in
 * the space of node 1; its exit status is that of this program (125: the cluster could not be made, 77: not on this machine).
 * $FAKE_CTL is a FIFO for lines: "kill I" (SIGKILL to the server of node I, started again at once), "stop I", "cont I", "down I", "up I",
 * "hide PID", "remote PID NODE UID GID", "gone PID" (tell node 1), "bounce" (pandod of node 1 restarts), "features PID FLAGS",
 * "nojournal" (the server of node 1 gets an empty journal from now on). */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "procfs/server.h"
#include "stub/procmount.h"

enum { FAKE_NODES = 8, SLOT = 32768 };

static struct fake_node {
	char dir[256];
	pid_t space;     /* the process outside that waits for pid 1 */
	int sock;        /* to pid 1 */
	int fds[3];      /* fuse, proc, journal */
	pid_t server;
	struct procfs_server *s;
	int down;
} nodes[FAKE_NODES + 1];

static int n_nodes = 2, n_procs = 5, ending, no_finish;
static uid_t other_uid = 65534;
static const char *server_path;
static char **command;
static char top[128], ctl_path[256];
static uv_loop_t loop;
static uv_signal_t on_child_signal;
static uv_pipe_t ctl;
static int exit_status = 125;

static void fail(const char *what)
{
	(void)fprintf(stderr, "procfs-fake: %s: %s\n", what, strerror(errno));
	_exit(125);
}

static long sys(long nr, long a, long b, long c, long d, long e, long f)
{
	long rc = syscall(nr, a, b, c, d, e, f);
	return rc < 0 ? -errno : rc;
}

/* ---- a space ---- */

static int write_at(int dirfd, const char *path, long value)
{
	char b[32];
	_cleanup_(close_p) int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
	int n = snprintf(b, sizeof(b), "%ld", value);
	return fd >= 0 && write(fd, b, (size_t)n) == n ? 0 : -errno;
}

static void fds_send(int sock, const int *fds, size_t n)
{
	char byte = 'f', control[CMSG_SPACE(sizeof(int) * 3)] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(int) * n) };
	struct cmsghdr h = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int) * n) };
	memcpy(control, &h, sizeof(h));
	memcpy(control + CMSG_LEN(0), fds, sizeof(int) * n);
	if (sendmsg(sock, &m, 0) != 1)
		fail("sendmsg");
}

static void fds_receive(int sock, int *fds, size_t n)
{
	char byte, control[CMSG_SPACE(sizeof(int) * 3)];
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	if (recvmsg(sock, &m, MSG_CMSG_CLOEXEC) != 1 || m.msg_controllen < CMSG_LEN(sizeof(int) * n)) {
		(void)fprintf(stderr, "procfs-fake: the space did not come up\n");
		_exit(125);
	}
	memcpy(fds, control + CMSG_LEN(0), sizeof(int) * n);
}

static void sleeper(int i)
{
	char name[16];
	(void)snprintf(name, sizeof(name), "sleeper%d", i % 1000);
	(void)prctl(PR_SET_NAME, name);
	if (i % 2 && (setgid(other_uid) < 0 || setuid(other_uid) < 0))
		_exit(1);
	if (i % 2)
		(void)prctl(PR_SET_DUMPABLE, 1);
	for (;;)
		(void)pause();
}

static void command_run(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		(void)setsid();
		(void)setenv("FAKE_CTL", ctl_path, 1);
		(void)execvp(command[0], command);
		fail(command[0]);
	}
	int status;
	for (;;) {
		pid_t got = wait(&status);
		if (got < 0 && errno != EINTR)
			_exit(125);
		if (got == pid)
			_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	}
}

/* pid 1 of a space */
static void space_run(int id, int sock)
{
	int fds[2];
	char byte;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		fail("mount /");
	int rc = procfs_mount_begin(sys, &fds[0], &fds[1]);
	errno = -rc;
	if (rc < 0)
		fail("mount /proc");
	if (write_at(fds[1], "sys/kernel/pid_max", SLOT * (id + 1)) < 0 || write_at(fds[1], "sys/kernel/ns_last_pid", SLOT * id) < 0)
		_exit(77);
	fds_send(sock, fds, 2);
	if (read(sock, &byte, 1) != 1)
		_exit(125);
	if (!no_finish) {
		rc = procfs_mount_finish(sys, fds[1]);
		errno = -rc;
		if (rc < 0)
			fail("mount /proc/.n");
	}
	for (int i = 0; id > 1 && i < n_procs; i++)
		if (fork() == 0)
			sleeper(i);
	if (write(sock, &byte, 1) != 1)
		_exit(125);
	if (id == 1 && read(sock, &byte, 1) == 1)
		command_run();
	for (;;)
		(void)pause();
}

static void space_start(int id)
{
	int sv[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		fail("socketpair");
	nodes[id].sock = sv[0];
	nodes[id].space = fork();
	if (nodes[id].space < 0)
		fail("fork");
	if (nodes[id].space == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS) < 0)
			_exit(77);
		pid_t init = fork();
		if (init == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			space_run(id, sv[1]);
		}
		int status;
		while (waitpid(init, &status, 0) < 0 && errno == EINTR)
			;
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 125);
	}
	(void)close(sv[1]);
}

/* ---- keepers ---- */

static void server_start(int id)
{
	struct fake_node *n = &nodes[id];
	n->server = fork();
	if (n->server < 0)
		fail("fork");
	if (n->server)
		return;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* FAKE_DEBUG shows what the servers say. */
	if (getenv("FAKE_DEBUG"))
		(void)execl(server_path, server_path, "--run", n->dir, "--debug", NULL);
	else
		(void)execl(server_path, server_path, "--run", n->dir, NULL);
	fail(server_path);
}

static void on_child(uv_signal_t *h, int signum)
{
	int status;
	for (;;) {
		pid_t pid = waitpid(-1, &status, WNOHANG);
		if (pid <= 0)
			return;
		for (int i = 1; i <= n_nodes; i++) {
			if (pid == nodes[i].server && !ending)
				server_start(i);
			if (pid != nodes[i].space)
				continue;
			nodes[i].space = 0;
			if (i == 1 || !ending)
				exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 125;
			uv_stop(&loop);
		}
	}
}

/* ---- pandods and links ---- */

struct relay {
	int from;
	uint64_t token;
};

static void on_relayed(void *ctx, int status, const uint8_t *p, size_t n)
{
	_cleanup_(free_p) struct relay *r = ctx;
	if (nodes[r->from].s)
		procfs_server_call_done(nodes[r->from].s, r->token, status, p, n);
}

static int on_call(void *ctx, uint16_t node, const void *p, size_t n, uint32_t timeout_ms, uint64_t token)
{
	int from = (int)((struct fake_node *)ctx - nodes);
	if (node > n_nodes || nodes[node].down || nodes[from].down)
		return -ENOTCONN;
	struct relay *r = malloc(sizeof(*r));
	if (!r)
		return -ENOMEM;
	*r = (struct relay){ from, token };
	procfs_server_serve(nodes[node].s, (uint16_t)from, p, n, on_relayed, r);
	return 0;
}

static void on_client(void *ctx, int there, int pid)
{
	struct fake_node *n = ctx;
	static int started[FAKE_NODES + 1];
	if (there && !started[n - nodes]) {
		started[n - nodes] = 1;
		if (write(n->sock, "m", 1) != 1) /* pid 1 may finish the mounts */
			fail("space");
	}
}

static void pandod_start(int id)
{
	struct fake_node *n = &nodes[id];
	struct err e = { 0 };
	struct procfs_server_config cfg = {
		.loop = &loop, .run_dir = n->dir, .self = (uint16_t)id, .ctx = n, .call = on_call, .on_client = on_client,
	};
	int rc = procfs_server_new(&cfg, &n->s, &e);
	for (int i = 1; rc == 0 && i <= n_nodes; i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "node%d", i);
		rc = procfs_server_node(n->s, (uint16_t)i, name, !nodes[i].down);
	}
	if (rc == 0)
		rc = procfs_server_space(n->s, n->fds[0], n->fds[1], n->fds[2], &e);
	if (rc < 0) {
		(void)fprintf(stderr, "procfs-fake: %s\n", e.text);
		_exit(125);
	}
	procfs_server_ready(n->s);
}

static void link_set(int id, int down)
{
	nodes[id].down = down;
	for (int i = 1; i <= n_nodes; i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "node%d", id);
		(void)procfs_server_node(nodes[i].s, (uint16_t)id, name, !down);
	}
}

static void on_bounced(void *ctx)
{
	pandod_start(1);
}

static void ctl_line(const char *line)
{
	char verb[16] = "";
	unsigned a = 0, b = 0, c = 0, d = 0;
	int args = sscanf(line, "%15s %u %u %u %u", verb, &a, &b, &c, &d);
	struct procfs_server *s = nodes[1].s;
	int node = args >= 2 && a >= 1 && a <= (unsigned)n_nodes ? (int)a : 0;
	struct procfs_pid p = { .pid = a, .kind = PROCFS_HIDDEN };
	if (node && strcmp(verb, "kill") == 0)
		(void)kill(nodes[node].server, SIGKILL);
	else if (node && strcmp(verb, "stop") == 0)
		(void)kill(nodes[node].server, SIGSTOP);
	else if (node && strcmp(verb, "cont") == 0)
		(void)kill(nodes[node].server, SIGCONT);
	else if (node && strcmp(verb, "down") == 0)
		link_set(node, 1);
	else if (node && strcmp(verb, "up") == 0)
		link_set(node, 0);
	else if (strcmp(verb, "hide") == 0)
		(void)procfs_server_pid(s, &p);
	else if (strcmp(verb, "gone") == 0)
		procfs_server_pid_gone(s, a);
	else if (strcmp(verb, "features") == 0)
		(void)procfs_server_features(s, a, b);
	else if (strcmp(verb, "remote") == 0) {
		p = (struct procfs_pid){ .pid = a, .kind = PROCFS_REMOTE, .node = (uint16_t)b, .tgid = a, .uid = c, .gid = d };
		(void)procfs_server_pid(s, &p);
	} else if (strcmp(verb, "bounce") == 0) {
		procfs_server_close(s, on_bounced, NULL);
		nodes[1].s = NULL;
	} else if (strcmp(verb, "nojournal") == 0) {
		(void)close(nodes[1].fds[2]);
		if (procfs_journal_new(&nodes[1].fds[2], NULL) == 0)
			(void)procfs_server_space(s, nodes[1].fds[0], nodes[1].fds[1], nodes[1].fds[2], NULL);
	} else
		(void)fprintf(stderr, "procfs-fake: what is '%s'?\n", line);
}

static void on_ctl(uv_stream_t *h, ssize_t n, const uv_buf_t *buf)
{
	static char line[256];
	static size_t used;
	for (ssize_t i = 0; i < n; i++) {
		if (buf->base[i] != '\n') {
			if (used < sizeof(line) - 1)
				line[used++] = buf->base[i];
			continue;
		}
		line[used] = 0;
		used = 0;
		ctl_line(line);
	}
}

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *ret)
{
	static char b[512];
	*ret = uv_buf_init(b, sizeof(b));
}

static void on_space_ready(uv_poll_t *h, int status, int events)
{
	struct fake_node *n = h->data;
	static int ready;
	char byte;
	if (read(n->sock, &byte, 1) == 1 && ++ready == n_nodes && write(nodes[1].sock, "g", 1) != 1)
		fail("space");
	(void)uv_poll_stop(h);
}

static void cluster_start(void)
{
	static uv_poll_t polls[FAKE_NODES + 1];
	for (int i = 1; i <= n_nodes; i++) {
		struct fake_node *n = &nodes[i];
		struct err e = { 0 };
		(void)snprintf(n->dir, sizeof(n->dir), "%s/%d", top, i);
		if (mkdir(n->dir, 0700) < 0)
			fail(n->dir);
		space_start(i);
		fds_receive(n->sock, n->fds, 2);
		if (procfs_journal_new(&n->fds[2], &e) < 0)
			fail("journal");
		(void)uv_poll_init(&loop, &polls[i], n->sock);
		polls[i].data = n;
		(void)uv_poll_start(&polls[i], UV_READABLE, on_space_ready);
	}
	for (int i = 1; i <= n_nodes; i++)
		pandod_start(i);
	for (int i = 1; i <= n_nodes; i++)
		server_start(i);
}

static void ctl_start(void)
{
	(void)snprintf(ctl_path, sizeof(ctl_path), "%s/ctl", top);
	if (mkfifo(ctl_path, 0600) < 0)
		fail(ctl_path);
	int fd = open(ctl_path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || uv_pipe_init(&loop, &ctl, 0) < 0 || uv_pipe_open(&ctl, fd) < 0)
		fail(ctl_path);
	(void)uv_read_start((uv_stream_t *)&ctl, on_alloc, on_ctl);
}

static void cluster_end(void)
{
	ending = 1;
	for (int i = 1; i <= n_nodes; i++) {
		if (nodes[i].space > 0)
			(void)kill(nodes[i].space, SIGKILL); /* its pid 1 goes along */
		if (nodes[i].server > 0)
			(void)kill(nodes[i].server, SIGKILL);
	}
	while (wait(NULL) > 0 || errno == EINTR)
		;
	for (int i = 1; i <= n_nodes; i++) {
		char path[300];
		(void)snprintf(path, sizeof(path), "%s/procfs.sock", nodes[i].dir);
		(void)unlink(path);
		(void)rmdir(nodes[i].dir);
	}
	(void)unlink(ctl_path);
	(void)rmdir(top);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "server", required_argument, NULL, 's' }, { "nodes", required_argument, NULL, 'n' }, { "procs", required_argument, NULL, 'p' },
		{ "uid", required_argument, NULL, 'u' }, { "no-finish", no_argument, NULL, 'f' }, { 0 },
	};
	int opt;
	while ((opt = getopt_long(argc, argv, "+", options, NULL)) >= 0) {
		if (opt == 's')
			server_path = optarg;
		else if (opt == 'n')
			n_nodes = atoi(optarg);
		else if (opt == 'p')
			n_procs = atoi(optarg);
		else if (opt == 'u')
			other_uid = (uid_t)atoi(optarg);
		else if (opt == 'f')
			no_finish = 1;
		else
			return 125;
	}
	command = argv + optind;
	if (!server_path || !*command || n_nodes < 1 || n_nodes > FAKE_NODES) {
		(void)fprintf(stderr, "usage: procfs-fake --server PATH [--nodes N] [--procs K] [--uid UID] -- COMMAND...\n");
		return 125;
	}
	if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0)
		return 77;
	(void)signal(SIGPIPE, SIG_IGN);
	log_setup("procfs-fake", getenv("FAKE_DEBUG") ? LOG_DEBUG : LOG_INFO, 0);
	(void)snprintf(top, sizeof(top), "/tmp/procfs-fake.XXXXXX");
	if (uv_loop_init(&loop) < 0 || !mkdtemp(top))
		fail(top);
	(void)uv_signal_init(&loop, &on_child_signal);
	(void)uv_signal_start(&on_child_signal, on_child, SIGCHLD);
	ctl_start();
	cluster_start();
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	cluster_end();
	return exit_status;
}
