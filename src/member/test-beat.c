#include "member/beat.h"

#include "check.h"

static void test_a_beat_is_read_back_and_its_prefixes_are_refused(void)
{
	struct detector_report report = { 0 }, back_report;
	nodeset_add(&report.silent, 3);
	nodeset_add(&report.silent, 128);
	report.confirmed[128] = 9;
	report.confirmed[7] = 2;
	struct beat b = { .sent_ms = 123456789012, .incarnation = 4, .state = { true, 7, 99 } }, back;
	struct wr w = { 0 };
	beat_encode(&b, &report, &w);
	for (size_t cut = 0; cut < w.n; cut++)
		CHECK(beat_decode(w.p, cut, &back, &back_report) == -EBADMSG);
	CHECK(beat_decode(w.p, w.n, &back, &back_report) == 0);
	CHECK(back.sent_ms == b.sent_ms && back.incarnation == 4 && back.state.leads && back.state.term == 7 && back.state.version == 99);
	CHECK(memcmp(&report, &back_report, sizeof report) == 0);
	w.p[0] = 2;
	CHECK(beat_decode(w.p, w.n, &back, &back_report) == -EBADMSG);
	wr_fini(&w);
}

static void test_a_beat_about_a_node_that_cannot_be_is_refused(void)
{
	struct detector_report report = { 0 }, back_report;
	nodeset_add(&report.silent, 3);
	struct beat b = { .sent_ms = 1 }, back;
	struct wr w = { 0 };
	beat_encode(&b, &report, &w);
	w.p[w.n - 7] = 0; /* the node's number */
	CHECK(beat_decode(w.p, w.n, &back, &back_report) == -EBADMSG);
	w.p[w.n - 7] = 129;
	CHECK(beat_decode(w.p, w.n, &back, &back_report) == -EBADMSG);
	w.p[w.n - 7] = 128;
	CHECK(beat_decode(w.p, w.n, &back, &back_report) == 0);
	wr_fini(&w);
}

static void test_an_answer_is_read_back_and_its_prefixes_are_refused(void)
{
	struct beat_answer a = { .sent_ms = 5, .incarnation = 6, .answer = DETECTOR_CONDEMNED, .dead_ms = 2600, .state = { false, 3, 4 } }, back;
	nodeset_add(&a.voters, 1);
	nodeset_add(&a.voters, 100);
	struct wr w = { 0 };
	beat_answer_encode(&a, &w);
	for (size_t cut = 0; cut < w.n; cut++)
		CHECK(beat_answer_decode(w.p, cut, &back) == -EBADMSG);
	CHECK(beat_answer_decode(w.p, w.n, &back) == 0);
	CHECK(back.sent_ms == 5 && back.incarnation == 6 && back.answer == DETECTOR_CONDEMNED && back.dead_ms == 2600);
	CHECK(nodeset_equal(&a.voters, &back.voters) && back.state.term == 3 && back.state.version == 4 && !back.state.leads);
	w.p[13] = 0;
	CHECK(beat_answer_decode(w.p, w.n, &back) == -EBADMSG);
	w.p[13] = 5;
	CHECK(beat_answer_decode(w.p, w.n, &back) == -EBADMSG);
	wr_fini(&w);
}

int main(void)
{
	TEST(test_a_beat_is_read_back_and_its_prefixes_are_refused);
	TEST(test_a_beat_about_a_node_that_cannot_be_is_refused);
	TEST(test_an_answer_is_read_back_and_its_prefixes_are_refused);
	return 0;
}
