#include "test-world.h"

#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "keeper/proto.h"
#include "transport/pki.h"

enum { WAIT_MS = 20000, KEPT_MAX = 4096 };

struct shared { /* with the keepers and the forwarder */
	_Atomic pid_t agent[WORLD_MAX + 1];
	_Atomic int stop, cut;
};

static struct {
	int n;
	char dir[64], program[4096];
	pid_t keeper[WORLD_MAX + 1], forwarder;
	int port[WORLD_MAX + 1], proxy_fd[WORLD_MAX + 1], proxy_port[WORLD_MAX + 1];
	int is_up[WORLD_MAX + 1];
	struct streams_client *client[WORLD_MAX + 1];
	uv_loop_t loop;
	uv_timer_t timer;
	struct shared *shared;
} w;

/* The keeper of a node */

struct kept {
	char name[KEEPER_NAME_SIZE];
	int fd;
};

static struct kept g_kept[KEPT_MAX];
static int g_n_kept;

static int kept_find(const char *name)
{
	for (int i = 0; i < g_n_kept; i++)
		if (strcmp(g_kept[i].name, name) == 0)
			return i;
	return -1;
}

static void kept_drop(const char *name)
{
	int i = kept_find(name);
	if (i < 0)
		return;
	(void)close(g_kept[i].fd);
	g_kept[i] = g_kept[--g_n_kept];
}

static void keeper_answer(int sock, const struct keeper_answer *a, const int *fds, unsigned n)
{
	_cleanup_(wr_fini) struct wr wr = { 0 };
	keeper_answer_encode(&wr, a);
	CHECK(wr_done(&wr) == 0);
	(void)keeper_msg_send(sock, wr.p, wr.n, fds, n, 0);
}

static void keeper_serve(int sock, const struct keeper_request *q, int fd)
{
	static struct keeper_answer a;
	int fds[KEEPER_BATCH], i;
	a = (struct keeper_answer){ .seq = q->seq };
	switch (q->op) {
	case KEEPER_PUT:
		kept_drop(q->name);
		CHECK(g_n_kept < KEPT_MAX && fd >= 0);
		strcpy(g_kept[g_n_kept].name, q->name);
		g_kept[g_n_kept++].fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		return;
	case KEEPER_DROP:
		kept_drop(q->name);
		return;
	case KEEPER_READY:
		return;
	case KEEPER_TAKE:
		i = kept_find(q->name);
		a.status = i < 0 ? -ENOENT : 0;
		if (i >= 0) {
			a.n = 1;
			strcpy(a.name[0], q->name);
		}
		keeper_answer(sock, &a, i < 0 ? NULL : &g_kept[i].fd, a.n);
		return;
	case KEEPER_EACH:
		for (i = 0; i < g_n_kept; i++) {
			if (strncmp(g_kept[i].name, q->name, strlen(q->name)) != 0)
				continue;
			strcpy(a.name[a.n], g_kept[i].name);
			fds[a.n++] = g_kept[i].fd;
			CHECK(a.n < KEEPER_BATCH);
		}
		keeper_answer(sock, &a, fds, a.n);
		return;
	default:
		keeper_answer(sock, &a, NULL, 0);
		return;
	}
}

static pid_t agent_start(int node, int *ret_sock)
{
	int pair[2];
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		char state[128], run[128], number[16];
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)snprintf(state, sizeof state, "%s/state%d", w.dir, node);
		(void)snprintf(run, sizeof run, "%s/run%d", w.dir, node);
		(void)snprintf(number, sizeof number, "%d", pair[1]);
		(void)close(pair[0]);
		(void)setenv("PANDO_KEEPER_FD", number, 1);
		(void)execl(w.program, "pando-streams", "--state", state, "--run", run, getenv("TEST_DEBUG") ? "--debug" : NULL, (char *)NULL);
		_exit(127);
	}
	(void)close(pair[1]);
	(void)fcntl(pair[0], F_SETFD, FD_CLOEXEC);
	*ret_sock = pair[0];
	return pid;
}

static void keeper_main(int node)
{
	static uint8_t buf[KEEPER_REQUEST_MAX];
	static struct keeper_request q;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGPIPE, SIG_IGN);
	while (!w.shared->stop) {
		int sock, fds[KEEPER_FDS_PER_MSG], lost;
		unsigned n_fds;
		w.shared->agent[node] = agent_start(node, &sock);
		for (;;) {
			int n = keeper_msg_recv(sock, buf, sizeof buf, fds, &n_fds, &lost, 0);
			if (n <= 0)
				break;
			CHECK(keeper_request_decode(&q, buf, (size_t)n) == 0);
			keeper_serve(sock, &q, n_fds ? fds[0] : -1);
			for (unsigned i = 0; i < n_fds; i++)
				(void)close(fds[i]);
		}
		int st;
		(void)waitpid(w.shared->agent[node], &st, 0);
		(void)close(sock);
		if (WIFEXITED(st) && !w.shared->stop) {
			(void)fprintf(stderr, "agent %d exited with %d\n", node, WEXITSTATUS(st));
			_exit(1);
		}
	}
	_exit(0);
}

/* The forwarder: what agents connect to, so that links can be cut. */

static int listen_any(int *ret_port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof sa;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0 && listen(fd, 16) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&sa, &len) == 0);
	*ret_port = ntohs(sa.sin_port);
	return fd;
}

struct forward {
	int fd[2];
	int eof[2];
};

static void forward_close(struct forward *f)
{
	(void)close(f->fd[0]);
	(void)close(f->fd[1]);
	f->fd[0] = f->fd[1] = -1;
}

/* Copies what there is from one side; blocking writes are good enough here. */
static void forward_step(struct forward *f, int side)
{
	static char buf[256 << 10];
	ssize_t n = read(f->fd[side], buf, sizeof buf);
	if (n <= 0) {
		forward_close(f);
		return;
	}
	for (ssize_t at = 0; at < n;) {
		ssize_t k = write(f->fd[!side], buf + at, (size_t)(n - at));
		if (k <= 0) {
			forward_close(f);
			return;
		}
		at += k;
	}
}

static void forward_accept(struct forward *list, int node)
{
	int one = 1;
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)w.port[node]) };
	int in = accept4(w.proxy_fd[node], NULL, NULL, SOCK_CLOEXEC), out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(in >= 0 && out >= 0);
	if (w.shared->cut || connect(out, (struct sockaddr *)&sa, sizeof sa) < 0) {
		(void)close(in);
		(void)close(out);
		return;
	}
	(void)setsockopt(in, IPPROTO_TCP, 1, &one, sizeof one);
	(void)setsockopt(out, IPPROTO_TCP, 1, &one, sizeof one);
	while (list->fd[0] >= 0)
		list++;
	*list = (struct forward){ .fd = { in, out } };
}

static void forwarder_main(void)
{
	enum { N = 64 };
	static struct forward list[N];
	struct pollfd p[WORLD_MAX + 2 * N];
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < N; i++)
		list[i].fd[0] = list[i].fd[1] = -1;
	for (;;) {
		nfds_t n = 0;
		for (int i = 1; i <= w.n; i++)
			p[n++] = (struct pollfd){ .fd = w.proxy_fd[i], .events = POLLIN };
		for (int i = 0; i < N; i++)
			for (int side = 0; side < 2; side++)
				p[n++] = (struct pollfd){ .fd = list[i].fd[side], .events = POLLIN };
		if (poll(p, n, 5) < 0)
			_exit(1);
		for (int i = 0; w.shared->cut && i < N; i++)
			if (list[i].fd[0] >= 0)
				forward_close(&list[i]);
		for (int i = 0; i < N; i++)
			for (int side = 0; side < 2; side++)
				if (list[i].fd[side] >= 0 && list[i].fd[side] == p[w.n + 2 * i + side].fd && p[w.n + 2 * i + side].revents)
					forward_step(&list[i], side);
		for (int i = 1; i <= w.n; i++)
			if (p[i - 1].revents)
				forward_accept(list, i);
	}
}

/* The loop */

static void on_timer(uv_timer_t *t)
{
}

void world_turn(void)
{
	(void)uv_timer_start(&w.timer, on_timer, 5, 0);
	(void)uv_run(&w.loop, UV_RUN_ONCE);
}

void world_until(const int *flag)
{
	uint64_t end = clock_ms() + WAIT_MS;
	while (!*flag) {
		CHECK(clock_ms() < end);
		world_turn();
	}
}

static void on_changed(void *ctx, int up, const char *addr)
{
	*(int *)ctx = up;
}

struct streams_client *world_client(int node)
{
	return w.client[node];
}

pid_t world_pid(int node)
{
	return w.shared->agent[node];
}

void world_alive(int on, int node)
{
	char addr[32];
	(void)snprintf(addr, sizeof addr, "127.0.0.1:%d", w.proxy_port[node]);
	CHECK(streams_peer_up(w.client[on], (uint16_t)node, addr) == 0);
}

void world_dead(int on, int node)
{
	streams_peer_down(w.client[on], (uint16_t)node);
}

static void keys_make(int n)
{
	_cleanup_(pki_free_p) struct pki *first = NULL;
	char state[128];
	struct err e = { 0 };
	uint8_t print[PKI_FINGERPRINT_SIZE], *ca, *cert;
	size_t ca_n, cert_n, csr_n;
	for (int i = 1; i <= n; i++) {
		(void)snprintf(state, sizeof state, "%s/run%d", w.dir, i);
		CHECK(mkdir(state, 0700) == 0);
		(void)snprintf(state, sizeof state, "%s/state%d", w.dir, i);
		CHECK(mkdir(state, 0700) == 0);
		if (i == 1) {
			CHECK(pki_create(state, 1, &first, &e) == 0);
			pki_ca_fingerprint(first, print);
			continue;
		}
		_cleanup_(pki_csr_free_p) struct pki_csr *csr = NULL;
		_cleanup_(pki_free_p) struct pki *other = NULL;
		CHECK(pki_csr_new(&csr, &e) == 0);
		const uint8_t *bytes = pki_csr_bytes(csr, &csr_n);
		CHECK(pki_issue(first, bytes, csr_n, (uint16_t)i, &cert, &cert_n, &e) == 0);
		CHECK(pki_ca_export(first, &ca, &ca_n, &e) == 0);
		CHECK(pki_install(state, csr, print, ca, ca_n, cert, cert_n, &other, &e) == 0);
		pki_wipe(ca, ca_n);
		free(cert);
	}
}

/* A network of our own: a port that was free a moment ago is still free when the agent listens. */
static void network_own(void)
{
	struct ifreq lo = { .ifr_name = "lo" };
	CHECK(unshare(CLONE_NEWNET) == 0);
	_cleanup_(close_p) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &lo) == 0);
	lo.ifr_flags |= IFF_UP;
	CHECK(ioctl(fd, SIOCSIFFLAGS, &lo) == 0);
}

void world_start(int n, const char *program)
{
	if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0)
		SKIP("needs root and /dev/fuse");
	CHECK(realpath(program, w.program));
	network_own();
	w.n = n;
	strcpy(w.dir, "/tmp/test-stream.XXXXXX");
	CHECK(mkdtemp(w.dir));
	keys_make(n);
	w.shared = mmap(NULL, sizeof *w.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(w.shared != MAP_FAILED);
	(void)signal(SIGPIPE, SIG_IGN);
	for (int i = 1; i <= n; i++) {
		w.proxy_fd[i] = listen_any(&w.proxy_port[i]);
		(void)close(listen_any(&w.port[i]));
	}
	for (int i = 0; i <= n; i++) {
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0 && i == 0)
			forwarder_main();
		if (pid == 0)
			keeper_main(i);
		*(i ? &w.keeper[i] : &w.forwarder) = pid;
	}
	CHECK(uv_loop_init(&w.loop) == 0 && uv_timer_init(&w.loop, &w.timer) == 0);
	for (int i = 1; i <= n; i++) {
		char run[128], addr[32];
		struct err e = { 0 };
		(void)snprintf(run, sizeof run, "%s/run%d", w.dir, i);
		(void)snprintf(addr, sizeof addr, "127.0.0.1:%d", w.port[i]);
		struct streams_client_config cfg = { .loop = &w.loop, .run_dir = run, .self = (uint16_t)i, .addr = addr, .ctx = &w.is_up[i],
						     .changed = on_changed };
		CHECK(streams_client_new(&cfg, &w.client[i], &e) == 0);
		for (int k = 1; k <= n; k++)
			if (k != i)
				world_alive(i, k);
		streams_peers_known(w.client[i]);
	}
	for (int i = 1; i <= n; i++)
		world_until(&w.is_up[i]);
}

void world_stop(void)
{
	char command[128];
	w.shared->stop = 1;
	for (int i = 1; i <= w.n; i++) {
		streams_client_close(w.client[i]);
		(void)kill(w.shared->agent[i], SIGTERM);
		CHECK(waitpid(w.keeper[i], NULL, 0) == w.keeper[i]);
	}
	(void)kill(w.forwarder, SIGKILL);
	CHECK(waitpid(w.forwarder, NULL, 0) == w.forwarder);
	uv_close((uv_handle_t *)&w.timer, NULL);
	(void)uv_run(&w.loop, UV_RUN_DEFAULT);
	CHECK(uv_loop_close(&w.loop) == 0);
	(void)snprintf(command, sizeof command, "rm -rf %s", w.dir);
	CHECK(system(command) == 0);
}

/* Requests */

struct waiter {
	int is_done, status, fd, a, b, c;
	struct world_grant g;
};

static void on_export(void *arg, int status, uint16_t at, uint64_t id, const uint8_t key[16])
{
	struct waiter *x = arg;
	x->g = (struct world_grant){ .status = status, .at = at, .id = id };
	memcpy(x->g.key, key, sizeof x->g.key);
	x->is_done = 1;
}

struct world_grant world_export(int node, int fd, int to)
{
	struct waiter x = { 0 };
	CHECK(streams_export_fd(w.client[node], fd, (uint16_t)to, on_export, &x) == 0);
	world_until(&x.is_done);
	return x.g;
}

static void on_import(void *arg, int status, int fd)
{
	struct waiter *x = arg;
	x->status = status;
	x->fd = fd;
	x->is_done = 1;
}

int world_import(int node, const struct world_grant *g, int *ret_status)
{
	struct waiter x = { .fd = -1 };
	CHECK(streams_import_fd(w.client[node], g->at, g->id, g->key, 0, on_import, &x) == 0);
	world_until(&x.is_done);
	if (ret_status)
		*ret_status = x.status;
	else if (x.status)
		(void)fprintf(stderr, "import: %s\n", strerror(-x.status));
	return x.fd;
}

int world_delegate(int node, int fd, int to)
{
	struct world_grant g = world_export(node, fd, to);
	if (g.status)
		(void)fprintf(stderr, "export: %s\n", strerror(-g.status));
	CHECK(g.status == 0);
	int got = world_import(to, &g, NULL);
	CHECK(got >= 0);
	return got;
}

static void on_barrier(void *arg, int status)
{
	struct waiter *x = arg;
	x->status = status;
	x->is_done = 1;
}

void world_barrier(int node)
{
	struct waiter x = { 0 };
	CHECK(streams_barrier(w.client[node], on_barrier, &x) == 0);
	world_until(&x.is_done);
	CHECK(x.status == 0);
}

static void on_stat(void *arg, int status, const json_t *stat)
{
	struct waiter *x = arg;
	size_t i;
	json_t *o, *list = json_object_get(stat, "exports");
	x->status = status;
	x->a = (int)json_array_size(list);
	x->b = (int)json_array_size(json_object_get(json_object_get(stat, "imports"), "imports"));
	json_array_foreach(list, i, o)
		x->c += (int)json_integer_value(json_object_get(o, "handles"));
	if (getenv("TEST_DEBUG"))
		(void)json_dumpf(stat, stderr, JSON_INDENT(1));
	x->is_done = 1;
}

void world_counts(int node, int *ret_exports, int *ret_imports, int *ret_handles)
{
	struct waiter x = { 0 };
	CHECK(streams_stat(w.client[node], on_stat, &x) == 0);
	world_until(&x.is_done);
	CHECK(x.status == 0);
	*ret_exports = x.a;
	*ret_imports = x.b;
	*ret_handles = x.c;
}

void world_kill(int node, int wait)
{
	pid_t pid = w.shared->agent[node];
	CHECK(kill(pid, SIGKILL) == 0);
	uint64_t end = clock_ms() + WAIT_MS;
	while (w.shared->agent[node] == pid || (wait && !w.is_up[node])) {
		CHECK(clock_ms() < end);
		world_turn();
	}
	world_until(&w.is_up[node]);
}

void world_cut(int cut)
{
	w.shared->cut = cut;
}

pid_t world_fork(int (*fn)(void *arg), void *arg)
{
	(void)fflush(stdout);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)signal(SIGPIPE, SIG_DFL);
		_exit(fn(arg));
	}
	return pid;
}

int world_wait(pid_t pid)
{
	int st;
	uint64_t end = clock_ms() + 6 * WAIT_MS;
	while (waitpid(pid, &st, WNOHANG) == 0) {
		CHECK(clock_ms() < end);
		world_turn();
	}
	return st;
}
