#include "cli/out.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"

void out_clean(char *s)
{
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f) {
			*s = '?';
		} else if ((unsigned char)s[0] == 0xc2 && ((unsigned char)s[1] & 0xe0) == 0x80) { /* C1 in UTF-8: terminals obey them, too */
			s[0] = '?';
			s[1] = '?';
		}
	}
}

void out_any(const json_t *row, const char *key, char *ret, size_t size)
{
	const json_t *v = json_object_get(row, key);
	if (json_is_string(v))
		(void)snprintf(ret, size, "%s", json_string_value(v));
	else if (json_is_integer(v))
		(void)snprintf(ret, size, "%lld", (long long)json_integer_value(v));
	else if (json_is_boolean(v))
		(void)snprintf(ret, size, "%s", json_is_true(v) ? "yes" : "no");
	else
		(void)snprintf(ret, size, "-");
	out_clean(ret);
}

void out_load(const json_t *row, const char *key, char *ret, size_t size)
{
	const json_t *v = json_object_get(row, key);
	if (json_is_number(v))
		(void)snprintf(ret, size, "%.2f", json_number_value(v));
	else
		(void)snprintf(ret, size, "-");
}

void out_kb(const json_t *row, const char *key, char *ret, size_t size)
{
	const json_t *v = json_object_get(row, key);
	if (!json_is_number(v)) {
		(void)snprintf(ret, size, "-");
		return;
	}
	double n = json_number_value(v);
	const char *unit = "KMGTP";
	while (n >= 1024 && unit[1]) {
		n /= 1024;
		unit++;
	}
	(void)snprintf(ret, size, n < 10 && *unit != 'K' ? "%.1f%c" : "%.0f%c", n, *unit);
}

static size_t append(char *ret, size_t size, size_t at, const char *text)
{
	int n = at < size ? snprintf(ret + at, size - at, "%s", text) : 0;
	return at + (n > 0 ? (size_t)n : 0);
}

void out_labels(const json_t *row, const char *key, char *ret, size_t size)
{
	json_t *v = json_object_get(row, key), *value;
	const char *name;
	size_t at = 0;
	json_object_foreach(v, name, value)
	{
		at = append(ret, size, at, at ? "," : "");
		at = append(ret, size, at, name);
		at = append(ret, size, at, "=");
		at = append(ret, size, at, json_is_string(value) ? json_string_value(value) : "?");
	}
	if (at == 0)
		(void)append(ret, size, 0, "-");
	out_clean(ret);
}

void out_list(const json_t *row, const char *key, char *ret, size_t size)
{
	json_t *v = json_object_get(row, key), *value;
	size_t i, at = 0;
	json_array_foreach(v, i, value)
	{
		char text[32] = "?";
		if (json_is_integer(value))
			(void)snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
		at = append(ret, size, at, at ? "," : "");
		at = append(ret, size, at, json_is_string(value) ? json_string_value(value) : text);
	}
	if (at == 0)
		(void)append(ret, size, 0, "-");
}

/* Columns on the terminal, for characters of width one. */
static size_t text_width(const char *s)
{
	size_t n = 0;
	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void print_cell(const char *text, const struct out_column *c, size_t width, int last, size_t room)
{
	size_t n = text_width(text), pad = width > n ? width - n : 0;
	if (c->right)
		(void)printf("%*s%s", (int)pad, "", text);
	else if (!last)
		(void)printf("%s%*s", text, (int)pad, "");
	else if (room == 0 || n <= room)
		(void)printf("%s", text);
	else {
		const char *p = text;
		for (size_t k = 0; *p && (k < room || ((unsigned char)*p & 0xc0) == 0x80); p++)
			k += ((unsigned char)p[1] & 0xc0) != 0x80;
		(void)printf("%.*s", (int)(p - text), text);
	}
	(void)printf("%s", last ? "\n" : "  ");
}

static void print_line(char **cells, const struct out_column *cols, size_t n_cols, const size_t *widths, size_t width)
{
	size_t used = 0;
	for (size_t c = 0; c < n_cols; c++) {
		print_cell(cells[c], &cols[c], widths[c], c + 1 == n_cols, width > used + 8 ? width - used : width ? 8 : 0);
		used += widths[c] + 2;
	}
}

int out_table(const json_t *rows, const struct out_column *cols, size_t n_cols, size_t width)
{
	size_t n_rows = json_array_size(rows) + 1;
	_cleanup_(free_p) char **cells = calloc(n_rows * n_cols, sizeof *cells);
	_cleanup_(free_p) size_t *widths = calloc(n_cols, sizeof *widths);
	_cleanup_(free_p) char *text = malloc(OUT_CELL_MAX);
	int rc = cells && widths && text ? 0 : -ENOMEM;
	for (size_t r = 0; rc == 0 && r < n_rows; r++) {
		for (size_t c = 0; c < n_cols; c++) {
			text[0] = 0;
			if (r == 0)
				(void)snprintf(text, OUT_CELL_MAX, "%s", cols[c].head);
			else
				cols[c].cell(json_array_get(rows, r - 1), cols[c].key, text, OUT_CELL_MAX);
			out_clean(text);
			char *cell = strdup(text);
			if (!cell)
				rc = -ENOMEM;
			cells[r * n_cols + c] = cell;
			if (cell && text_width(cell) > widths[c])
				widths[c] = text_width(cell);
		}
	}
	for (size_t r = 0; rc == 0 && r < n_rows; r++)
		print_line(cells + r * n_cols, cols, n_cols, widths, width);
	for (size_t i = 0; cells && i < n_rows * n_cols; i++)
		free(cells[i]);
	return rc;
}

size_t out_width(void)
{
	struct winsize w;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0)
		return 0;
	return w.ws_col ? w.ws_col : 80;
}

void out_json(const json_t *j)
{
	(void)json_dumpf(j, stdout, JSON_INDENT(2)); /* cli_done sees a failed write */
	(void)printf("\n");
}

void out_strip(json_t *answer)
{
	static const char *const keys[] = { "ok", "id", "fds" };
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		(void)json_object_del(answer, keys[i]); /* absent: as good */
}

void out_duration(long long seconds, char *ret, size_t size)
{
	if (seconds >= 86400)
		(void)snprintf(ret, size, "%lld d %lld h", seconds / 86400, seconds % 86400 / 3600);
	else if (seconds >= 3600)
		(void)snprintf(ret, size, "%lld h %lld min", seconds / 3600, seconds % 3600 / 60);
	else if (seconds >= 60)
		(void)snprintf(ret, size, "%lld min %lld s", seconds / 60, seconds % 60);
	else
		(void)snprintf(ret, size, "%lld s", seconds);
}
