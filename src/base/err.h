/* The words that travel beside an error code. Any thread. */
#pragma once

#include <stddef.h>

/* A caller-owned message. NULL is accepted wherever a struct err * is taken: the words are then dropped. */
struct err {
	int code;       /* -errno */
	char text[240]; /* one line, no newline, truncated with "..." */
};

/* Sets e to code and the formatted words. "%m" is the message of errno at the time of the call. Returns code. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts the formatted words and ": " before the words already in e (set by the callee). Returns code. */
int err_wrap(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
