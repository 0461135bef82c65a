#include "space/test-programs.h"

#include <stddef.h>

const struct program programs[] = {
	/* shells: commands in a row, substitution, redirection */
	{ .name = "true", .script = "/bin/true; echo $?" },
	{ .name = "many in a row", .script = "for i in 1 2 3 4 5 6 7 8 9; do /bin/echo $i; done; exit 3" },
	{ .name = "500 in a row", .script = "for i in $(seq 500); do /bin/true || echo $i; done; echo $?" , .seconds = 60 },
	{ .name = "substitution", .script = "x=$(/bin/echo hello); echo \"<$x>\"; y=$(/bin/echo a; /bin/echo b); echo $y" },
	{ .name = "substitutions within", .script = "echo $(/bin/echo $(/bin/echo $(/bin/echo deep))) `/bin/echo tick`" },
	{ .name = "100 substitutions", .script = "for i in $(seq 100); do s=$(/bin/echo $i); t=$((t + s)); done; echo $t", .seconds = 40 },
	{ .name = "here document", .script = "cat <<X | tr a-z A-Z\nhello $((1+1))\nX\ncat <<<again; read -r l < <(/bin/echo one); echo $l" },
	{ .name = "process substitution", .script = "cat <(seq 9) <(/bin/echo b); diff <(seq 5) <(seq 6); echo $?; seq 3 | tee >(cat >&2) | tail -1" },
	{ .name = "pipe status", .script = "set -o pipefail; false | true; echo $?; /bin/false | cat; echo ${PIPESTATUS[*]}; true | sh -c 'exit 7' | cat; echo $?" },
	{ .name = "standard input", .script = "cat; echo end", .input = "one\ntwo\n" },
	{ .name = "shared standard input", .script = "/usr/bin/head -c 4; echo; cat", .input = "one\ntwo\nthree\n" },
	{ .name = "no such program", .flags = PROGRAM_STAYS, .script = "/no/such; echo $?; no-such 2>/dev/null; echo $?; /etc/passwd; echo $?; /tmp; echo $?" },
	{ .name = "redirections", .script = "d=$(mktemp -d); cd $d; for i in 1 2 3 4 5; do /bin/echo $i; done > log; /bin/echo x >> log; cat log; cat < log | wc -l;"
					    "(/bin/echo a; /bin/echo b >&2) > both 2>&1; cat both; rm -r $d" },
	{ .name = "one log", .script = "f=$(mktemp); for i in $(seq 40); do (for k in 1 2 3 4 5; do /bin/echo $i.$k; done) & done > $f; wait; wc -l < $f; sort $f | uniq | wc -l; rm $f", .seconds = 40 },
	{ .name = "dash", .script = "x=$(/bin/echo a); /bin/echo $x | cat; (exit 4); echo $?; /bin/sleep 0.1 & wait $!; echo $?", .shell = "/bin/dash" },

	/* pipelines */
	{ .name = "sort", .script = "seq 100000 | sort -n | tail -1" },
	{ .name = "bulk", .script = "head -c 20000000 /dev/zero | tr '\\0' x | cat | wc -c", .seconds = 60 },
	{ .name = "broken pipe", .script = "seq 10000000 | head -3; echo ${PIPESTATUS[*]}; yes | head -1; echo ${PIPESTATUS[*]}" },
	{ .name = "xargs", .script = "seq 40 | xargs -P8 -n1 sh -c 'echo $0; exit 0' | sort -n | tail -2; seq 3 | xargs -n1 sh -c 'exit 1'; echo $?" },
	{ .name = "find and xargs", .script = "find /etc/pam.d -type f -print0 2>/dev/null | sort -z | xargs -0 -n 4 wc -c | tail -3; find /etc/pam.d -type f -exec /bin/true {} \\; ; echo $?" },
	{ .name = "parallel pipelines", .script = "for i in 1 2 3 4 5 6 7 8; do seq $((i * 1000)) | sort -rn | head -1 & done | sort -n; wait" },

	/* status and signals */
	{ .name = "exit status", .script = "for i in 0 1 2 77 126 127 128 255; do sh -c \"exit $i\"; echo $?; done; exit 250" },
	{ .name = "deaths by signal", .script = "for s in HUP INT QUIT ILL TRAP ABRT BUS KILL USR1 SEGV USR2 PIPE ALRM TERM XCPU SYS 34 64; do"
					       " perl -e 'kill shift, $$; sleep 9' $s; echo $s $?; done 2>/dev/null" },
	{ .name = "dies by a signal", .flags = PROGRAM_STAYS, .script = "kill -TERM $$; sleep 9" },
	{ .name = "execs into one that dies", .script = "exec perl -e 'kill 9, $$; sleep 9'" },
	{ .name = "exec", .script = "exec /bin/echo replaced" },
	{ .name = "core flag", .script = "ulimit -c unlimited; cd $(mktemp -d); perl -e 'use POSIX; my $p = fork; if (!$p) { exec \"sh\", \"-c\", \"kill -SEGV \\$\\$; sleep 9\" } "
					  "waitpid $p, 0; printf \"%d %d\\n\", $? & 127, ($? & 128) != 0'; rm -rf $PWD" },
	{ .name = "kill a sleep", .script = "sleep 100 & sleep 0.1; kill $!; wait $!; echo $?; sleep 100 & kill -9 $!; wait $!; echo $?" },
	{ .name = "kill tells", .script = "sleep 100 & p=$!; sleep 0.1; kill -0 $p && echo there; kill $p; wait $p; kill -0 $p 2>/dev/null || echo gone" },
	{ .name = "trap", .script = "trap 'echo got' USR1; sh -c 'kill -USR1 $0' $$; trap 'echo bye' EXIT; sh -c 'trap \"echo t; exit 5\" TERM; kill $$; sleep 5'; echo $?" },
	{ .name = "trap of a placed one", .script = "perl -e '$SIG{TERM}=sub{print \"term\\n\"; exit 6}; $|=1; print \"ready\\n\"; sleep 9 while 1' > /tmp/tt.$$ & p=$!;"
						   "until grep -q ready /tmp/tt.$$; do sleep 0.02; done; kill $p; wait $p; echo $?; cat /tmp/tt.$$; rm /tmp/tt.$$" },
	{ .name = "timeout", .script = "timeout 0.3 sleep 9; echo $?; timeout 5 /bin/true; echo $?; timeout -s KILL 0.3 sleep 9; echo $?; timeout 0.2 sh -c 'trap \"exit 9\" TERM; sleep 5 & wait'; echo $?" },
	{ .name = "wait", .script = "for i in 1 2 3 4; do sh -c \"sleep 0.$i; exit $i\" & done; wait %1; echo $?; wait -n; echo $?; wait; echo $?" },
	{ .name = "jobs", .script = "sleep 50 & sleep 60 & sleep 0.1; jobs -l | wc -l; jobs; kill %1 %2; wait; jobs | wc -l", .flags = 2 },
	{ .name = "job control", .script = "set -m; sleep 50 & sleep 0.1; jobs; kill -STOP %1; sleep 0.2; jobs; kill -CONT %1; sleep 0.2; jobs; kill %1; wait %1; echo $?" },
	{ .name = "monitor groups", .script = "set -m; (sleep 50 | sleep 60) & sleep 0.2; kill -TERM -- -$!; wait $!; echo $?" },
	{ .name = "stop and continue", .script = "perl -e 'use POSIX \":sys_wait_h\"; $p = fork; if (!$p) { exec \"sleep\", \"50\" } select undef,undef,undef,0.2;"
						  "kill STOP=>$p; waitpid $p, WUNTRACED; printf \"%x\\n\", ${^CHILD_STATUS_NATIVE}; kill CONT=>$p; waitpid $p, 8; printf \"%x\\n\", ${^CHILD_STATUS_NATIVE};"
						  "kill TSTP=>$p; waitpid $p, WUNTRACED; printf \"%x\\n\", ${^CHILD_STATUS_NATIVE}; kill CONT=>$p; kill TERM=>$p; waitpid $p, 0; printf \"%x\\n\", ${^CHILD_STATUS_NATIVE}'" },
	{ .name = "stops itself", .script = "perl -e 'use POSIX \":sys_wait_h\"; $p = fork; if (!$p) { exec \"sh\", \"-c\", \"kill -STOP \\$\\$; exit 4\" }"
					     "waitpid $p, WUNTRACED; printf \"%x\\n\", ${^CHILD_STATUS_NATIVE}; kill CONT=>$p; waitpid $p, 0; printf \"%x\\n\", ${^CHILD_STATUS_NATIVE}'" },
	{ .name = "nohup", .script = "nohup sh -c 'kill -HUP $$; echo lives' 2>/dev/null; echo $?" },
	{ .name = "setsid", .script = "setsid sh -c 'echo in'; setsid -w sh -c 'exit 5'; echo $?; setsid /bin/echo away | cat" },
	{ .name = "background groups", .script = "(sleep 0.2; /bin/echo late) & /bin/echo early; wait" },
	{ .name = "orphan", .script = "sh -c '(sleep 0.3; /bin/echo orphan) & /bin/echo parent'; sleep 0.6" },
	{ .name = "kill of the group", .script = "sh -c 'trap : TERM; sleep 50 & sleep 50 & sleep 0.2; kill 0; wait; echo survived' ; echo $?", .flags = 2 },
	{ .name = "alarm", .script = "perl -e 'alarm 1; exec \"sleep\", \"9\"'; echo $?" },
	{ .name = "queued values", .script = "perl -e '$SIG{USR1}=sub{$n++}; kill USR1=>$$ for 1..5; print \"$n\\n\"'" },
	{ .name = "ignored signals", .script = "trap '' TERM; sh -c 'kill $$; echo ignored'; trap - TERM; sh -c 'kill $$; echo no'; echo $?" },

	/* who am I */
	{ .name = "numbers", .script = "a=$$; b=$(sh -c 'echo $PPID'); [ $a = $b ] && echo same; sh -c 'echo $$' | grep -c '^[0-9]*$'; [ $(ps -o pgid= -p $$ | tr -d ' ') = $$ ] && echo leads" },
	{ .name = "pid and parent", .script = "perl -e '$p = fork; if (!$p) { exec \"sh\", \"-c\", \"echo \\$PPID; exit 0\" } waitpid $p, 0; print \"$$\\n\"' | uniq | wc -l" },
	{ .name = "group and session", .script = "perl -e 'print getpgrp() == shift ? \"yes\\n\" : \"no\\n\"' $$; perl -e 'use POSIX; print POSIX::getpgrp() == $ARGV[0] ? 1 : 0, \"\\n\"' $$" },
	{ .name = "environment", .script = "A=1 B='x y' sh -c 'echo $A $B'; env -i /usr/bin/env | wc -l; cd /usr && pwd && /bin/pwd; umask 027; sh -c umask" },
	{ .name = "limits", .script = "ulimit -n 100; sh -c 'ulimit -n'; ulimit -s 4096; sh -c 'ulimit -s'; nice -n 5 nice; taskset -c 0 taskset -p $$ | wc -l" },
	{ .name = "credentials", .script = "setpriv --reuid 1000 --regid 1000 --clear-groups id; setpriv --reuid 1000 --regid 1000 --clear-groups sh -c 'id -u; sh -c \"id -g\"; kill -0 1 2>/dev/null || echo no'" },
	{ .name = "scripts", .script = "d=$(mktemp -d); printf '#!/bin/sh\\necho \"$0\" \"$@\" | sed s,.*/,,\\n' > $d/s; chmod +x $d/s; $d/s a b; cd $d; ./s c; PATH=$d:$PATH s d; rm -r $d" },

	/* python and perl */
	{ .name = "python check_output", .script = "/usr/bin/python3 -c 'import subprocess as s; print(s.check_output([\"echo\", \"hi\"])); print(s.run(\"exit 3\", shell=True).returncode)'" },
	{ .name = "python pipes", .script = "/usr/bin/python3 -c 'import subprocess as s\np=s.Popen([\"tr\",\"a-z\",\"A-Z\"],stdin=s.PIPE,stdout=s.PIPE)\nprint(p.communicate(b\"hello\"*20000)[0][:7])\n"
					     "a=s.Popen([\"seq\",\"1000\"],stdout=s.PIPE); b=s.Popen([\"tail\",\"-1\"],stdin=a.stdout,stdout=s.PIPE); a.stdout.close(); print(b.communicate()[0], a.wait())'" },
	{ .name = "python many", .script = "/usr/bin/python3 -c 'import subprocess as s\nps=[s.Popen([\"sh\",\"-c\",\"exit %d\" % (i % 200)]) for i in range(100)]\nprint([p.wait() for p in ps])'", .seconds = 40 },
	{ .name = "python kill", .script = "/usr/bin/python3 -c 'import subprocess as s,os,signal,time\np=s.Popen([\"sleep\",\"50\"]); time.sleep(0.2); p.terminate(); print(p.wait())\n"
					    "p=s.Popen([\"sleep\",\"50\"]); p.kill(); print(p.wait())\n"
					    "p=s.Popen([\"sh\",\"-c\",\"sleep 50; echo no\"],start_new_session=True); time.sleep(0.3); os.killpg(p.pid,signal.SIGTERM); print(p.wait())\n"
					    "try: s.run([\"sleep\",\"50\"],timeout=0.3)\nexcept s.TimeoutExpired: print(\"timeout\")'" },
	{ .name = "python pool", .script = "/usr/bin/python3 -c 'from multiprocessing import Pool\nimport os\nif __name__ == \"__main__\":\n  with Pool(4) as p: print(sum(p.map(abs, range(-100, 0))))\n'" },
	{ .name = "python spawn", .script = "cat > /tmp/sp.$$.py <<'X'\nfrom multiprocessing import get_context\ndef f(x): return x * x\nif __name__ == '__main__':\n  c = get_context('spawn')\n  with c.Pool(2) as p: print(p.map(f, range(5)))\nX\n/usr/bin/python3 /tmp/sp.$$.py; rm /tmp/sp.$$.py", .seconds = 30 },
	{ .name = "perl", .script = "perl -e 'print `echo back`; system(\"exit 4\"); print $? >> 8, \"\\n\"; open F, \"seq 3 |\"; print <F>; close F; open G, \"| cat\"; print G \"to\\n\"; close G;"
				     "my $p = fork; if (!$p) { exec \"sh\", \"-c\", \"exit 9\" } waitpid $p, 0; print $? >> 8, \"\\n\"; open H, \"-|\", \"false\"; close H; print $?, \"\\n\"'" },
	{ .name = "perl fork in fork", .script = "perl -e 'for (1..5) { next if fork; for (1..3) { next if fork; exec \"/bin/true\" } 1 while wait > 0; exit $_ } $s += $? >> 8 while wait > 0; print \"$s\\n\"'" },

	/* make */
	{ .name = "make", .script = "d=$(mktemp -d); cd $d; printf 'all: a b c d e f\\n\\t@cat a b c d e f\\na b c d e f:\\n\\t@sleep 0.05; echo $@ > $@\\n' > Makefile; make -s -j3; make -s -j3; rm -r $d" },
	{ .name = "make in make", .script = "d=$(mktemp -d); cd $d; printf 'all: x y\\nx y:\\n\\t+@$(MAKE) -s -f sub T=$@\\n' > Makefile; printf 'all: $(T)1 $(T)2 $(T)3\\n%%1 %%2 %%3:\\n\\t@sleep 0.05; echo $@ >> out\\n' > sub;"
					     "make -s -j3 2>&1; sort out; rm -r $d", .seconds = 40 },
	{ .name = "make fails", .script = "d=$(mktemp -d); cd $d; printf 'all: a b\\na:\\n\\t@false\\nb:\\n\\t@true\\n' > Makefile; make -s -j2 2>&1 | grep -c Error; make -s -k >/dev/null 2>&1; echo $?; rm -r $d" },
	{ .name = "cc", .script = "d=$(mktemp -d); cd $d; for i in 1 2 3 4; do echo \"int f$i(void){return $i;}\" > f$i.c; done; echo 'int f1(void),f2(void),f3(void),f4(void);int main(void){return f1()+f2()+f3()+f4();}' > m.c;"
				   "printf 'p: m.o f1.o f2.o f3.o f4.o\\n\\tgcc -o $@ $^\\n' > Makefile; make -s -j4 && ./p; echo $?; rm -r $d", .seconds = 60 },

	/* many */
	{ .name = "100 at once", .script = "for i in $(seq 100); do sh -c \"exit $((i % 100))\" & p[$i]=$!; done; for i in $(seq 100); do wait ${p[$i]}; t=$((t + $?)); done; echo $t", .seconds = 60 },
	{ .name = NULL },
};

const struct program big_programs[] = {
	{ .name = "10000 in a row", .script = "/usr/bin/python3 -c 'import os\nn=0\nfor i in range(10000):\n  n += os.spawnv(os.P_WAIT, \"/bin/true\", [\"true\"]) == 0\nprint(n)'", .seconds = 200 },
	{ .name = "1000 at once", .script = "/usr/bin/python3 -c 'import subprocess as s\nps=[s.Popen([\"sh\",\"-c\",\"read x; exit %d\" % (i % 200)],stdin=s.PIPE) for i in range(1000)]\n"
					    "for p in ps: p.stdin.close()\nprint(sum(p.wait() for p in ps))'", .seconds = 200 },
	{ .name = NULL },
};
