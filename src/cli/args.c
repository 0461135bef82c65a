#include "cli/args.h"

#include <errno.h>
#include <string.h>

enum { WORD_MAX = 40 };

/* Distance of two words in typing errors: a letter wrong, missing, too many, or two swapped. */
static size_t distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	if (n >= WORD_MAX || m >= WORD_MAX)
		return WORD_MAX;
	size_t d[3][WORD_MAX + 1] = {};
	for (size_t j = 0; j <= m; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t *row = d[i % 3], *up = d[(i + 2) % 3], *up2 = d[(i + 1) % 3];
		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t best = up[j - 1] + (a[i - 1] != b[j - 1]);
			if (up[j] + 1 < best)
				best = up[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && up2[j - 2] + 1 < best)
				best = up2[j - 2] + 1;
			row[j] = best;
		}
	}
	return d[n % 3][m];
}

const char *args_suggest(const char *text, const char *(*next)(const void *ctx, size_t i), const void *ctx)
{
	const char *name;
	size_t best = 0, found = 0; /* by number: a name may last only until the next is asked for */
	size_t best_d = strlen(text) / 3 + 1; /* one error in a short word, more in a long one */
	for (size_t i = 0; (name = next(ctx, i)); i++) {
		size_t d = distance(text, name);
		if (strlen(text) >= 2 && strncmp(name, text, strlen(text)) == 0)
			d = 1; /* the beginning of a word is no error at all, but which word? */
		if (d < best_d || (d == best_d && !found)) {
			best = i;
			best_d = d;
			found = 1;
		}
	}
	return found && best_d < strlen(text) ? next(ctx, best) : NULL;
}

static const struct cli_opt no_opts[] = { {} };

static const char *opt_name(const void *ctx, size_t i)
{
	const struct cli_opt *opts = ctx;
	size_t n = 0;
	while (opts[n].name)
		n++;
	return i < n ? opts[i].name : i == n ? "help" : NULL;
}

static int unknown(const struct cli_cmd *cmd, const struct cli_opt *opts, const char *text)
{
	char word[WORD_MAX] = "";
	size_t n = strcspn(text, "=");
	if (text[0] == '-' && text[1] == '-' && n < WORD_MAX) {
		memcpy(word, text + 2, n - 2);
		word[n - 2] = 0;
	}
	const char *like = word[0] ? args_suggest(word, opt_name, opts) : NULL;
	if (like)
		(void)cli_usage_error(cmd, "unknown option %s; did you mean --%s?", text, like);
	else
		(void)cli_usage_error(cmd, "unknown option %s", text);
	return -EINVAL;
}

static int allowed(const struct cli_opt *o, const char *value)
{
	size_t n = strlen(value);
	for (const char *p = o->values; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
		if (n == strcspn(p, "|") && strncmp(p, value, n) == 0)
			return 1;
	return !o->values;
}

/* value NULL: none was given with it. */
static int opt_set(const struct cli_cmd *cmd, const struct cli_opt *opts, size_t i, const char *value, struct cli_args *ret)
{
	const struct cli_opt *o = &opts[i];
	if (o->arg && !value) {
		(void)cli_usage_error(cmd, "option --%s needs an argument (%s)", o->name, o->arg);
		return -EINVAL;
	}
	if (!o->arg && value) {
		(void)cli_usage_error(cmd, "option --%s takes no argument", o->name);
		return -EINVAL;
	}
	if (o->arg && !allowed(o, value)) {
		(void)cli_usage_error(cmd, "option --%s: \"%s\" is none of %s", o->name, value, o->values);
		return -EINVAL;
	}
	ret->opt[i] = value ? value : "";
	return 0;
}

/* One option at argv[*i] (moved on by one when its argument is the next word). 0, CLI_WANTS_HELP, -EINVAL. */
static int opt_parse(const struct cli_cmd *cmd, const struct cli_opt *opts, int argc, char **argv, int *i, struct cli_args *ret)
{
	char *text = argv[*i];
	int is_long = text[1] == '-';
	const char *value = is_long ? strchr(text, '=') : text[2] ? text + 2 : NULL;
	size_t n = is_long ? strcspn(text + 2, "=") : 1;
	if (is_long && value)
		value++;

	for (size_t k = 0; opts[k].name; k++) {
		int same = is_long ? strlen(opts[k].name) == n && strncmp(opts[k].name, text + 2, n) == 0 : opts[k].letter == text[1];
		if (!same)
			continue;
		if (opts[k].arg && !value && *i + 1 < argc)
			value = argv[++*i];
		return opt_set(cmd, opts, k, value, ret);
	}
	if (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0)
		return CLI_WANTS_HELP;
	return unknown(cmd, opts, text);
}

int args_parse(const struct cli_cmd *cmd, const struct cli_opt *opts, int argc, char **argv, struct cli_args *ret)
{
	*ret = (struct cli_args){ .pos = argv };
	unsigned flags = cmd ? cmd->flags : CLI_STOPS;
	int only_pos = 0;
	if (!opts)
		opts = no_opts;
	for (int i = 0; i < argc; i++) {
		char *text = argv[i];
		if (!only_pos && strcmp(text, "--") == 0) {
			only_pos = 1;
			continue;
		}
		int change = (flags & CLI_CHANGES) && ret->n_pos > 0 && text[0] == '-' && text[1] != '-';
		if (only_pos || text[0] != '-' || !text[1] || change) {
			argv[ret->n_pos++] = text; /* never ahead of i */
			only_pos |= (flags & CLI_STOPS) != 0;
			continue;
		}
		int rc = opt_parse(cmd, opts, argc, argv, &i, ret);
		if (rc)
			return rc;
	}
	argv[ret->n_pos] = NULL;
	return 0;
}
