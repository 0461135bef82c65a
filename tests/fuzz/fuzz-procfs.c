/* deps: procfs */
/* What pandod and the /proc server say to each other, and the /proc servers of two nodes. The first byte chooses. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "procfs/proto.h"
#include "procfs/remote.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* A list of messages: u8 length, type, fields. */
static void local(const uint8_t *p, size_t n)
{
	static struct table t;
	table_init(&t);
	for (size_t at = 0; at < n;) {
		struct rd r;
		struct proto_call c;
		uint16_t v;
		size_t k = p[at++];
		k = k < n - at ? k : n - at;
		rd_init(&r, p + at, k);
		at += k;
		uint8_t type = rd_u8(&r);
		if (type == PROTO_HELLO)
			(void)proto_hello_get(&r, &v);
		else if (type == PROTO_SPACE)
			(void)proto_space_get(&r, &v);
		else if (type >= PROTO_REQ && type <= PROTO_SERVED)
			(void)proto_call_get(&r, &c);
		else if (proto_table_get(type, &r, &t) < 0)
			break;
	}
	for (uint32_t pid = 0; pid < 100; pid++)
		if (table_owner(&t, pid << 15) >= TABLE_NODES)
			abort();
	for (uint16_t i = 1; i < TABLE_NODES; i++)
		if (t.nodes[i].present && (!*t.nodes[i].name || strchr(t.nodes[i].name, '/')))
			abort();
	table_fini(&t);
}

static void request(const uint8_t *p, size_t n)
{
	struct remote_req q;
	if (remote_req_get(p, n, &q) < 0)
		return;
	struct wr w = { 0 };
	remote_req_put(&w, &q);
	if (wr_done(&w) == 0 && (w.n != n || memcmp(w.p, p, n) != 0))
		abort();
	wr_fini(&w);
	const char *rest;
	if (remote_path_pid(q.path, &rest) > REMOTE_PID_MAX || rest < q.path || rest > q.path + strlen(q.path))
		abort();
	if (strstr(q.path, "/../") || strncmp(q.path, "../", 3) == 0 || q.path[0] == '/')
		abort();
}

static void reply(const uint8_t *p, size_t n)
{
	struct rd r, again;
	int rc = remote_reply_get(p, n, &r);
	if (rc > 0 || rc <= -512)
		abort();
	again = r;
	uint32_t k = rd_count(&r, 1024, REMOTE_PROC_MIN);
	for (uint32_t i = 0; i < k; i++) {
		struct remote_proc q;
		remote_proc_get(&r, &q);
		for (size_t j = 0; j < 4; j++)
			if (q.text_n[j] && (q.text[j][0] + q.text[j][q.text_n[j] - 1]) == 1000)
				abort();
	}
	k = rd_count(&again, 1024, REMOTE_ENTRY_MIN);
	for (uint32_t i = 0; i < k; i++) {
		struct remote_entry q;
		remote_entry_get(&again, &q);
		if (!again.bad && (!*q.name || strchr(q.name, '/')))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (n < 1)
		return 0;
	if (p[0] % 3 == 0)
		local(p + 1, n - 1);
	else if (p[0] % 3 == 1)
		request(p + 1, n - 1);
	else
		reply(p + 1, n - 1);
	return 0;
}
