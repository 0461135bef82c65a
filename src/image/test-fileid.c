/* What programs need, against what ld.so itself says, on this machine's programs and on some made for the test; and the
 * cache. */
#include <dirent.h>

#include "base/clock.h"
#include "image/test-fileid.h"

/* --- against the truth: ld.so tells what it would load --- */

static size_t traced(const char *path, const char *env, char out[][512], size_t max)
{
	char cmd[8192];
	(void)snprintf(cmd, sizeof cmd, "cd %s && env %s LD_TRACE_LOADED_OBJECTS=1 %s 2>/dev/null", g_tmp,
		       env ? env : "", path);
	FILE *f = popen(cmd, "re");
	char line[2048];
	size_t n = 0;
	CHECK(f);
	while (fgets(line, sizeof line, f)) {
		/* "libc.so.6 => /lib/.../libc.so.6 (0x7f...)" or "/lib64/ld-linux-x86-64.so.2 (0x7f...)" or the vdso */
		char *arrow = strstr(line, "=> "), *p = arrow ? arrow + 3 : line + strspn(line, "\t ");
		char *end = strstr(p, " (0x");
		if (!end || (!arrow && !memchr(p, '/', (size_t)(end - p))))
			continue;
		*end = 0;
		CHECK(n < max);
		(void)snprintf(out[n++], 512, "%s%s%s", p[0] == '/' ? "" : g_tmp, p[0] == '/' ? "" : "/", p);
	}
	CHECK(pclose(f) == 0);
	return n;
}

/* The same file under whatever name: ld.so's own name for its loader goes through a link here and there. */
static int has_inode(const struct fileid_set *s, const char *path)
{
	struct stat st;
	char full[4300];
	(void)snprintf(full, sizeof full, "%s", path);
	if (stat(full, &st) < 0)
		return 0;
	for (size_t i = 1; i < s->n; i++)
		if (s->files[i].st.ino == st.st_ino)
			return 1;
	return 0;
}

static void check_like_ld_so(const char *path, const char *llp, const char *preload)
{
	static char out[FILEID_FILES_MAX][512];
	char env[4096] = "";
	if (llp)
		(void)snprintf(env, sizeof env, "LD_LIBRARY_PATH='%s'", llp);
	if (preload)
		(void)snprintf(env + strlen(env), sizeof env - strlen(env), " LD_PRELOAD='%s'", preload);
	size_t n = traced(path, env, out, FILEID_FILES_MAX);
	_cleanup_(fileid_set_unref_p) struct fileid_set *s = list_ok(path, llp, preload);
	int ok = s->n == n + 1;
	for (size_t i = 0; i < n; i++)
		ok &= has_inode(s, out[i]);
	if (!ok) {
		for (size_t i = 0; i < n; i++)
			(void)fprintf(stderr, "ld.so: %s\n", out[i]);
		for (size_t i = 0; i < s->n; i++)
			(void)fprintf(stderr, "ours:  %s\n", s->files[i].path);
	}
	CHECK(ok);
}

static void test_programs_need_what_ld_so_says(void)
{
	static const char *const programs[] = { "/bin/sh",       "/bin/bash",    "/usr/bin/gcc",  "/usr/bin/gdb",
						"/usr/bin/perl", "/usr/bin/git", "/usr/bin/curl", "/usr/bin/ssh",
						"/usr/bin/top",  "/usr/bin/ld",  "/usr/bin/as",   "/usr/bin/make" };
	size_t seen = 0;
	for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
		if (!exists(programs[i]))
			continue;
		seen++;
		check_like_ld_so(programs[i], NULL, NULL);
	}
	CHECK(seen >= 3);
	char cc1[512] = "";
	FILE *f = popen("gcc -print-prog-name=cc1 2>/dev/null", "re");
	if (f && fgets(cc1, sizeof cc1, f) && cc1[0] == '/') {
		cc1[strcspn(cc1, "\n")] = 0;
		check_like_ld_so(cc1, NULL, NULL);
	}
	CHECK(f && pclose(f) >= 0);
}

/* All programs of the machine, a part of them in each run of the test would be unfair: take every one in some
 * directories. */
static void test_a_sample_of_all_programs_agrees_with_ld_so(void)
{
	_cleanup_(closedir_p) DIR *d = opendir("/usr/bin");
	size_t seen = 0, looked = 0;
	for (struct dirent *e; d && (e = readdir(d)) && seen < 60;) {
		char path[512], head[4] = "";
		if (looked++ % 7)
			continue;
		(void)snprintf(path, sizeof path, "/usr/bin/%s", e->d_name);
		struct stat st;
		_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & 0111) ||
		    st.st_mode & 06000 || read(fd, head, 4) != 4 || memcmp(head, "\177ELF", 4) != 0 ||
		    strpbrk(e->d_name, " '$"))
			continue;
		struct fileid_set *s = list_ok(path, NULL, NULL);
		int dynamic = s->n > 1;
		s = fileid_set_unref(s);
		if (dynamic) {
			check_like_ld_so(path, NULL, NULL);
			seen++;
		}
	}
	(void)printf("   %zu programs\n", seen);
	CHECK(seen > 10);
}

/* --- programs made for the test --- */

static void test_search_paths_are_followed_as_ld_so_does(void)
{
	if (!has_cc())
		return;
	char one[256], two[256], opts[600];
	(void)snprintf(one, sizeof one, "%s", tmp("one"));
	(void)snprintf(two, sizeof two, "%s", tmp("two"));
	build_libs(one, "", 1);
	build_libs(two, "", 2);

	build_main(tmp("by-env"), one, "");
	check_like_ld_so(tmp("by-env"), one, NULL);
	check_like_ld_so(tmp("by-env"), two, NULL);
	(void)snprintf(opts, sizeof opts, "/nonexistent:%s:%s/", two, one);
	check_like_ld_so(tmp("by-env"), opts, NULL);
	check_like_ld_so(tmp("by-env"), "one:two", NULL); /* relative to the current directory */
	struct fileid_set *s;
	struct err e = { .text = "" };
	CHECK(list(tmp("by-env"), NULL, NULL, &s, &e) == -ENOENT && strstr(e.text, "libtesta.so.1"));

	/* DT_RPATH reaches to the libraries of libraries, DT_RUNPATH does not. */
	(void)snprintf(opts, sizeof opts, "-Wl,--disable-new-dtags,-rpath,%s", one);
	build_main(tmp("by-rpath"), one, opts);
	check_like_ld_so(tmp("by-rpath"), NULL, NULL);
	check_like_ld_so(tmp("by-rpath"), two, NULL); /* RPATH goes before the environment */
	(void)snprintf(opts, sizeof opts, "-Wl,--enable-new-dtags,-rpath,%s", one);
	build_main(tmp("by-runpath"), one, opts);
	CHECK(list(tmp("by-runpath"), NULL, NULL, &s, &e) == -ENOENT && strstr(e.text, "libtestb.so"));
	check_like_ld_so(tmp("by-runpath"), two, NULL); /* the environment goes before RUNPATH */
	build_main(tmp("by-origin"), one, "-Wl,--disable-new-dtags,-rpath,'$ORIGIN/one'");
	check_like_ld_so(tmp("by-origin"), NULL, NULL);
	CHECK(mkdir(tmp("links"), 0755) == 0 && symlink("../by-origin", tmp("links/other-name")) == 0);
	check_like_ld_so(tmp("links/other-name"), NULL, NULL); /* $ORIGIN is where the file is, not its name */
	build_main(tmp("by-braces"), one, "-Wl,--disable-new-dtags,-rpath,'${ORIGIN}/one'");
	check_like_ld_so(tmp("by-braces"), NULL, NULL);
}

static void test_preloaded_libraries_come_first(void)
{
	if (!has_cc())
		return;
	char pre[400];
	(void)snprintf(pre, sizeof pre, "%s/libtestb.so", tmp("two"));
	check_like_ld_so("/bin/sh", NULL, pre);
	check_like_ld_so(tmp("by-rpath"), NULL, pre); /* takes the place of the other libtestb.so */
	check_like_ld_so(tmp("by-rpath"), NULL, "libm.so.6 /nonexistent.so");
	(void)snprintf(pre, sizeof pre, "%s/libtestb.so:%s/libtesta.so.1", tmp("two"), tmp("two"));
	check_like_ld_so("/bin/sh", tmp("one"), pre); /* without a soname one found by path is not found by name */
}

static void test_variants_for_the_cpu_are_preferred(void)
{
	const char *const *caps = elf_hwcaps();
	if (!has_cc() || !*caps)
		return;
	CHECK(run("cd %s && mkdir -p one/glibc-hwcaps/%s && cp two/libtestb.so one/glibc-hwcaps/%s/", g_tmp, *caps,
		  *caps) == 0);
	check_like_ld_so(tmp("by-env"), tmp("one"), NULL);
	check_like_ld_so(tmp("by-rpath"), NULL, NULL);
	CHECK(run("cd %s && mkdir -p one/glibc-hwcaps/x86-64-v9 && mv one/glibc-hwcaps/%s/libtestb.so "
		  "one/glibc-hwcaps/x86-64-v9/",
		  g_tmp, *caps) == 0);
	check_like_ld_so(tmp("by-env"), tmp("one"), NULL);
	CHECK(run("rm -r %s/one/glibc-hwcaps", g_tmp) == 0);
}

static void test_libraries_of_another_machine_type_are_passed_over(void)
{
	if (!has_cc())
		return;
	CHECK(run("cd %s && mkdir -p wrong && printf '\\177ELF\\001\\001\\001' > wrong/libtesta.so.1 && "
		  "head -c 200 /dev/zero >> wrong/libtesta.so.1 && : > wrong/libtestb.so",
		  g_tmp) == 0);
	/* ld.so gives up on rubbish but passes over a sound file of another class: change the class of a real one */
	CHECK(run("cd %s && cp one/libtesta.so.1 wrong/ && cp one/libtestb.so wrong/ && "
		  "for l in libtesta.so.1 libtestb.so; do printf '\\267\\000' | dd of=wrong/$l bs=1 seek=18 "
		  "conv=notrunc 2>/dev/null; done",
		  g_tmp) == 0);
	char llp[700];
	(void)snprintf(llp, sizeof llp, "%s:%s", tmp("wrong"), tmp("two"));
	check_like_ld_so(tmp("by-env"), llp, NULL);
}

static void test_static_programs_need_only_themselves(void)
{
	if (!has_cc())
		return;
	CHECK(run("cd %s && echo 'int main(void){return 0;}' > s.c && gcc -static -o static s.c && gcc -static-pie -o "
		  "static-pie s.c",
		  g_tmp) == 0);
	const char *names[] = { "static", "static-pie" };
	for (size_t i = 0; i < 2; i++) {
		_cleanup_(fileid_set_unref_p) struct fileid_set *s = list_ok(tmp(names[i]), NULL, NULL);
		CHECK(s->n == 1 && s->files[0].build_id_n == 20 && !s->other);
	}
}

static void test_programs_of_32_bits_find_their_libraries(void)
{
	if (!has_cc() || run("cd %s && gcc -m32 -o m32 s.c 2>/dev/null", g_tmp) != 0) {
		(void)printf("   no 32 bit libraries here\n");
		return;
	}
	check_like_ld_so(tmp("m32"), NULL, NULL);
}

static void test_scripts_need_their_interpreters(void)
{
	_cleanup_(fileid_set_unref_p) struct fileid_set *sh = list_ok("/bin/sh", NULL, NULL);
	write_text(tmp("a.sh"), "#! /bin/sh -e\nexit 0\n", 0755);
	char head[400];
	(void)snprintf(head, sizeof head, "#!%s\nnothing\n", tmp("a.sh"));
	write_text(tmp("b.sh"), head, 0755);
	_cleanup_(fileid_set_unref_p) struct fileid_set *a = list_ok(tmp("a.sh"), NULL, NULL);
	_cleanup_(fileid_set_unref_p) struct fileid_set *b = list_ok(tmp("b.sh"), NULL, NULL);
	CHECK(a->n == sh->n + 1 && b->n == sh->n + 2);
	CHECK(a->files[0].role == FILEID_PROGRAM && a->files[1].role == FILEID_SCRIPT_INTERP &&
	      strcmp(a->files[1].path, "/bin/sh") == 0);
	CHECK(strcmp(b->files[1].path, tmp("a.sh")) == 0 && b->files[3].role == FILEID_LOADER);

	struct fileid_set *s;
	struct err e = { .text = "" };
	write_text(tmp("none.sh"), "#!/nonexistent/interp\n", 0755);
	CHECK(list(tmp("none.sh"), NULL, NULL, &s, &e) == -ENOENT && strstr(e.text, "/nonexistent/interp"));
	write_text(tmp("empty.sh"), "#!\n", 0755);
	CHECK(list(tmp("empty.sh"), NULL, NULL, &s, &e) == -ENOEXEC);
	char cut[400] = "#!/";
	memset(cut + 3, 'x', 300);
	write_file(tmp("cut.sh"), cut, 303, 0755);
	CHECK(list(tmp("cut.sh"), NULL, NULL, &s, &e) == -ENOEXEC);
	(void)snprintf(head, sizeof head, "#!%s\n", tmp("loop.sh"));
	write_text(tmp("loop.sh"), head, 0755);
	CHECK(list(tmp("loop.sh"), NULL, NULL, &s, &e) == -ELOOP);
	if (exists("/usr/bin/env")) {
		write_text(tmp("env.py"), "#!/usr/bin/env python3\nprint(1)\n", 0755);
		_cleanup_(fileid_set_unref_p) struct fileid_set *p = list_ok(tmp("env.py"), NULL, NULL);
		CHECK(strcmp(p->files[1].path, "/usr/bin/env") == 0 && p->n > 2);
	}
}

static void test_what_cannot_be_run_says_so(void)
{
	struct fileid_set *s;
	struct err e = { .text = "" };
	CHECK(list("/nonexistent", NULL, NULL, &s, &e) == -ENOENT);
	CHECK(list("/bin/sh/x", NULL, NULL, &s, &e) == -ENOTDIR);
	CHECK(list("/etc", NULL, NULL, &s, &e) == -EACCES);
	CHECK(list("/dev/null", NULL, NULL, &s, &e) == -EACCES);
	CHECK(mkfifo(tmp("fifo"), 0755) == 0);
	CHECK(list(tmp("fifo"), NULL, NULL, &s, &e) == -EACCES);
	write_text(tmp("text"), "echo without a first line\n", 0755);
	CHECK(list(tmp("text"), NULL, NULL, &s, &e) == 0 && s->other && s->n == 1);
	s = fileid_set_unref(s);
	write_text(tmp("nothing"), "", 0755);
	CHECK(list(tmp("nothing"), NULL, NULL, &s, &e) == 0 && s->other);
	s = fileid_set_unref(s);
	write_file(tmp("broken"), "\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\76\0", 20, 0755);
	CHECK(list(tmp("broken"), NULL, NULL, &s, &e) == -EBADMSG);
	CHECK(list("/proc/self/exe", NULL, NULL, &s, &e) < 0); /* a magic link: of whom? */
	char *longer = malloc(FILEID_ENV_MAX + 10);
	CHECK(longer);
	memset(longer, 'x', FILEID_ENV_MAX + 9);
	longer[FILEID_ENV_MAX + 9] = 0;
	CHECK(list("/bin/sh", longer, NULL, &s, &e) == -E2BIG);
	free(longer);
}

static void test_paths_are_those_of_the_process_root(void)
{
	CHECK(
	    run("mkdir -p %s/root/bin %s/root/etc && cp /bin/true %s/root/bin/prog && ln -s /bin/prog %s/root/bin/link",
		g_tmp, g_tmp, g_tmp, g_tmp) == 0);
	_cleanup_(close_p) int root = open(tmp("root"), O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK(root >= 0);
	struct fileid_req q = { .root_fd = root, .path = "/bin/link" };
	struct fileid_set *s = NULL;
	struct err e = { .text = "" };
	CHECK(fileid_exec(g_c, &q, &s, &e) == -ENOENT && strstr(e.text, "ld-linux")); /* the loader is not in there */
	CHECK(run("cd %s/root && mkdir -p lib64 lib/x86_64-linux-gnu && cp /lib64/ld-linux-x86-64.so.2 lib64/ && "
		  "cp /lib/x86_64-linux-gnu/libc.so.6 lib/x86_64-linux-gnu/",
		  g_tmp) == 0);
	CHECK(fileid_exec(g_c, &q, &s, &e) == 0 && s->n == 3);
	CHECK(file_of(
	    s, "/lib/x86_64-linux-gnu/libc.so.6")); /* from the default directories: there is no cache in there */
	s = fileid_set_unref(s);
	q.path = "prog";
	q.cwd = "/bin";
	CHECK(fileid_exec(g_c, &q, &s, &e) == 0 && strcmp(s->files[0].path, "/bin/prog") == 0);
	s = fileid_set_unref(s);
	q.path = "../../../../bin/../../bin/prog"; /* nothing leads out of it */
	CHECK(fileid_exec(g_c, &q, &s, &e) == 0 && s->n == 3);
	s = fileid_set_unref(s);
}

/* --- the cache --- */

static void counts(uint64_t *h, uint64_t *m)
{
	fileid_counts(g_c, h, m);
}

static int is_hit(const char *path, const char *llp)
{
	uint64_t h0, m0, h1, m1;
	counts(&h0, &m0);
	struct fileid_set *s = list_ok(path, llp, NULL);
	s = fileid_set_unref(s);
	counts(&h1, &m1);
	CHECK(h1 + m1 == h0 + m0 + 1);
	return h1 > h0;
}

static void test_a_second_question_is_answered_from_the_cache(void)
{
	settle();
	(void)is_hit("/bin/bash", NULL);
	CHECK(is_hit("/bin/bash", NULL));
	CHECK(!is_hit("/bin/bash", "/nonexistent")); /* another environment is another question */
	CHECK(is_hit("/bin/bash", "/nonexistent"));
	CHECK(is_hit("/bin/bash", NULL));
}

static void test_every_change_is_noticed(void)
{
	if (!has_cc())
		return;
	char one[256];
	(void)snprintf(one, sizeof one, "%s", tmp("one"));
	settle();
	(void)is_hit(tmp("by-env"), one);
	CHECK(is_hit(tmp("by-env"), one));
	/* the program is replaced */
	CHECK(run("cd %s && cp by-env new && mv new by-env", g_tmp) == 0);
	CHECK(!is_hit(tmp("by-env"), one));
	settle();
	CHECK(!is_hit(tmp("by-env"), one)); /* not kept while it was fresh */
	CHECK(is_hit(tmp("by-env"), one));
	/* a library is written in place */
	CHECK(run("cat %s/one/libtestb.so > %s/keep && cat %s/keep > %s/one/libtestb.so", g_tmp, g_tmp, g_tmp, g_tmp) ==
	      0);
	CHECK(!is_hit(tmp("by-env"), one));
	settle();
	CHECK(!is_hit(tmp("by-env"), one) && is_hit(tmp("by-env"), one));
	/* a library of a library is made to lead elsewhere */
	CHECK(run("cd %s/one && mv libtestb.so libtestb.real && ln -s libtestb.real libtestb.so", g_tmp) == 0);
	settle();
	CHECK(!is_hit(tmp("by-env"), one) && is_hit(tmp("by-env"), one));
	CHECK(run("cd %s/one && ln -sf ../two/libtestb.so libtestb.so", g_tmp) == 0);
	CHECK(!is_hit(tmp("by-env"), one));
	check_like_ld_so(tmp("by-env"), one, NULL);

	/* something appears where it was sought before */
	char llp[700];
	CHECK(mkdir(tmp("early"), 0755) == 0);
	(void)snprintf(llp, sizeof llp, "%s:%s:%s", tmp("later"), tmp("early"), one);
	settle();
	CHECK(!is_hit(tmp("by-env"), llp) && is_hit(tmp("by-env"), llp));
	CHECK(run("cp %s/two/libtestb.so %s/early/", g_tmp, g_tmp) == 0);
	CHECK(!is_hit(tmp("by-env"), llp));
	check_like_ld_so(tmp("by-env"), llp, NULL);
	settle();
	CHECK(!is_hit(tmp("by-env"), llp) && is_hit(tmp("by-env"), llp));
	CHECK(run("mkdir %s/later && cp %s/two/libtesta.so.1 %s/later/", g_tmp, g_tmp, g_tmp) == 0);
	CHECK(!is_hit(tmp("by-env"), llp));
	check_like_ld_so(tmp("by-env"), llp, NULL);
	/* rights change */
	settle();
	CHECK(!is_hit(tmp("by-env"), llp) && is_hit(tmp("by-env"), llp));
	CHECK(chmod(tmp("by-env"), 0700) == 0);
	CHECK(!is_hit(tmp("by-env"), llp));
	CHECK(unlink(tmp("by-env")) == 0);
	struct fileid_set *s;
	CHECK(list(tmp("by-env"), llp, NULL, &s, NULL) == -ENOENT);
}

static void test_a_cached_answer_is_quick(void)
{
	uint64_t best = UINT64_MAX;
	settle();
	(void)is_hit("/usr/bin/env", NULL);
	for (int i = 0; i < 300; i++) {
		uint64_t t = clock_ns();
		struct fileid_set *s = list_ok("/usr/bin/env", NULL, NULL);
		t = clock_ns() - t;
		s = fileid_set_unref(s);
		best = t < best ? t : best;
	}
	(void)printf("   %llu ns\n", (unsigned long long)best);
	CHECK(best < 200000);
}

static void test_memory_is_bounded(void)
{
	settle();
	for (int i = 0; i < FILEID_PROGRAMS_MAX + 200; i++) {
		char llp[64];
		(void)snprintf(llp, sizeof llp, "/nonexistent/%d", i);
		struct fileid_set *s = list_ok("/bin/true", llp, NULL);
		s = fileid_set_unref(s);
	}
	CHECK(!is_hit("/bin/true", "/nonexistent/0"));
	CHECK(is_hit("/bin/true", "/nonexistent/1000"));
}

int main(void)
{
	fixture_begin();
	TEST(test_programs_need_what_ld_so_says);
	TEST(test_a_sample_of_all_programs_agrees_with_ld_so);
	TEST(test_search_paths_are_followed_as_ld_so_does);
	TEST(test_preloaded_libraries_come_first);
	TEST(test_variants_for_the_cpu_are_preferred);
	TEST(test_libraries_of_another_machine_type_are_passed_over);
	TEST(test_static_programs_need_only_themselves);
	TEST(test_programs_of_32_bits_find_their_libraries);
	TEST(test_scripts_need_their_interpreters);
	TEST(test_what_cannot_be_run_says_so);
	TEST(test_paths_are_those_of_the_process_root);
	TEST(test_a_second_question_is_answered_from_the_cache);
	TEST(test_a_cached_answer_is_quick);
	TEST(test_every_change_is_noticed);
	TEST(test_memory_is_bounded);
	fixture_end();
	return 0;
}
