/* What both test programs of fileid share: a directory for the run, programs built in it, questions. */
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"
#include "image/fileid.h"

static int g_root = -1; /* descriptor of / */
static char g_tmp[64];  /* a directory for this run */
static struct fileid *g_c;

static inline int exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static inline char *tmp(const char *name)
{
	static char path[8][4200];
	static int next;
	char *p = path[next++ % 8];
	(void)snprintf(p, sizeof path[0], "%s/%s", g_tmp, name);
	return p;
}

static inline int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static inline int run(const char *fmt, ...)
{
	char cmd[8192];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(cmd, sizeof cmd, fmt, ap);
	va_end(ap);
	return system(cmd);
}

static inline void write_file(const char *path, const void *p, size_t n, mode_t mode)
{
	_cleanup_(close_p) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && write(fd, p, n) == (ssize_t)n && fchmod(fd, mode) == 0);
}

static inline void write_text(const char *path, const char *text, mode_t mode)
{
	write_file(path, text, strlen(text), mode);
}

/* What changed a moment ago is not kept, on purpose: waits until the files written so far are old enough. */
static inline void settle(void)
{
	(void)poll(NULL, 0, 70);
}

static inline int list(const char *path, const char *llp, const char *preload, struct fileid_set **ret, struct err *e)
{
	struct fileid_req q = {
		.root_fd = g_root, .path = path, .cwd = g_tmp, .ld_library_path = llp, .ld_preload = preload
	};
	*ret = NULL;
	return fileid_exec(g_c, &q, ret, e);
}

static inline struct fileid_set *list_ok(const char *path, const char *llp, const char *preload)
{
	struct fileid_set *s;
	struct err e = { .text = "" };
	int rc = list(path, llp, preload, &s, &e);
	if (rc)
		(void)fprintf(stderr, "%s: %d %s\n", path, rc, e.text);
	CHECK(rc == 0 && s->n >= 1);
	return s;
}

static inline const struct fileid_file *file_of(const struct fileid_set *s, const char *path)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->files[i].path, path) == 0)
			return &s->files[i];
	return NULL;
}

static inline int has_cc(void)
{
	static int known = -1;
	if (known < 0)
		known = run("gcc --version >/dev/null 2>&1") == 0;
	return known;
}

/* liba needs libb; both in DIR. main needs liba. */
static inline void build_libs(const char *dir, const char *opts_a, int value)
{
	CHECK(mkdir(dir, 0755) == 0 || errno == EEXIST);
	CHECK(run("cd %s && echo 'int b(void){return %d;}' > b.c && gcc -shared -fPIC -o libtestb.so b.c", dir,
		  value) == 0);
	CHECK(run("cd %s && echo 'int b(void); int a(void){return b();}' > a.c && "
		  "gcc -shared -fPIC -Wl,-soname,libtesta.so.1 %s -o libtesta.so.1 a.c -L. -ltestb && ln -sf "
		  "libtesta.so.1 libtesta.so",
		  dir, opts_a) == 0);
}

static inline void build_main(const char *out, const char *libs, const char *opts)
{
	CHECK(run("cd %s && echo 'int a(void); int main(void){return a();}' > m.c && gcc -o %s m.c -L%s -ltesta "
		  "-Wl,-rpath-link,%s %s",
		  g_tmp, out, libs, libs, opts) == 0);
}

static inline void fixture_begin(void)
{
	(void)snprintf(g_tmp, sizeof g_tmp, "/tmp/pando-test-fileid-XXXXXX");
	CHECK(mkdtemp(g_tmp));
	g_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK(g_root >= 0 && fileid_new(&g_c) == 0);
}

static inline void fixture_end(void)
{
	g_c = fileid_free(g_c);
	CHECK(run("rm -rf %s", g_tmp) == 0);
}
