#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	const char *name;
	enum log_level max;
	int journal;
} g_log = { "pando", LOG_INFO, 0 };

void log_setup(const char *name, enum log_level max, int journal)
{
	g_log.name = name;
	g_log.max = max;
	g_log.journal = journal;
}

int log_on(enum log_level level)
{
	return level <= g_log.max;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	static const char *const words[] = { [LOG_ERROR] = "error: ", [LOG_WARN] = "warning: ", [LOG_NOTICE] = "",
					     [LOG_INFO] = "", [LOG_DEBUG] = "debug: " };
	if (!log_on(level))
		return;

	int saved = errno;
	char line[1024];
	size_t n = 0;
	if (g_log.journal) {
		n = (size_t)snprintf(line, sizeof line, "<%d>%s: ", (int)level, g_log.name);
	} else {
		struct timespec ts;
		struct tm tm;
		(void)clock_gettime(CLOCK_REALTIME, &ts);
		(void)localtime_r(&ts.tv_sec, &tm);
		n = (size_t)snprintf(line, sizeof line, "%02d:%02d:%02d.%03ld %s: ", tm.tm_hour, tm.tm_min, tm.tm_sec,
				     ts.tv_nsec / 1000000, g_log.name);
	}
	if (n > sizeof line / 2)
		n = sizeof line / 2;
	n += (size_t)snprintf(line + n, sizeof line - n, "%s", words[level]);

	va_list ap;
	va_start(ap, fmt);
	errno = saved; /* for %m */
	int m = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
	va_end(ap);
	if (m > 0)
		n += (size_t)m < sizeof line - n - 1 ? (size_t)m : sizeof line - n - 2;
	for (size_t i = 0; i < n; i++)
		if (line[i] == '\n')
			line[i] = ' ';
	line[n++] = '\n';
	(void)!write(STDERR_FILENO, line, n); /* nowhere to report it */
	errno = saved;
}
