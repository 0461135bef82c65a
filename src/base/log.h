/* One event, one line, to standard error (systemd's journal understands the <N> prefix when asked for). Any thread. */
#pragma once

enum log_level { LOG_ERROR = 3, LOG_WARN = 4, LOG_NOTICE = 5, LOG_INFO = 6, LOG_DEBUG = 7 };

/* Sets what is printed from now on: name goes in front of each line (borrowed, outlives the program), levels above max are
 * dropped, journal != 0 prints "<N>" prefixes. Defaults: "pando", LOG_INFO, 0. */
void log_setup(const char *name, enum log_level max, int journal);

/* Whether a line of this level would be printed. */
int log_on(enum log_level level);

/* Prints one line by one write(2); newlines within the text become spaces. Leaves errno alone. */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) (log_on(LOG_DEBUG) ? log_line(LOG_DEBUG, __VA_ARGS__) : (void)0)
