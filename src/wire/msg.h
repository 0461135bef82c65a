/* Message types on the links between nodes, one range per module; payloads are described in docs/protocol.md. */
#pragma once

enum msg_type {
	/* 1..99: transport itself (hello, heartbeat, answer) */
	MSG_LINK_FIRST = 1,

	/* 100..199: membership and the raft log */
	MSG_MEMBER_FIRST = 100,
	MSG_MEMBER_LAST = 199,

	/* 200..299: placement at exec, ghosts, exit */
	MSG_EXEC_PLACE = 200,    /* call: exec image -> placed (held at its exec event) or errno */
	MSG_EXEC_GO,             /* call: let the held body run */
	MSG_EXEC_ABORT,          /* drop the held body */
	MSG_PROC_EXITED,         /* body -> home: exit status and rusage, repeated until MSG_PROC_EXITED_ACK */
	MSG_PROC_EXITED_ACK,
	MSG_PROC_STOPPED,        /* body stopped or continued */
	MSG_PROC_PARENT_GONE,    /* home -> body's node: the parent exited, the child is an orphan */
	MSG_PROC_SYNC,           /* after a link comes up: what each side has of the other's */
	MSG_PROC_MOVED,          /* body's new node -> registrar and home */

	/* 300..399: signals, groups, questions about processes */
	MSG_SIG_PROC = 300,      /* call: signal one process, sender's identity and credentials along */
	MSG_SIG_GROUP,           /* call: signal the bodies of a group on this node */
	MSG_SIG_ALL,             /* call: kill(-1) */
	MSG_PROC_QUERY,          /* call: getpgid, getsid, priority, sched, limits of a pid */
	MSG_PROC_SET,            /* call: set them */
	MSG_GROUP_UPDATE,        /* setpgid, setsid, tcsetpgrp mirrored */

	/* 400..499: /proc of other nodes: opaque for pandod, relayed between the /proc servers */
	MSG_PROCFS_REQ = 400,    /* call */

	/* 500..599: load and scheduling */
	MSG_LOAD = 500,

	/* 600..699: control requests done on another node */
	MSG_CTL_REQ = 600,
};
