/* A small world for tests: several stream agents as real programs, each with a keeper of the test's own, and this process as the pandod of
 * all of them. Ends with the test program, whatever ends it. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "check.h"
#include "stream/client.h"

enum { WORLD_MAX = 4 };

struct world_grant {
	int status;
	uint16_t at;
	uint64_t id;
	uint8_t key[16];
};

/* Nodes 1..n of one cluster; program: path of pando-streams. */
void world_start(int n, const char *program);
/* Ends all agents and checks that nothing is left. */
void world_stop(void);

struct streams_client *world_client(int node);
pid_t world_pid(int node);

/* Runs the loop until *flag or 20 s have passed. */
void world_until(const int *flag);
/* Runs the loop for a turn, at most some ms. */
void world_turn(void);

struct world_grant world_export(int node, int fd, int to);
int world_import(int node, const struct world_grant *g, int *ret_status);
/* fd of node as a delegated descriptor of node to. */
int world_delegate(int node, int fd, int to);
void world_barrier(int node);
/* Exports and imports that the agent of node counts; handles of its exports. */
void world_counts(int node, int *ret_exports, int *ret_imports, int *ret_handles);

/* SIGKILL; the keeper starts it again. Waits until the client is connected again when wait. */
void world_kill(int node, int wait);
/* The connections between agents are cut, and none come up, until healed. */
void world_cut(int cut);
void world_dead(int on, int node);
void world_alive(int on, int node);

/* Forks; the child runs fn(arg) and exits with its result. */
pid_t world_fork(int (*fn)(void *arg), void *arg);
/* Waits for it with the loop running; its wait status. */
int world_wait(pid_t pid);
