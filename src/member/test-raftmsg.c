#include "member/raftmsg.h"

#include "check.h"
#include "wire/rd.h"

/* libraft's numbers of its messages, in this order. */
enum { APPEND = 1, APPENDED, VOTE, VOTED, SNAPSHOT, TIMEOUT_NOW };

static struct raft_message message(int type)
{
	static uint64_t words[4] = { 11, 22, 33, 44 };
	static struct raft_entry entries[2];
	static struct raft_message m;
	memset(&m, 0, sizeof m);
	memcpy(&m.type, &(unsigned short){ (unsigned short)type }, sizeof(unsigned short)); /* its width differs between the versions */
	switch (type) {
	case APPEND:
		memset(entries, 0, sizeof entries);
		entries[0].term = 5;
		entries[0].type = RAFT_COMMAND;
		entries[0].buf = (struct raft_buffer){ words, 8 };
		entries[1].term = 6;
		entries[1].type = RAFT_BARRIER;
		entries[1].buf = (struct raft_buffer){ words + 1, 24 };
		m.append_entries.term = 7;
		m.append_entries.prev_log_index = 8;
		m.append_entries.prev_log_term = 9;
		m.append_entries.leader_commit = 10;
		m.append_entries.entries = entries;
		m.append_entries.n_entries = 2;
		break;
	case APPENDED:
		m.append_entries_result.term = 7;
		m.append_entries_result.rejected = 8;
		m.append_entries_result.last_log_index = 9;
		break;
	case VOTE:
		m.request_vote.term = 7;
		m.request_vote.candidate_id = 3;
		m.request_vote.last_log_index = 8;
		m.request_vote.last_log_term = 9;
		m.request_vote.pre_vote = true;
		break;
	case VOTED:
		m.request_vote_result.term = 7;
		m.request_vote_result.vote_granted = true;
		break;
	case SNAPSHOT:
		m.install_snapshot.term = 7;
		m.install_snapshot.last_index = 8;
		m.install_snapshot.last_term = 9;
		m.install_snapshot.conf_index = 2;
		raft_configuration_init(&m.install_snapshot.conf);
		CHECK(raft_configuration_add(&m.install_snapshot.conf, 1, "n1", RAFT_VOTER) == 0);
		CHECK(raft_configuration_add(&m.install_snapshot.conf, 5, "n5", RAFT_STANDBY) == 0);
		m.install_snapshot.data = (struct raft_buffer){ words, 32 };
		break;
	default:
		m.timeout_now.term = 7;
		m.timeout_now.last_log_index = 8;
		m.timeout_now.last_log_term = 9;
		break;
	}
	return m;
}

static void compare(int type, const struct raft_message *m)
{
	CHECK((int)m->type == type && m->server_id == 3);
	switch (type) {
	case APPEND: {
		const struct raft_append_entries *a = &m->append_entries;
		CHECK(a->term == 7 && a->prev_log_index == 8 && a->prev_log_term == 9 && a->leader_commit == 10 && a->n_entries == 2);
		CHECK(a->entries[0].term == 5 && a->entries[0].type == RAFT_COMMAND && a->entries[0].buf.len == 8);
		CHECK(a->entries[1].term == 6 && a->entries[1].type == RAFT_BARRIER && a->entries[1].buf.len == 24);
		CHECK(*(uint64_t *)a->entries[0].buf.base == 11 && ((uint64_t *)a->entries[1].buf.base)[2] == 44);
		CHECK(a->entries[0].batch == a->entries[0].buf.base && a->entries[1].batch == a->entries[0].batch);
		break;
	}
	case APPENDED:
		CHECK(m->append_entries_result.term == 7 && m->append_entries_result.rejected == 8 &&
		      m->append_entries_result.last_log_index == 9);
		break;
	case VOTE:
		CHECK(m->request_vote.term == 7 && m->request_vote.candidate_id == 3 && m->request_vote.last_log_index == 8 &&
		      m->request_vote.last_log_term == 9 && m->request_vote.pre_vote && !m->request_vote.disrupt_leader);
		break;
	case VOTED:
		CHECK(m->request_vote_result.term == 7 && m->request_vote_result.vote_granted);
		break;
	case SNAPSHOT: {
		const struct raft_install_snapshot *s = &m->install_snapshot;
		CHECK(s->term == 7 && s->last_index == 8 && s->last_term == 9 && s->conf_index == 2 && s->data.len == 32);
		CHECK(s->conf.n == 2 && s->conf.servers[1].id == 5 && strcmp(s->conf.servers[1].address, "n5") == 0);
		CHECK(s->conf.servers[0].role == RAFT_VOTER && s->conf.servers[1].role == RAFT_STANDBY);
		CHECK(((uint64_t *)s->data.base)[3] == 44);
		break;
	}
	default:
		CHECK(m->timeout_now.term == 7 && m->timeout_now.last_log_index == 8 && m->timeout_now.last_log_term == 9);
		break;
	}
}

static void test_each_message_is_read_back_and_its_prefixes_are_refused(void)
{
	for (int type = APPEND; type <= TIMEOUT_NOW; type++) {
		struct raft_message m = message(type), back;
		struct wr w = { 0 };
		CHECK(raftmsg_encode(&m, &w) == 0);
		for (size_t cut = 0; cut < w.n; cut++)
			CHECK(raftmsg_decode(w.p, cut, 3, &back) == -EBADMSG);
		CHECK(raftmsg_decode(w.p, w.n, 3, &back) == 0);
		compare(type, &back);
		raftmsg_free(&back);
		wr_u8(&w, 0);
		CHECK(raftmsg_decode(w.p, w.n, 3, &back) == -EBADMSG); /* left-over bytes */
		w.p[0] = 2;
		CHECK(raftmsg_decode(w.p, w.n - 1, 3, &back) == -EBADMSG); /* another version */
		wr_fini(&w);
		if (type == SNAPSHOT)
			raft_configuration_close(&m.install_snapshot.conf);
	}
}

static void test_a_message_about_another_node_is_refused(void)
{
	struct raft_message m = message(VOTE), back;
	struct wr w = { 0 };
	CHECK(raftmsg_encode(&m, &w) == 0);
	CHECK(raftmsg_decode(w.p, w.n, 4, &back) == -EBADMSG);
	CHECK(raftmsg_decode(w.p, w.n, 0, &back) == -EBADMSG);
	wr_fini(&w);
}

static void test_what_libraft_would_stumble_over_is_refused(void)
{
	struct raft_message m = message(APPEND), back;
	struct wr w = { 0 };
	m.append_entries.entries[1].buf.len = 23; /* not aligned */
	CHECK(raftmsg_encode(&m, &w) == 0 && raftmsg_decode(w.p, w.n, 3, &back) == -EBADMSG);
	w.n = 0;
	m.append_entries.entries[1].buf.len = 0;
	CHECK(raftmsg_encode(&m, &w) == 0 && raftmsg_decode(w.p, w.n, 3, &back) == -EBADMSG);
	w.n = 0;
	m = message(APPEND);
	CHECK(raftmsg_encode(&m, &w) == 0);
	w.p[2 + 8 + 24 + 4 + 8] = 9; /* an entry of no type */
	CHECK(raftmsg_decode(w.p, w.n, 3, &back) == -EBADMSG);
	w.n = 0;
	m = message(SNAPSHOT);
	m.install_snapshot.conf.servers[1].id = 1; /* the same server twice */
	CHECK(raftmsg_encode(&m, &w) == 0 && raftmsg_decode(w.p, w.n, 3, &back) == -EBADMSG);
	raft_configuration_close(&m.install_snapshot.conf);
	w.n = 0;
	m = message(77);
	CHECK(raftmsg_encode(&m, &w) == -EINVAL);
	wr_fini(&w);
}

static void test_a_heartbeat_has_no_entries(void)
{
	struct raft_message m = message(APPEND), back;
	struct wr w = { 0 };
	m.append_entries.n_entries = 0;
	CHECK(raftmsg_encode(&m, &w) == 0 && raftmsg_decode(w.p, w.n, 3, &back) == 0);
	CHECK(back.append_entries.n_entries == 0 && !back.append_entries.entries);
	wr_fini(&w);
}

int main(void)
{
	TEST(test_each_message_is_read_back_and_its_prefixes_are_refused);
	TEST(test_a_message_about_another_node_is_refused);
	TEST(test_what_libraft_would_stumble_over_is_refused);
	TEST(test_a_heartbeat_has_no_entries);
	return 0;
}
