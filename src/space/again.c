/* A process that came home and executed its program, but must not run it (its origin went on without it), becomes the ghost again
 * that it was: still held at its exec event, it is led to the end of that call, a system call instruction is put where the program
 * would begin, and with it the ghost's program is executed. The program's memory, which is written to, has never been used. */
#include "space/internal.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "base/log.h"
#include "kern/ptrace.h"
#include "kern/rmem.h"

enum { SYSCALL_INSN = 0x050f, STACK_BELOW = PATH_MAX + 256 };

/* What cannot become a ghost dies: two of it must never run. */
static void again_give_up(struct tracee *t, const char *why)
{
	log_warn("process %d: cannot become a ghost again (%s), killed", t->tid, why);
	(void)kill(t->tid, SIGKILL);
	(void)ptrace(PTRACE_CONT, t->tid, 0, 0);
}

/* At the end of its execve: the next instruction is the first of the program. */
static int again_regs(struct tracee *t)
{
	char path[PATH_MAX];
	struct user_regs_struct r;
	struct iovec iov = { &r, sizeof r };
	(void)snprintf(path, sizeof path, "%s/pando-zygote", t->s->cfg.layout.libexec);
	if (ptrace(PTRACE_GETREGSET, t->tid, NT_PRSTATUS, &iov) < 0)
		return -errno;
	errno = 0;
	long word = ptrace(PTRACE_PEEKTEXT, t->tid, r.rip, 0);
	if (errno)
		return -errno;
	word = (word & ~0xffffl) | SYSCALL_INSN;
	if (ptrace(PTRACE_POKETEXT, t->tid, r.rip, word) < 0)
		return -errno;
	uint64_t at = (r.rsp - STACK_BELOW) & ~15ull;
	int rc = rmem_write(t->tid, (struct raddr){ at }, path, strlen(path) + 1);
	if (rc < 0)
		return rc;
	r.rax = SYS_execve;
	r.orig_rax = (unsigned long long)-1;
	r.rdi = at;
	r.rsi = r.rdx = 0;
	return ptrace(PTRACE_SETREGSET, t->tid, NT_PRSTATUS, &iov) < 0 ? -errno : 0;
}

static void again_executed(void *ctx, struct tracee *t, int status)
{
	(void)ctx;
	if (!WIFSTOPPED(status))
		trace_forget(t); /* its pidfd tells of the end */
	else if (status >> 16 == PTRACE_EVENT_EXEC)
		trace_detach(t, 0);
	else
		again_give_up(t, "execve");
}

static void again_ended(void *ctx, struct tracee *t, int status)
{
	(void)ctx;
	if (!WIFSTOPPED(status)) {
		trace_forget(t);
		return;
	}
	if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
		(void)ptrace(PTRACE_SYSCALL, t->tid, 0, 0);
		return;
	}
	t->fn = again_executed;
	int rc = again_regs(t);
	if (rc < 0 || ptrace(PTRACE_CONT, t->tid, 0, 0) < 0)
		again_give_up(t, "registers");
}

void ghost_again(struct proc *p, struct tracee *t)
{
	uint64_t all = ~0ull;
	p->is_ready = p->is_idle = p->is_settled = 0;
	t->fn = again_ended;
	t->ctx = NULL;
	long options = PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP;
	if (ptrace(PTRACE_SETOPTIONS, t->tid, 0, options) < 0 ||
	    ptrace((enum __ptrace_request)PTRACE_SETSIGMASK, t->tid, sizeof all, &all) < 0 || ptrace(PTRACE_SYSCALL, t->tid, 0, 0) < 0)
		again_give_up(t, "options");
}
