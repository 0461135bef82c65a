/* What is too brief to move: CPU and wall time of programs, learnt from their exits, by program and directory.
 *
 * Bounded: the entry not used for longest is dropped. Nothing is kept over a restart. Time and I/O do not occur. Loop
 * thread. */
#pragma once

#include <stdint.h>

enum { LEARN_BRIEF_US = 15000, LEARN_MAX = 4096 };

/* What is run, and where: the same compiler is brief in one directory and not in another. */
struct learn_key {
	uint64_t program, dir;
};

/* Of a program by its file (device, inode) and the text of the directory; NULL: none. */
struct learn_key learn_key_make(uint64_t dev, uint64_t ino, const char *dir);

enum learn_kind { LEARN_UNKNOWN, LEARN_BRIEF, LEARN_LONG };

struct learn_guess {
	enum learn_kind kind;
	uint32_t cpu_us; /* expected on a CPU of speed 1; 0 when unknown */
	uint32_t wall_us;
	double intensity; /* CPU time per wall time, 0.05..1; 1 when unknown */
};

struct learn;

/* On 0 the caller owns *ret. max: entries; 0 means LEARN_MAX. */
int learn_new(uint32_t max, struct learn **ret) __attribute__((warn_unused_result));
struct learn *learn_free(struct learn *l);

/* A program ended: its wall time and its own CPU time (of a CPU of speed 1), not that of its children. A shell that
 * only runs others thus is brief however long they take. remote: it had been moved at exec, so its wall time is not
 * comparable. */
void learn_exit(struct learn *l, struct learn_key key, uint64_t wall_us, uint64_t cpu_us, int remote);

/* What to expect: of this program in this directory, else of this program anywhere. A guess that is asked for again and
 * again without an exit being seen ends as unknown, so that a wrong one cannot last. */
struct learn_guess learn_ask(struct learn *l, struct learn_key key);

uint32_t learn_count(const struct learn *l);
