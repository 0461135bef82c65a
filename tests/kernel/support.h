/* What the tests of kernel promises share: children that cannot outlive the test, a filter with a listener, stops with
 * a deadline. Everything checks and ends the test on failure. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include <linux/seccomp.h>

enum { WAIT_MS = 5000 };

/* Memory shared by the test and its children. */
void *shared(size_t size);

/* fork, with the child killed when the test ends. */
pid_t child_start(void);
/* Kills a child and reaps it. */
void child_stop(pid_t pid);
/* Waits for the end of a child: its wait status. */
int child_end(pid_t pid);

/* A gate between processes: opened once, waited for with a deadline. */
struct gate {
	int fd[2];
};
void gate_init(struct gate *g);
void gate_open(struct gate *g);
void gate_wait(struct gate *g);
/* Whether it is open now. */
int gate_is_open(struct gate *g);

/* In a child: installs a filter that notifies of these calls, and tells its number by *ret_fd (shared memory) and the
 * gate. */
void filter_install(const int *nrs, size_t n, unsigned flags, volatile int *ret_fd, struct gate *ready);
/* In the test: waits for the gate and takes the listener of pid. The child's own copy stays open. */
int listener_take(pid_t pid, const volatile int *fd, struct gate *ready);

/* One notification, with a deadline. */
struct seccomp_notif notif_recv(int listener);
/* Whether one is there within ms. */
int notif_ready(int listener, int ms);
int notif_valid(int listener, uint64_t id);
/* 0 or -errno. */
int notif_answer(int listener, uint64_t id, int64_t val, int error);

/* Waits until wait4(pid, __WALL) reports a stop: its status. */
int stop_wait(pid_t pid);
/* The state letter in /proc/PID/stat. */
char state_of(pid_t pid);
/* Waits until the state is one of these letters. */
void state_wait(pid_t pid, const char *states);

/* Waits so long that something that must not happen would have happened. Only for that. */
void grace(void);
