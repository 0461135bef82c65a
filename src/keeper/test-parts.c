/* The parts of the keeper that need no process: back-off, messages, record, store. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"
#include "keeper/backoff.h"
#include "keeper/proto.h"
#include "keeper/record.h"
#include "keeper/store.h"

static void test_restart_is_at_once_then_slower_then_at_once_after_a_long_life(void)
{
	struct backoff b = { 0 };
	static const uint32_t waits[] = { 0, 50, 100, 200, 400, 800, 1600, 2000, 2000 };
	for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
		CHECK(backoff_step(&b, 10, SIGKILL) == waits[i]);
	CHECK(backoff_step(&b, BACKOFF_RESET_MS, 0) == 0);
	CHECK(backoff_step(&b, 10, 0) == 50);
	CHECK(backoff_step(&b, 10, 64 << 8) == BACKOFF_USAGE_MS);
}

static void request_prefixes(const struct keeper_request *q)
{
	static struct keeper_request got;
	struct wr w = { 0 };
	keeper_request_encode(&w, q);
	CHECK(wr_done(&w) == 0 && w.n <= KEEPER_REQUEST_MAX);
	for (size_t n = 0; n < w.n; n++)
		CHECK(keeper_request_decode(&got, w.p, n) == -EBADMSG);
	CHECK(keeper_request_decode(&got, w.p, w.n) == 0);
	CHECK(got.op == q->op && got.seq == q->seq && strcmp(got.name, q->name) == 0 && got.init == q->init);
	CHECK(strcmp(got.cgroup, q->cgroup) == 0 && strcmp(got.lease, q->lease) == 0 && got.freezer_v2 == q->freezer_v2);
	wr_u8(&w, 0);
	CHECK(keeper_request_decode(&got, w.p, w.n) == -EBADMSG);
	wr_fini(&w);
}

static void test_requests_are_read_whole_or_not_at_all(void)
{
	static struct keeper_request q = { .seq = 77, .name = "watch-12" };
	static const uint8_t named[] = { KEEPER_PUT, KEEPER_DROP, KEEPER_TAKE, KEEPER_EACH };
	for (size_t i = 0; i < sizeof named; i++) {
		q.op = named[i];
		request_prefixes(&q);
	}
	q.name[0] = 0;
	q.op = KEEPER_EACH;
	request_prefixes(&q);
	q.op = KEEPER_READY;
	request_prefixes(&q);
	q.op = KEEPER_SYNC;
	request_prefixes(&q);
	q = (struct keeper_request){ .op = KEEPER_SPACE, .seq = 1, .init = 4711, .freezer_v2 = 1, .cgroup = "/a/pando-space-1" };
	memset(q.lease, 'x', KEEPER_LEASE_SIZE - 1);
	q.lease[0] = '/';
	request_prefixes(&q);
}

static void test_wrong_requests_are_refused(void)
{
	static struct keeper_request got, bad[] = {
		{ .op = KEEPER_PUT },
		{ .op = KEEPER_SPACE, .init = 1 },
		{ .op = KEEPER_SPACE, .init = -1 },
		{ .op = KEEPER_SPACE, .init = 5, .freezer_v2 = 2 },
		{ .op = KEEPER_SPACE, .init = 5, .cgroup = "rel" },
		{ .op = KEEPER_SPACE, .init = 5, .lease = "rel" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct wr w = { 0 };
		keeper_request_encode(&w, &bad[i]);
		CHECK(keeper_request_decode(&got, w.p, w.n) == -EBADMSG);
		wr_fini(&w);
	}
	CHECK(keeper_request_decode(&got, "\x40\1\0\0\0new", 8) == -EOPNOTSUPP && got.seq == 1);
}

static void test_answers_are_read_whole_or_not_at_all(void)
{
	static struct keeper_answer a = { .seq = 3, .more = 1, .n = KEEPER_BATCH }, got;
	for (unsigned i = 0; i < KEEPER_BATCH; i++)
		memset(a.name[i], 'a' + (int)(i % 26), KEEPER_NAME_SIZE - 1);
	struct wr w = { 0 };
	keeper_answer_encode(&w, &a);
	CHECK(wr_done(&w) == 0 && w.n <= KEEPER_ANSWER_MAX);
	for (size_t n = 0; n < w.n; n++)
		CHECK(keeper_answer_decode(&got, w.p, n) == -EBADMSG);
	CHECK(keeper_answer_decode(&got, w.p, w.n) == 0 && got.n == KEEPER_BATCH && strcmp(got.name[9], a.name[9]) == 0);
	wr_fini(&w);
}

static void test_record_is_read_whole_or_not_at_all(void)
{
	struct record r = { .n_children = 2, .child = { { 10, 11 }, { 12, 13 } }, .init = { 14, 15 }, .freezer_v2 = 1, .cgroup = "/x" }, got;
	struct wr w = { 0 };
	record_encode(&w, &r);
	for (size_t n = 0; n < w.n; n++)
		CHECK(record_decode(&got, w.p, n) == -EBADMSG);
	CHECK(record_decode(&got, w.p, w.n) == 0 && got.n_children == 2 && got.child[1].pid == 12 && got.child[1].start == 13);
	CHECK(got.init.pid == 14 && got.init.start == 15 && got.freezer_v2 == 1 && strcmp(got.cgroup, "/x") == 0);
	wr_fini(&w);
}

static void test_record_of_this_boot_is_found_and_of_another_not(void)
{
	char dir[] = "/tmp/test-keeper-XXXXXX", path[64];
	CHECK(mkdtemp(dir));
	struct record r = { .init = record_task_of(getpid()) }, got;
	CHECK(r.init.pid == getpid() && r.init.start);
	CHECK(record_task_of(0).pid == 0);
	CHECK(record_read(dir, &got, NULL) == -ENOENT);
	CHECK(record_write(dir, &r, NULL) == 0 && record_read(dir, &got, NULL) == 0);
	CHECK(got.init.pid == r.init.pid && got.init.start == r.init.start);

	(void)snprintf(path, sizeof path, "%s/keeper.record", dir);
	_cleanup_(close_p) int fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0 && pwrite(fd, "?", 1, 8) == 1); /* of the boot id */
	CHECK(record_read(dir, &got, NULL) == -ENOENT);
	CHECK(ftruncate(fd, 20) == 0 && record_read(dir, &got, NULL) == -EBADMSG);

	r = (struct record){ 0 };
	CHECK(record_write(dir, &r, NULL) == 0 && access(path, F_OK) < 0);
	CHECK(record_write(dir, &r, NULL) == 0);
	CHECK(rmdir(dir) == 0);
}

static void test_store_replaces_drops_and_has_limits(void)
{
	struct store_room room = { .max = 3 };
	struct store a = { .room = &room, .max = 2 }, b = { .room = &room, .max = 9 };
	int fd[6];
	for (int i = 0; i < 6; i++)
		CHECK((fd[i] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);
	CHECK(store_find(&a, "x") == -ENOENT);
	CHECK(store_put(&a, "x", fd[0]) == 0 && store_put(&a, "y", fd[1]) == 0);
	CHECK(store_put(&a, "z", fd[2]) == -EDQUOT);
	CHECK(store_put(&a, "x", fd[2]) == 0 && store_find(&a, "x") == fd[2] && fcntl(fd[0], F_GETFD) < 0);
	CHECK(store_put(&b, "x", fd[3]) == 0 && store_put(&b, "y", fd[4]) == -EDQUOT && room.used == 3);
	store_drop(&a, "none");
	store_drop(&a, "y");
	CHECK(store_put(&b, "y", fd[4]) == 0 && store_find(&a, "y") == -ENOENT && store_count(&a) == 1);
	store_clear(&a);
	store_clear(&b);
	CHECK(room.used == 0 && fcntl(fd[2], F_GETFD) < 0 && fcntl(fd[4], F_GETFD) < 0 && fcntl(fd[5], F_GETFD) >= 0);
	(void)close_fd(fd[5]);
}

static void test_store_walks_over_a_prefix(void)
{
	struct store_room room = { .max = 100 };
	struct store s = { .room = &room, .max = 100 };
	static const char *const names[] = { "watch-1", "watch-22", "watch", "zygote", "w", "watch-3" };
	for (size_t i = 0; i < 6; i++)
		CHECK(store_put(&s, names[i], open("/dev/null", O_RDONLY | O_CLOEXEC)) == 0);
	unsigned n = 0, all = 0;
	for (const struct kept_fd *k = store_next(&s, NULL, "watch-"); k; k = store_next(&s, k, "watch-"))
		n += strncmp(k->name, "watch-", 6) == 0;
	for (const struct kept_fd *k = store_next(&s, NULL, ""); k; k = store_next(&s, k, ""))
		all++;
	CHECK(n == 3 && all == 6);
	store_clear(&s);
	CHECK(!store_next(&s, NULL, ""));
}

int main(void)
{
	TEST(test_restart_is_at_once_then_slower_then_at_once_after_a_long_life);
	TEST(test_requests_are_read_whole_or_not_at_all);
	TEST(test_wrong_requests_are_refused);
	TEST(test_answers_are_read_whole_or_not_at_all);
	TEST(test_record_is_read_whole_or_not_at_all);
	TEST(test_record_of_this_boot_is_found_and_of_another_not);
	TEST(test_store_replaces_drops_and_has_limits);
	TEST(test_store_walks_over_a_prefix);
	return 0;
}
