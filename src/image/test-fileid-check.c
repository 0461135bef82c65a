/* Whether a program or an open file is the same on another node: sets that went over the wire, as if from a machine
 * with its own disk or from one that shares the tree. */
#include "image/test-fileid.h"

/* As another node would see it: through the wire, with another boot id unless they are one machine. */
static struct fileid_set *sent(const struct fileid_set *s, int other_boot)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	struct rd r;
	struct fileid_set *t = NULL;
	fileid_set_encode(&w, s);
	CHECK(wr_done(&w) == 0);
	rd_init(&r, w.p, w.n);
	CHECK(fileid_set_decode(&r, &t) == 0);
	if (other_boot)
		t->boot[0] ^= 1;
	return t;
}

/* Gives all files of a set other inodes and change times, as on a machine with its own disk. */
static void make_foreign(struct fileid_set *t)
{
	for (size_t i = 0; i < t->n; i++) {
		t->files[i].st.ino += 1000;
		t->files[i].st.ctime_ns += 5;
	}
}

static enum fileid_outcome verdict_of(const struct fileid_set *t, const char *word)
{
	struct fileid_verdict v;
	enum fileid_outcome o = fileid_check(g_c, g_root, t, &v);
	CHECK(o == v.outcome && (o == FILEID_SAME) == (v.why[0] == 0));
	if (word && !strstr(v.why, word))
		(void)fprintf(stderr, "outcome %d: %s\n", (int)o, v.why);
	CHECK(!word || strstr(v.why, word));
	return o;
}

static int stat_equal(const struct fileid_stat *a, const struct fileid_stat *b)
{
	return a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns &&
	       a->dev_major == b->dev_major && a->dev_minor == b->dev_minor && a->mode == b->mode && a->uid == b->uid &&
	       a->gid == b->gid;
}

static void test_what_is_sent_is_read_back(void)
{
	_cleanup_(fileid_set_unref_p) struct fileid_set *s = list_ok("/bin/bash", "/a:/b", "libm.so.6");
	CHECK(fileid_set_hash(g_c, g_root, s, NULL) == 0);
	_cleanup_(fileid_set_unref_p) struct fileid_set *t = sent(s, 0);
	CHECK(t->n == s->n && strcmp(t->path, s->path) == 0 && strcmp(t->cwd, s->cwd) == 0);
	CHECK(strcmp(t->ld_library_path, "/a:/b") == 0 && strcmp(t->ld_preload, "libm.so.6") == 0);
	for (size_t i = 0; i < s->n; i++) {
		const struct fileid_file *a = &s->files[i], *b = &t->files[i];
		CHECK(strcmp(a->path, b->path) == 0 && a->role == b->role && stat_equal(&a->st, &b->st));
		CHECK(a->build_id_n == b->build_id_n && memcmp(a->build_id, b->build_id, a->build_id_n) == 0);
		CHECK(a->hashed && b->hashed && memcmp(a->hash, b->hash, sizeof a->hash) == 0);
	}
}

static void test_every_prefix_is_refused_and_no_mutation_crashes(void)
{
	_cleanup_(fileid_set_unref_p) struct fileid_set *s = list_ok("/bin/bash", "/a:/b", NULL);
	_cleanup_(wr_fini) struct wr w = { 0 };
	fileid_set_encode(&w, s);
	for (size_t cut = 0; cut < w.n; cut++) {
		struct rd r;
		struct fileid_set *t = NULL;
		rd_init(&r, w.p, cut);
		CHECK(fileid_set_decode(&r, &t) == -EBADMSG && !t);
	}
	for (size_t i = 0; i < w.n; i++) {
		for (unsigned k = 0; k < 3; k++) {
			static const uint8_t with[] = { 0x00, 0xff, 0x80 };
			struct rd r;
			struct fileid_set *t = NULL;
			uint8_t was = w.p[i];
			w.p[i] ^= with[k] ? with[k] : 1;
			rd_init(&r, w.p, w.n);
			if (fileid_set_decode(&r, &t) == 0 && i % 7 == 0) {
				struct fileid_verdict v;
				(void)fileid_check(g_c, g_root, t, &v);
			}
			t = fileid_set_unref(t);
			w.p[i] = was;
		}
	}
}

static void test_a_shared_tree_is_the_same(void)
{
	_cleanup_(fileid_set_unref_p) struct fileid_set *s = list_ok("/bin/bash", NULL, NULL);
	_cleanup_(fileid_set_unref_p) struct fileid_set *near = sent(s, 0);
	_cleanup_(fileid_set_unref_p) struct fileid_set *far = sent(s, 1);
	CHECK(verdict_of(near, NULL) == FILEID_SAME);
	CHECK(verdict_of(far, NULL) == FILEID_SAME);
	for (size_t i = 0; i < far->n; i++)
		far->files[i].st.dev_minor += 7; /* device numbers mean nothing between machines */
	CHECK(verdict_of(far, NULL) == FILEID_SAME);
}

static void test_separate_disks_are_judged_by_build_and_content(void)
{
	_cleanup_(fileid_set_unref_p) struct fileid_set *s = list_ok("/bin/bash", NULL, NULL);
	_cleanup_(fileid_set_unref_p) struct fileid_set *t = sent(s, 1);
	make_foreign(t);
	CHECK(t->files[0].build_id_n == 20);
	CHECK(verdict_of(t, NULL) == FILEID_SAME); /* the same package */

	t->files[1].build_id[3] ^= 1;
	CHECK(verdict_of(t, "another build") == FILEID_DIFFERENT);
	t->files[1].build_id[3] ^= 1;
	t->files[1].st.size++;
	CHECK(verdict_of(t, "bytes") == FILEID_DIFFERENT);
	t->files[1].st.size--;

	t->files[1].st.mtime_ns++; /* built or copied at another time: content decides */
	t->files[1].hashed = false;
	CHECK(verdict_of(t, "content") == FILEID_NEED_HASH);
	CHECK(fileid_set_hash(g_c, g_root, s, NULL) == 0);
	_cleanup_(fileid_set_unref_p) struct fileid_set *u = sent(s, 1);
	make_foreign(u);
	for (size_t i = 0; i < u->n; i++) {
		u->files[i].st.mtime_ns++;
		u->files[i].build_id_n = 0;
	}
	CHECK(verdict_of(u, NULL) == FILEID_SAME);
	u->files[0].hash[1]++;
	CHECK(verdict_of(u, "/bin/bash: other content") == FILEID_DIFFERENT);
}

static void test_rights_must_be_equal_even_for_the_same_content(void)
{
	_cleanup_(fileid_set_unref_p) struct fileid_set *s = list_ok("/bin/bash", NULL, NULL);
	_cleanup_(fileid_set_unref_p) struct fileid_set *t = sent(s, 1);
	t->files[0].st.mode ^= S_ISUID;
	CHECK(verdict_of(t, "mode") == FILEID_DIFFERENT);
	t->files[0].st.mode ^= S_ISUID;
	t->files[2].st.uid = 1000;
	CHECK(verdict_of(t, "owner") == FILEID_DIFFERENT);
	t->files[2].st.uid = s->files[2].st.uid;
	t->files[0].caps = 7;
	CHECK(verdict_of(t, "capabilities") == FILEID_DIFFERENT);
	t->files[0].caps = 0;
	CHECK(verdict_of(t, NULL) == FILEID_SAME);
}

static void test_absent_and_otherwise_resolved_programs_are_refused(void)
{
	_cleanup_(fileid_set_unref_p) struct fileid_set *s = list_ok("/bin/bash", NULL, NULL);
	_cleanup_(fileid_set_unref_p) struct fileid_set *t = sent(s, 1);
	free(t->path);
	t->path = strdup("/usr/local/bin/nonexistent");
	CHECK(verdict_of(t, "nonexistent") == FILEID_ABSENT);
	free(t->path);
	t->path = strdup("/bin/cat"); /* fewer libraries, other names */
	CHECK(verdict_of(t, "/bin/cat") == FILEID_DIFFERENT);
	if (has_cc()) {
		_cleanup_(fileid_set_unref_p) struct fileid_set *m = list_ok(tmp("by-rpath"), NULL, NULL);
		_cleanup_(fileid_set_unref_p) struct fileid_set *n = sent(m, 1);
		CHECK(verdict_of(n, NULL) == FILEID_SAME);
		free(n->ld_preload); /* a library that would be loaded first, but only here */
		n->ld_preload = strdup("libm.so.6");
		CHECK(verdict_of(n, "here") == FILEID_DIFFERENT);
	}
}

static void test_set_uid_programs_do_not_listen_to_the_environment(void)
{
	if (!has_cc() || geteuid() != 0)
		return;
	CHECK(run("cd %s && cp by-rpath suid && chmod 4755 suid", g_tmp) == 0);
	struct fileid_req q = { .root_fd = g_root,
				.path = tmp("suid"),
				.ruid = 1000,
				.euid = 1000,
				.rgid = 0,
				.egid = 0,
				.ld_library_path = "/nonexistent",
				.ld_preload = "libm.so.6" };
	struct fileid_set *s = NULL;
	CHECK(fileid_exec(g_c, &q, &s, NULL) == 0 && s->secure);
	CHECK(!file_of(s, "/lib/x86_64-linux-gnu/libm.so.6"));
	_cleanup_(fileid_set_unref_p) struct fileid_set *t = sent(s, 1);
	s = fileid_set_unref(s);
	CHECK(t->secure && verdict_of(t, NULL) == FILEID_SAME);
	q.ruid = q.euid = 0; /* root gains nothing by it */
	CHECK(fileid_exec(g_c, &q, &s, NULL) == 0 && !s->secure);
	CHECK(file_of(s, "/lib/x86_64-linux-gnu/libm.so.6"));
	s = fileid_set_unref(s);
}

static struct fileid_set *open_ok(const char *path, bool writable)
{
	_cleanup_(close_p) int fd = open(path, O_PATH | O_CLOEXEC);
	struct fileid_set *s = NULL;
	struct err e = { .text = "" };
	int rc = fileid_open_file(g_c, g_root, fd, path, writable, &s, &e);
	if (rc)
		(void)fprintf(stderr, "%s\n", e.text);
	CHECK(fd >= 0 && rc == 0 && s->n == 1);
	return s;
}

static void test_open_files_are_compared_by_what_they_are_used_for(void)
{
	write_text(tmp("data"), "some content", 0644);
	_cleanup_(fileid_set_unref_p) struct fileid_set *rd = open_ok(tmp("data"), false);
	_cleanup_(fileid_set_unref_p) struct fileid_set *wr = open_ok(tmp("data"), true);
	_cleanup_(fileid_set_unref_p) struct fileid_set *near = sent(wr, 0);
	write_text(tmp("data"), "some more content", 0644); /* it grows while it is asked about: still the same file */
	CHECK(verdict_of(near, NULL) == FILEID_SAME);

	/* on another machine with its own disk: a copy will do for reading, not for writing */
	rd = fileid_set_unref(rd);
	rd = open_ok(tmp("data"), false);
	CHECK(fileid_set_hash(g_c, g_root, rd, NULL) == 0);
	_cleanup_(fileid_set_unref_p) struct fileid_set *r2 = sent(rd, 1);
	make_foreign(r2);
	CHECK(verdict_of(r2, NULL) == FILEID_SAME);
	r2->writable = true;
	CHECK(verdict_of(r2, "writing") == FILEID_DIFFERENT);
	r2->writable = false;
	r2->files[0].hash[0]++;
	CHECK(verdict_of(r2, "content") == FILEID_DIFFERENT);
	/* of the same network file system, it may have been written to since */
	r2->files[0].st.ino -= 1000;
	CHECK(verdict_of(r2, "content") == FILEID_DIFFERENT);
	CHECK(unlink(tmp("data")) == 0);
	CHECK(verdict_of(r2, "data") == FILEID_ABSENT);
}

static void test_directories_may_be_the_same_or_alike(void)
{
	_cleanup_(fileid_set_unref_p) struct fileid_set *d = open_ok(g_tmp, false);
	_cleanup_(fileid_set_unref_p) struct fileid_set *near = sent(d, 0), *far = sent(d, 1);
	write_text(tmp("something-new"), "", 0644);
	CHECK(verdict_of(near, NULL) == FILEID_SAME);
	CHECK(verdict_of(far, "like it") == FILEID_LIKE);
	far->files[0].st.mode ^= 0111;
	CHECK(verdict_of(far, "mode") == FILEID_DIFFERENT);
	far = fileid_set_unref(far);
	d = fileid_set_unref(d);
}

static void test_a_deleted_or_renamed_open_file_is_stale(void)
{
	struct fileid_set *s = NULL;
	write_text(tmp("gone"), "x", 0644);
	_cleanup_(close_p) int fd = open(tmp("gone"), O_RDONLY | O_CLOEXEC);
	_cleanup_(close_p) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK(rename(tmp("gone"), tmp("moved")) == 0);
	CHECK(fileid_open_file(g_c, g_root, fd, tmp("gone"), false, &s, NULL) == -ESTALE);
	CHECK(fileid_open_file(g_c, g_root, fd, tmp("moved"), false, &s, NULL) == 0);
	s = fileid_set_unref(s);
	write_text(tmp("gone"), "x", 0644);
	CHECK(fileid_open_file(g_c, g_root, fd, tmp("gone"), false, &s, NULL) == -ESTALE);
	CHECK(unlink(tmp("moved")) == 0);
	CHECK(fileid_open_file(g_c, g_root, fd, tmp("moved"), false, &s, NULL) == -ESTALE);
	CHECK(fileid_open_file(g_c, g_root, fd, "relative", false, &s, NULL) == -ESTALE);
	CHECK(fileid_open_file(g_c, g_root, null, "/dev/null", false, &s, NULL) == -EOPNOTSUPP);
}

static void test_hashing_notices_a_change_under_way(void)
{
	write_text(tmp("h"), "content one", 0644);
	_cleanup_(fileid_set_unref_p) struct fileid_set *s = open_ok(tmp("h"), false);
	uint64_t a[2], b[2];
	CHECK(fileid_hash_file(g_root, tmp("h"), &s->files[0].st, a) == 0);
	(void)poll(NULL, 0, 12); /* the next tick of the file system's clock */
	write_text(tmp("h"), "content two", 0644);
	CHECK(fileid_hash_file(g_root, tmp("h"), &s->files[0].st, b) == -ESTALE);
	CHECK(fileid_set_hash(g_c, g_root, s, NULL) == -ESTALE);
	_cleanup_(fileid_set_unref_p) struct fileid_set *t = open_ok(tmp("h"), false);
	CHECK(fileid_set_hash(g_c, g_root, t, NULL) == 0 && memcmp(t->files[0].hash, a, sizeof a) != 0);
}

int main(void)
{
	fixture_begin();
	if (has_cc()) {
		char one[256], opts[600];
		(void)snprintf(one, sizeof one, "%s", tmp("one"));
		(void)snprintf(opts, sizeof opts, "-Wl,--disable-new-dtags,-rpath,%s", one);
		build_libs(one, "", 1);
		build_main(tmp("by-rpath"), one, opts);
	}
	TEST(test_what_is_sent_is_read_back);
	TEST(test_every_prefix_is_refused_and_no_mutation_crashes);
	TEST(test_a_shared_tree_is_the_same);
	TEST(test_separate_disks_are_judged_by_build_and_content);
	TEST(test_rights_must_be_equal_even_for_the_same_content);
	TEST(test_absent_and_otherwise_resolved_programs_are_refused);
	TEST(test_set_uid_programs_do_not_listen_to_the_environment);
	TEST(test_open_files_are_compared_by_what_they_are_used_for);
	TEST(test_directories_may_be_the_same_or_alike);
	TEST(test_a_deleted_or_renamed_open_file_is_stale);
	TEST(test_hashing_notices_a_change_under_way);
	fixture_end();
	return 0;
}
