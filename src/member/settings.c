#include "member/settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* In order of names. */
static const struct setting settings[] = {
	{ "dead-after-ms", SETTING_NUMBER, 1500, 60000, "2600", "silence after which a node is declared dead" },
	{ "heartbeat-ms", SETTING_NUMBER, 50, 4000, "250", "time between signs of life; at most an eighth of dead-after-ms" },
	{ "policy", SETTING_WORD, 0, 0, "balance", "who decides where a command runs" },
	{ "shared-tmp", SETTING_PATH, 0, 0, "", "directory on the shared tree that is /tmp of the space" },
};

const struct setting *setting_at(unsigned i)
{
	return i < sizeof settings / sizeof settings[0] ? &settings[i] : NULL;
}

const struct setting *setting_find(const char *key)
{
	for (unsigned i = 0; i < sizeof settings / sizeof settings[0]; i++)
		if (strcmp(settings[i].key, key) == 0)
			return &settings[i];
	return NULL;
}

static int number_ok(const struct setting *s, const char *value)
{
	size_t n = strlen(value);
	if (n < 1 || n > 9 || strspn(value, "0123456789") != n)
		return 0;
	unsigned long v = strtoul(value, NULL, 10);
	return v >= s->min && v <= s->max;
}

static int word_ok(const char *value)
{
	size_t n = strlen(value);
	return n >= 1 && n <= 31 && value[0] != '-' && strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static int path_ok(const char *value)
{
	if (!*value)
		return 1;
	if (value[0] != '/')
		return 0;
	for (const char *p = value; *p;) {
		while (*p == '/')
			p++;
		size_t n = strcspn(p, "/");
		if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return 0;
		for (size_t i = 0; i < n; i++)
			if (iscntrl((unsigned char)p[i]))
				return 0;
		p += n;
	}
	return 1;
}

int setting_check(const char *key, const char *value, struct err *e)
{
	const struct setting *s = setting_find(key);
	if (!s)
		return err_set(e, -ENOENT, "no setting is called %s", key);
	if (strlen(value) >= SETTING_VALUE_SIZE)
		return err_set(e, -EINVAL, "%s: at most %d bytes", key, SETTING_VALUE_SIZE - 1);

	switch (s->kind) {
	case SETTING_NUMBER:
		if (number_ok(s, value))
			return 0;
		return err_set(e, -EINVAL, "%s: a number from %u to %u", key, s->min, s->max);
	case SETTING_WORD:
		if (word_ok(value))
			return 0;
		return err_set(e, -EINVAL, "%s: a word of small letters, digits and hyphens", key);
	case SETTING_PATH:
		if (path_ok(value))
			return 0;
		return err_set(e, -EINVAL, "%s: an absolute path, or nothing", key);
	case SETTING_BOOL:
		if (strcmp(value, "on") == 0 || strcmp(value, "off") == 0)
			return 0;
		return err_set(e, -EINVAL, "%s: on or off", key);
	}
	return err_set(e, -EINVAL, "%s: unknown kind", key);
}
