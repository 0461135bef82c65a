#include "member/join.h"
#include "member/lease_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static struct token token(unsigned n_addrs)
{
	struct token t = { .n_addrs = n_addrs };
	for (unsigned i = 0; i < n_addrs; i++)
		(void)snprintf(t.addrs[i], sizeof t.addrs[i], "host%u.example:%u", i, 4840 + i);
	for (unsigned i = 0; i < 32; i++)
		t.fingerprint[i] = (uint8_t)(200 + i);
	for (unsigned i = 0; i < TOKEN_SECRET_SIZE; i++)
		t.secret[i] = (uint8_t)(i * 17);
	return t;
}

static void test_a_token_is_read_back(void)
{
	for (unsigned n = 1; n <= TOKEN_ADDRS; n++) {
		struct token t = token(n), back;
		char text[TOKEN_TEXT_SIZE], spaced[TOKEN_TEXT_SIZE + 8];
		CHECK(token_encode(&t, text) == 0 && strncmp(text, "pando1.", 7) == 0);
		CHECK(strspn(text + 7, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == strlen(text + 7));
		(void)snprintf(spaced, sizeof spaced, " %s\r\n", text);
		CHECK(token_decode(spaced, &back, NULL) == 0);
		CHECK(back.n_addrs == n && memcmp(&t, &back, sizeof t) == 0);
	}
}

static void test_every_damaged_token_is_refused(void)
{
	struct token t = token(2), back;
	char text[TOKEN_TEXT_SIZE], cut[TOKEN_TEXT_SIZE];
	CHECK(token_encode(&t, text) == 0);
	for (size_t n = 0; n < strlen(text); n++) {
		memcpy(cut, text, n);
		cut[n] = 0;
		CHECK(token_decode(cut, &back, NULL) == -EINVAL);
	}
	strcpy(cut, text);
	cut[20] = '!';
	CHECK(token_decode(cut, &back, NULL) == -EINVAL);
	(void)snprintf(cut, sizeof cut, "%sAAAA", text);
	CHECK(token_decode(cut, &back, NULL) == -EINVAL);
	memset(cut, 'A', sizeof cut - 1);
	memcpy(cut, "pando1.", 7);
	cut[sizeof cut - 1] = 0;
	CHECK(token_decode(cut, &back, NULL) == -EINVAL);
	CHECK(token_decode("pando2.AAAA", &back, NULL) == -EINVAL && token_decode("", &back, NULL) == -EINVAL);
	strcpy(t.addrs[0], "no port");
	CHECK(token_encode(&t, text) == 0 && token_decode(text, &back, NULL) == -EINVAL);
}

static void test_the_largest_token_fits(void)
{
	struct token t = token(TOKEN_ADDRS), back;
	char text[TOKEN_TEXT_SIZE];
	for (unsigned i = 0; i < TOKEN_ADDRS; i++) {
		memset(t.addrs[i], 'x', CLUSTER_ADDR_SIZE - 1);
		memcpy(t.addrs[i] + CLUSTER_ADDR_SIZE - 7, ":65535", 6);
	}
	CHECK(token_encode(&t, text) == 0 && token_decode(text, &back, NULL) == 0);
}

static void test_the_hash_is_sha256(void)
{
	/* printf '\0%.0s' {1..16} | sha256sum */
	static const uint8_t expect[4] = { 0x37, 0x47, 0x08, 0xff };
	uint8_t secret[TOKEN_SECRET_SIZE] = { 0 }, hash[32];
	token_hash(secret, hash);
	CHECK(memcmp(hash, expect, sizeof expect) == 0);
}

static void test_a_request_is_read_back_and_its_prefixes_are_refused(void)
{
	struct join_request q = { .nonce = 77, .name = "n2", .addr = ":4840", .stream_addr = "", .cpus = 3, .memory = 1 << 20,
				  .csr = (const uint8_t *)"request", .csr_n = 7 }, back;
	memset(q.secret, 5, sizeof q.secret);
	struct wr w = { 0 };
	join_request_encode(&q, &w);
	for (size_t cut = 0; cut < w.n; cut++)
		CHECK(join_request_decode(w.p, cut, &back) == -EBADMSG);
	CHECK(join_request_decode(w.p, w.n, &back) == 0);
	CHECK(back.nonce == 77 && strcmp(back.name, "n2") == 0 && strcmp(back.addr, ":4840") == 0 && back.csr_n == 7 && back.cpus == 3);
	CHECK(memcmp(back.secret, q.secret, sizeof q.secret) == 0 && memcmp(back.csr, "request", 7) == 0);
	wr_u8(&w, 1);
	CHECK(join_request_decode(w.p, w.n, &back) == -EBADMSG);
	wr_fini(&w);
}

static void test_an_answer_is_read_back_and_its_prefixes_are_refused(void)
{
	struct join_answer yes = { .node = 9, .cert = (const uint8_t *)"c", .cert_n = 1, .ca = (const uint8_t *)"ca", .ca_n = 2,
				   .cluster = (const uint8_t *)"state", .cluster_n = 5 };
	struct join_answer no = { .status = -EKEYEXPIRED, .words = "too late" }, back;
	struct wr w = { 0 };
	join_answer_encode(&yes, &w);
	for (size_t cut = 0; cut < w.n; cut++)
		CHECK(join_answer_decode(w.p, cut, &back) == -EBADMSG);
	CHECK(join_answer_decode(w.p, w.n, &back) == 0 && back.status == 0 && back.node == 9);
	CHECK(back.cert_n == 1 && back.ca_n == 2 && back.cluster_n == 5 && memcmp(back.cluster, "state", 5) == 0);
	w.p[5] = 0; /* node 0 */
	CHECK(join_answer_decode(w.p, w.n, &back) == -EBADMSG);
	w.n = 0;
	join_answer_encode(&no, &w);
	for (size_t cut = 0; cut < w.n; cut++)
		CHECK(join_answer_decode(w.p, cut, &back) == -EBADMSG);
	CHECK(join_answer_decode(w.p, w.n, &back) == 0 && back.status == -EKEYEXPIRED && strcmp(back.words, "too late") == 0);
	w.p[4] = 0; /* a positive status */
	CHECK(join_answer_decode(w.p, w.n, &back) == -EBADMSG);
	wr_fini(&w);
}

static void test_the_lease_file_tells_the_next_run(void)
{
	char dir[] = "/tmp/pando-lease-XXXXXX", path[64];
	struct lease_file *f = NULL;
	uint32_t incarnation;
	uint64_t until;
	CHECK(mkdtemp(dir));
	(void)snprintf(path, sizeof path, "%s/lease", dir);
	CHECK(lease_file_read(path, &incarnation, &until) == -ENOENT);
	CHECK(lease_file_open(path, &f, NULL) == 0);
	CHECK(lease_file_read(path, &incarnation, &until) == -ENOENT); /* no lease yet */
	lease_file_set(f, 3, 123456);
	CHECK(lease_file_read(path, &incarnation, &until) == 0 && incarnation == 3 && until == 123456);
	lease_file_set(f, 3, UINT64_MAX);
	f = lease_file_close(f);
	CHECK(lease_file_read(path, &incarnation, &until) == 0 && until == UINT64_MAX);
	CHECK(lease_file_open(path, &f, NULL) == 0); /* the next run read it before; now it begins anew */
	CHECK(lease_file_read(path, &incarnation, &until) == -ENOENT && incarnation == 0);
	f = lease_file_close(f);

	/* Another boot of the machine. */
	FILE *file = fopen(path, "r+");
	CHECK(file && fseek(file, 8, SEEK_SET) == 0 && fputc('x', file) == 'x' && fclose(file) == 0);
	CHECK(lease_file_read(path, &incarnation, &until) == -ENOENT);
	CHECK(truncate(path, 39) == 0 && lease_file_read(path, &incarnation, &until) == -ENOENT);
	CHECK(unlink(path) == 0 && symlink("/etc/passwd", path) == 0);
	CHECK(lease_file_open(path, &f, NULL) == -ELOOP && lease_file_read(path, &incarnation, &until) == -ENOENT);
	CHECK(unlink(path) == 0 && rmdir(dir) == 0);
	uint64_t now = lease_now_ms();
	CHECK(now > 0 && lease_now_ms() >= now);
}

int main(void)
{
	TEST(test_a_token_is_read_back);
	TEST(test_every_damaged_token_is_refused);
	TEST(test_the_largest_token_fits);
	TEST(test_the_hash_is_sha256);
	TEST(test_a_request_is_read_back_and_its_prefixes_are_refused);
	TEST(test_an_answer_is_read_back_and_its_prefixes_are_refused);
	TEST(test_the_lease_file_tells_the_next_run);
	return 0;
}
