/* The settings of the cluster: which there are, what values they take, what they are when nobody set them.
 * Pure: no I/O, no allocation. Any thread. */
#pragma once

#include <stdint.h>

#include "base/err.h"

enum { SETTING_KEY_SIZE = 32, SETTING_VALUE_SIZE = 256, SETTINGS_MAX = 32 };

enum setting_kind {
	SETTING_NUMBER, /* decimal, min..max */
	SETTING_WORD,   /* [a-z0-9][a-z0-9-]*, up to 31 characters */
	SETTING_PATH,   /* absolute path without "." and ".." components, or empty */
	SETTING_BOOL,   /* on, off */
};

struct setting {
	const char *key;
	enum setting_kind kind;
	uint32_t min, max;   /* for numbers */
	const char *initial; /* the value when nobody set it */
	const char *what;    /* one line for people */
};

/* The setting of this name, or NULL. */
const struct setting *setting_find(const char *key);

/* The i-th setting in order of names, or NULL after the last. */
const struct setting *setting_at(unsigned i);

/* 0 when value is allowed for the setting of this name, else -ENOENT (no such setting) or -EINVAL, with words in e. */
int setting_check(const char *key, const char *value, struct err *e);
