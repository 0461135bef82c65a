#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void text_copy(struct err *e, const char *text)
{
	size_t n = strlen(text);
	if (n < sizeof e->text) {
		memcpy(e->text, text, n + 1);
		return;
	}
	memcpy(e->text, text, sizeof e->text - 4);
	memcpy(e->text + sizeof e->text - 4, "...", 4);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	if (!e)
		return code;

	char line[512];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof line, fmt, ap); /* a truncated message is still a message */
	va_end(ap);
	e->code = code;
	text_copy(e, line);
	return code;
}

int err_wrap(struct err *e, int code, const char *fmt, ...)
{
	if (!e)
		return code;

	char line[512];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	if ((size_t)n < sizeof line)
		(void)snprintf(line + n, sizeof line - (size_t)n, ": %s", e->text);
	e->code = code;
	text_copy(e, line);
	return code;
}
