#include "procfs/journal.h"

#include <linux/fuse.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"

static void request_fill(void *slot, uint64_t unique, uint32_t len)
{
	struct fuse_in_header h = { .len = len, .opcode = FUSE_LOOKUP, .unique = unique };
	memcpy(slot, &h, sizeof(h));
}

struct seen {
	uint64_t unique[JOURNAL_SLOTS];
	size_t len[JOURNAL_SLOTS];
	size_t n;
	struct journal *answer; /* empties as it goes */
};

static void on_left(void *ctx, void *slot, size_t n)
{
	struct seen *s = ctx;
	struct fuse_in_header h;
	memcpy(&h, slot, sizeof(h));
	s->unique[s->n] = h.unique;
	s->len[s->n++] = n;
	if (s->answer)
		journal_answered(s->answer, h.unique);
}

static void test_what_was_not_answered_is_left_to_the_next(void)
{
	_cleanup_(close_p) int fd = -1;
	struct journal *j;
	struct err e;
	CHECK(procfs_journal_new(&fd, &e) == 0 && journal_open(fd, &j, &e) == 0);
	static const uint64_t numbers[] = { 30, 10, 20, 40 };
	for (size_t i = 0; i < 4; i++) {
		void *slot = journal_slot(j);
		request_fill(slot, numbers[i], 50);
		journal_taken(j, slot);
	}
	journal_answered(j, 20);
	journal_answered(j, 99);
	journal_answered(j, 0);
	CHECK(journal_used(j) == 3);
	journal_close(j); /* as a server that is killed */

	CHECK(journal_open(fd, &j, &e) == 0 && journal_used(j) == 3);
	struct seen s = { .answer = j };
	journal_left(j, on_left, &s);
	CHECK(s.n == 3 && s.unique[0] == 10 && s.unique[1] == 30 && s.unique[2] == 40 && s.len[0] == 50);
	CHECK(journal_used(j) == 0);
	journal_close(j);
	CHECK(journal_open(fd, &j, &e) == 0 && journal_used(j) == 0);
	journal_close(j);
}

static void test_a_slot_that_was_not_filled_is_given_out_again(void)
{
	_cleanup_(close_p) int fd = -1;
	struct journal *j;
	CHECK(procfs_journal_new(&fd, NULL) == 0 && journal_open(fd, &j, NULL) == 0);
	void *first = journal_slot(j);
	CHECK(journal_slot(j) == first);
	memset(first, 0, JOURNAL_SLOT_SIZE);
	journal_taken(j, first); /* a read that brought nothing */
	CHECK(journal_slot(j) == first && journal_used(j) == 0);
	journal_close(j);
}

static void test_when_all_slots_are_in_use_there_is_none(void)
{
	_cleanup_(close_p) int fd = -1;
	struct journal *j;
	CHECK(procfs_journal_new(&fd, NULL) == 0 && journal_open(fd, &j, NULL) == 0);
	for (uint64_t i = 1; i <= JOURNAL_SLOTS; i++) {
		void *slot = journal_slot(j);
		CHECK(slot);
		request_fill(slot, i * 2, i == 1 ? UINT32_MAX : 40); /* one with a length that cannot be */
		journal_taken(j, slot);
	}
	CHECK(!journal_slot(j) && journal_used(j) == JOURNAL_SLOTS);
	struct seen s = { 0 };
	journal_left(j, on_left, &s);
	CHECK(s.n == JOURNAL_SLOTS && s.len[0] == JOURNAL_SLOT_SIZE && s.len[1] == 40);
	journal_answered(j, 100);
	CHECK(journal_slot(j));
	journal_close(j);
	struct stat st;
	CHECK(fstat(fd, &st) == 0);
	CHECK(st.st_blocks * 512 <= (JOURNAL_SLOTS + 2) * 2 * 4096L); /* pages of what was used, not of whole slots */
}

static void test_the_first_request_of_all_is_kept(void)
{
	_cleanup_(close_p) int fd = -1;
	struct journal *j;
	size_t n;
	CHECK(procfs_journal_new(&fd, NULL) == 0 && journal_open(fd, &j, NULL) == 0);
	(void)journal_init(j, &n);
	CHECK(n == 0);
	journal_init_set(j, "hello", 5);
	journal_close(j);
	CHECK(journal_open(fd, &j, NULL) == 0);
	const void *p = journal_init(j, &n);
	CHECK(n == 5 && memcmp(p, "hello", 5) == 0);
	char large[JOURNAL_INIT_MAX + 50] = "x";
	journal_init_set(j, large, sizeof(large));
	(void)journal_init(j, &n);
	CHECK(n == JOURNAL_INIT_MAX);
	journal_close(j);
	journal_close(NULL);
}

static void test_what_is_no_journal_is_refused(void)
{
	_cleanup_(close_p) int fd = memfd_create("x", MFD_CLOEXEC);
	struct journal *j = NULL;
	struct err e;
	CHECK(journal_open(fd, &j, &e) == -EBADMSG);
	CHECK(ftruncate(fd, 4096 + (off_t)JOURNAL_SLOTS * JOURNAL_SLOT_SIZE) == 0);
	CHECK(journal_open(fd, &j, &e) == -EBADMSG && !j);
	CHECK(journal_open(-1, &j, &e) == -EBADF);
}

int main(void)
{
	TEST(test_what_was_not_answered_is_left_to_the_next);
	TEST(test_a_slot_that_was_not_filled_is_given_out_again);
	TEST(test_when_all_slots_are_in_use_there_is_none);
	TEST(test_the_first_request_of_all_is_kept);
	TEST(test_what_is_no_journal_is_refused);
	return 0;
}
