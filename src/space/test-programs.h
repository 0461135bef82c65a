/* The programs that test-space.c compares. */
#pragma once

enum program_flags {
	PROGRAM_STAYS = 1,      /* nothing of it can be placed */
	PROGRAM_ANY_OUTPUT = 2, /* only the status counts */
};

struct program {
	const char *name;
	const char *script;
	const char *shell;    /* NULL: /bin/bash */
	const char *input;    /* standard input */
	unsigned flags, seconds;
};

/* Ended by one without a name. */
extern const struct program programs[], big_programs[];
