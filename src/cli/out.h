/* Output of commands: tables for people, JSON for programs. */
#pragma once

#include <jansson.h>
#include <stddef.h>

enum { OUT_CELL_MAX = 4096 };

/* Writes the text of one cell of a row. */
typedef void (*out_cell_fn)(const json_t *row, const char *key, char *ret, size_t size);

struct out_column {
	const char *head;
	const char *key;
	out_cell_fn cell; /* one of those below or the command's own */
	int right;        /* numbers: flush right */
};

/* Characters that would steer a terminal become '?': names, command lines and paths are anybody's. */
void out_clean(char *s);

/* Cells: "-" when the key is absent; clean. */
void out_any(const json_t *row, const char *key, char *ret, size_t size);    /* strings as they are, whole numbers, yes and no */
void out_load(const json_t *row, const char *key, char *ret, size_t size);   /* 0.42 */
void out_kb(const json_t *row, const char *key, char *ret, size_t size);     /* KiB as 12M, 3.4G */
void out_labels(const json_t *row, const char *key, char *ret, size_t size); /* a=b,c=d */
void out_list(const json_t *row, const char *key, char *ret, size_t size);   /* array: 1,2 */

/* Prints the rows (an array of objects; anything else in it is left out). Columns are as wide as needed; the last one is cut at width (0:
 * never). Control characters become '?'. */
int out_table(const json_t *rows, const struct out_column *cols, size_t n_cols, size_t width);

/* Width of the terminal that standard output is, 0 when it is none. */
size_t out_width(void);

/* Prints j, indented, on its own lines. */
void out_json(const json_t *j);

/* Removes what belongs to the protocol ("ok", "id", "fds") from an answer. */
void out_strip(json_t *answer);

/* A duration in words: "3 d 4 h", "12 s". */
void out_duration(long long seconds, char *ret, size_t size);
