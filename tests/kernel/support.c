#include "support.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "check.h"

void *shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	return p;
}

pid_t child_start(void)
{
	pid_t parent = getpid(), pid = fork();
	CHECK(pid >= 0);
	if (pid == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
		_exit(125);
	return pid;
}

void child_stop(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, __WALL) == pid);
}

int child_end(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0), st = 0;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	CHECK(fd >= 0 && poll(&p, 1, WAIT_MS) == 1);
	CHECK(close(fd) == 0 && waitpid(pid, &st, __WALL) == pid);
	return st;
}

void gate_init(struct gate *g)
{
	CHECK(pipe2(g->fd, O_CLOEXEC) == 0);
}

void gate_open(struct gate *g)
{
	CHECK(write(g->fd[1], "", 1) == 1);
}

void gate_wait(struct gate *g)
{
	char c;
	struct pollfd p = { .fd = g->fd[0], .events = POLLIN };
	int n;
	do
		n = poll(&p, 1, WAIT_MS);
	while (n < 0 && errno == EINTR);
	CHECK(n == 1 && read(g->fd[0], &c, 1) == 1);
}

int gate_is_open(struct gate *g)
{
	struct pollfd p = { .fd = g->fd[0], .events = POLLIN };
	return poll(&p, 1, 0) == 1;
}

void filter_install(const int *nrs, size_t n, unsigned flags, volatile int *ret_fd, struct gate *ready)
{
	struct sock_filter code[32] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
	struct sock_fprog prog = { .len = (unsigned short)(n + 3), .filter = code };
	CHECK(n < 28);
	for (size_t i = 0; i < n; i++)
		code[i + 1] =
		    (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nrs[i], (uint8_t)(n - i), 0);
	code[n + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[n + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | flags, &prog);
	CHECK(fd >= 0);
	*ret_fd = fd;
	gate_open(ready);
}

int listener_take(pid_t pid, const volatile int *fd, struct gate *ready)
{
	gate_wait(ready);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	CHECK(pidfd >= 0);
	int got = (int)syscall(SYS_pidfd_getfd, pidfd, *fd, 0);
	CHECK(got >= 0 && close(pidfd) == 0);
	return got;
}

int notif_ready(int listener, int ms)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };
	return poll(&p, 1, ms) == 1 && p.revents & POLLIN;
}

struct seccomp_notif notif_recv(int listener)
{
	struct seccomp_notif n;
	memset(&n, 0, sizeof n);
	CHECK(notif_ready(listener, WAIT_MS));
	CHECK(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n) == 0);
	return n;
}

int notif_valid(int listener, uint64_t id)
{
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

int notif_answer(int listener, uint64_t id, int64_t val, int error)
{
	struct seccomp_notif_resp r = { .id = id, .val = val, .error = -error };
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r) == 0 ? 0 : -errno;
}

int stop_wait(pid_t pid)
{
	uint64_t end = clock_ms() + WAIT_MS;
	int st = 0;
	for (;;) { /* a stop makes no descriptor readable */
		pid_t r = waitpid(pid, &st, __WALL | WNOHANG);
		CHECK(r >= 0);
		if (r == pid) {
			CHECK(WIFSTOPPED(st));
			return st;
		}
		CHECK(clock_ms() < end);
		(void)poll(NULL, 0, 1);
	}
}

char state_of(pid_t pid)
{
	char path[64], text[512];
	(void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	ssize_t n = read(fd, text, sizeof text - 1);
	CHECK(close(fd) == 0 && n > 0);
	text[n] = 0;
	char *p = strrchr(text, ')');
	CHECK(p && p[1] == ' ');
	return p[2];
}

void state_wait(pid_t pid, const char *states)
{
	uint64_t end = clock_ms() + WAIT_MS;
	while (!strchr(states, state_of(pid))) {
		CHECK(clock_ms() < end);
		(void)poll(NULL, 0, 1);
	}
}

void grace(void)
{
	(void)poll(NULL, 0, 50);
}
