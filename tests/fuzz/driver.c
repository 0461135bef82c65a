/* Runs a fuzz target without libFuzzer: every file of its corpus, every prefix of these, and a number of mutations of them. The same
 * seed makes the same inputs on every machine, so a failure is found again by the numbers that are printed.
 *
 * usage: fuzz-X [-runs=N] [-seed=N] [-only=RUN] [CORPUS_DIR | FILE]...
 *
 * -only does one of the mutations alone and writes it to standard output first. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { INPUT_MAX = 8192, FILES_MAX = 512 };

struct input {
	char *path;
	uint8_t *p;
	size_t n;
};

static struct input g_files[FILES_MAX];
static size_t g_n;
static char g_where[256]; /* what is being run, for the last words */

static _Noreturn void usage(const char *what)
{
	(void)fprintf(stderr, "fuzz driver: %s\n", what);
	exit(2);
}

/* ---- last words ---- */

static void on_crash(int sig)
{
	size_t n = strnlen(g_where, sizeof g_where);
	if (write(STDERR_FILENO, "not ok ", 7) < 0 || write(STDERR_FILENO, g_where, n) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
		_exit(3);
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

static void on_crash_setup(void)
{
	static const int sigs[] = { SIGABRT, SIGILL, SIGTRAP, SIGALRM };
	for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++)
		(void)signal(sigs[i], on_crash);
	struct sigaction old;
	/* A sanitizer has its own, which aborts at the end. */
	if (sigaction(SIGSEGV, NULL, &old) == 0 && old.sa_handler == SIG_DFL) {
		(void)signal(SIGSEGV, on_crash);
		(void)signal(SIGBUS, on_crash);
		(void)signal(SIGFPE, on_crash);
	}
	(void)signal(SIGPIPE, SIG_IGN);
}

/* ---- one run ---- */

/* The input lies in memory of exactly its size, so that a sanitizer sees each read beyond. */
static void run(const uint8_t *p, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);
	if (!copy)
		usage("out of memory");
	if (n)
		memcpy(copy, p, n);
	(void)alarm(60); /* a loop without end fails, it does not hang */
	(void)LLVMFuzzerTestOneInput(copy, n);
	free(copy);
}

/* ---- corpus ---- */

static void file_read(const char *path)
{
	static uint8_t buf[INPUT_MAX];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf);
	if (n < 0 || g_n == FILES_MAX)
		usage(path);
	(void)close(fd);
	struct input *f = &g_files[g_n++];
	*f = (struct input){ .path = strdup(path), .p = malloc(n ? (size_t)n : 1), .n = (size_t)n };
	if (!f->path || !f->p)
		usage("out of memory");
	memcpy(f->p, buf, f->n);
}

static int is_visible(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

static void corpus_read(const char *path)
{
	struct stat st;
	struct dirent **list;
	if (stat(path, &st) < 0)
		usage(path);
	if (!S_ISDIR(st.st_mode)) {
		file_read(path);
		return;
	}
	int n = scandir(path, &list, is_visible, alphasort);
	if (n < 0)
		usage(path);
	for (int i = 0; i < n; i++) {
		char file[4096];
		(void)snprintf(file, sizeof file, "%s/%s", path, list[i]->d_name);
		file_read(file);
		free(list[i]);
	}
	free(list);
}

/* ---- mutation ---- */

static uint64_t g_random;

/* splitmix64 */
static uint64_t next(void)
{
	uint64_t z = (g_random += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static size_t below(size_t n)
{
	return n ? (size_t)(next() % n) : 0;
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Puts a number that is often at a limit, in one of the widths. */
static void put_number(uint8_t *p, size_t n, size_t at)
{
	static const uint64_t numbers[] = { 0, 1, 2, 3, 4, 7, 8, 16, 64, 127, 128, 129, 255, 256, 1023, 1024, 4095, 4096, 4097, 32767, 32768,
					    65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff, 0x8000000000000000,
					    0xffffffffffffffff };
	uint64_t v = numbers[below(sizeof numbers / sizeof *numbers)];
	size_t width = (size_t)1 << below(4);
	for (size_t i = 0; i < width && at + i < n; i++)
		p[at + i] = (uint8_t)(v >> (8 * i));
}

static size_t cut(uint8_t *p, size_t n)
{
	size_t from = below(n), k = 1 + below(min_size(n - from, 32));
	memmove(p + from, p + from + k, n - from - k);
	return n - k;
}

/* Makes room for k bytes at `at`. */
static size_t insert(uint8_t *p, size_t n, size_t at, size_t k)
{
	k = min_size(k, INPUT_MAX - n);
	memmove(p + at + k, p + at, n - at);
	return n + k;
}

static size_t insert_random(uint8_t *p, size_t n)
{
	size_t at = below(n + 1), before = n;
	n = insert(p, n, at, 1 + below(16));
	for (size_t i = 0; i < n - before; i++)
		p[at + i] = (uint8_t)next();
	return n;
}

/* A part of it again, elsewhere. */
static size_t repeat(uint8_t *p, size_t n)
{
	uint8_t part[64];
	size_t from = below(n), k = 1 + below(min_size(n - from, sizeof part)), at = below(n + 1), before = n;
	memcpy(part, p + from, k);
	n = insert(p, n, at, k);
	memcpy(p + at, part, n - before);
	return n;
}

/* Its beginning, and the end of another. */
static size_t graft(uint8_t *p, size_t n)
{
	const struct input *o = &g_files[below(g_n)];
	size_t at = below(n + 1), from = below(o->n + 1), k = min_size(o->n - from, INPUT_MAX - at);
	memcpy(p + at, o->p + from, k);
	return at + k;
}

static size_t mutate(uint8_t *p, size_t n)
{
	switch (n ? next() % 9 : 0) {
	case 0:
		return insert_random(p, n);
	case 1:
		return cut(p, n);
	case 2:
		return below(n); /* a prefix */
	case 3:
		return repeat(p, n);
	case 4:
		return g_n ? graft(p, n) : n;
	case 5:
	case 6:
		put_number(p, n, below(n));
		return n;
	case 7:
		p[below(n)] ^= (uint8_t)(1u << below(8));
		return n;
	default:
		p[below(n)] = (uint8_t)next();
		return n;
	}
}

/* The input of one run: it depends on the seed and the run's number only. */
static size_t make(uint64_t seed, unsigned long number, uint8_t *p)
{
	size_t n = 0;
	g_random = seed * 0x2545f4914f6cdd1du + number;
	if (g_n) {
		const struct input *f = &g_files[below(g_n)];
		memcpy(p, f->p, f->n);
		n = f->n;
	}
	for (size_t k = 1 + below(6); k; k--)
		n = mutate(p, n);
	return n;
}

/* ---- all of it ---- */

static void run_corpus(void)
{
	for (size_t i = 0; i < g_n; i++) {
		const struct input *f = &g_files[i];
		/* Long ones: only the prefixes at which something is likely to begin. */
		for (size_t n = 0; n < f->n; n += n < 512 ? 1 : 13) {
			(void)snprintf(g_where, sizeof g_where, "the first %zu bytes of %.200s", n, f->path);
			run(f->p, n);
		}
		(void)snprintf(g_where, sizeof g_where, "all of %.200s", f->path);
		run(f->p, f->n);
	}
}

static unsigned long number_of(const char *text)
{
	char *end;
	errno = 0;
	unsigned long v = strtoul(text, &end, 0);
	if (errno || *end || end == text)
		usage("not a number");
	return v;
}

int main(int argc, char **argv)
{
	static uint8_t buf[INPUT_MAX];
	unsigned long runs = 20000, only = 0;
	uint64_t seed = 1;

	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], "-runs=", 6) == 0)
			runs = number_of(argv[i] + 6);
		else if (strncmp(argv[i], "-seed=", 6) == 0)
			seed = number_of(argv[i] + 6);
		else if (strncmp(argv[i], "-only=", 6) == 0)
			only = number_of(argv[i] + 6);
		else
			corpus_read(argv[i]);
	}
	on_crash_setup();
	if (only) {
		size_t n = make(seed, only, buf);
		if (write(STDOUT_FILENO, buf, n) != (ssize_t)n)
			usage("standard output");
		run(buf, n);
		return 0;
	}
	run_corpus();
	for (unsigned long k = 1; k <= runs; k++) {
		(void)snprintf(g_where, sizeof g_where, "run %lu of seed %llu (again: -seed=%llu -only=%lu)", k, (unsigned long long)seed,
			       (unsigned long long)seed, k);
		run(buf, make(seed, k, buf));
	}
	(void)alarm(0);
	(void)printf("ok %zu corpus files and their prefixes, %lu mutations of seed %llu\n", g_n, runs, (unsigned long long)seed);
	for (size_t i = 0; i < g_n; i++) {
		free(g_files[i].path);
		free(g_files[i].p);
	}
	return 0;
}
