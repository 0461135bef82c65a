/* CHECK for plain test programs: prints file:line and fails the program; TEST runs a function and names it. */
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(cond)                                                                                         \
	do {                                                                                                \
		if (!(cond)) {                                                                              \
			(void)fprintf(stderr, "%s:%d: CHECK(%s) failed, errno %d (%s)\n", __FILE__, __LINE__, #cond, \
				      errno, strerror(errno));                                              \
			exit(1);                                                                            \
		}                                                                                           \
	} while (0)

/* Prints the line that the runner counts: one per test function. */
#define TEST(fn)                             \
	do {                                 \
		fn();                        \
		(void)printf("ok %s\n", #fn); \
		(void)fflush(stdout);        \
	} while (0)

/* Ends the program as skipped, with the reason. */
#define SKIP(...)                            \
	do {                                 \
		(void)printf("skip ");       \
		(void)printf(__VA_ARGS__);   \
		(void)printf("\n");          \
		exit(77);                    \
	} while (0)
