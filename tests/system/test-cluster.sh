#!/usr/bin/env bash
# A cluster of three trial nodes as one machine: programs give what they give outside, wherever they are placed; signals, ends, permissions; and the deaths of
# daemons, nodes and links.
. "$(dirname "$0")/lib.sh"

run() { on 1 "$PANDO" run -- "$@"; }
run_user() { on 1 setpriv --reuid=65534 --regid=65534 --clear-groups "$PANDO" run -- "$@"; }
policy() { on 1 "$PANDO" set policy "$1" && wait_for 5 "policy $1 is known to all" policy_known "$1" >/dev/null; }
policy_known() { for k in 1 2 3; do on $k "$PANDO" status --format=json | grep -q "\"policy\": *\"$1" || return 1; done; }
members_up() { [ "$(on "${2:-1}" "$PANDO" status --format=json | python3 -c 'import json, sys; print(json.load(sys.stdin)["up"])')" = "$1" ]; }
state_is() { on "$1" "$PANDO" status --format=json | grep -q "\"state\": *\"$2"; }
settled() { [ "$(on 1 "$PANDO" ps --format=json | grep -c '"command": *"sleep 3"')" = 8 ]; }
idle() { for k in 1 2 3; do [ "$(on $k "$PANDO" status --format=json | python3 -c 'import json, sys; print(json.load(sys.stdin)["processes"])')" = 0 ] || return 1; done; }

cluster_up 3 || exit 1
wait_for 10 "three nodes are up" members_up 3

# --- programs: the same output and status as outside ---

programs() {
	cat <<'P'
bash -c 'cat <(seq 9) | tail -1'
bash -c 'x=$(/bin/echo hello); y=$(/bin/echo a; /bin/echo b); echo $x $y'
bash -c 'for i in $(seq 40); do s=$(/bin/echo $i); t=$((t + s)); done; echo $t'
bash -c 'set -o pipefail; /bin/false | cat; echo $?; exit 3'
sh -c 'seq 100000 | sort -n | tail -1'
sh -c 'find /etc -name "*.conf" 2>/dev/null | sort | head -50 | xargs -P8 -n5 md5sum | sort | md5sum'
sh -c 'timeout 0.3 sleep 9; echo $?'
bash -c '/bin/sleep 5 & kill $!; wait $!; echo $?'
bash -c '/bin/sleep 0.2 & /bin/sleep 0.1 & wait; jobs; echo done'
bash -c 'trap "echo got" USR1; (/bin/sleep 0.2; kill -USR1 $$) & wait; echo end'
bash -c '/bin/sh -c "kill -TERM \$\$"; echo $?'
bash -c 'exec 2>/dev/null; /bin/sh -c "kill -KILL \$\$"; echo $?; /bin/sh -c "ulimit -c 0; kill -SEGV \$\$"; echo $?'
bash -c 'set -m; /bin/sleep 3 & kill -STOP %1; /bin/sleep 0.3; jobs; kill -CONT %1; /bin/sleep 0.3; jobs; kill %1; wait %1; echo $?'
bash -c 'set -m; (/bin/sleep 5; echo no) & p=$!; /bin/sleep 0.2; kill -- -$p; wait $p; echo $?'
python3 -c 'import subprocess; print(subprocess.check_output(["/bin/echo","x"]), subprocess.run("exit 5",shell=True).returncode)'
python3 -c 'import subprocess as s; p=s.Popen(["/usr/bin/tr","a-z","A-Z"],stdin=s.PIPE,stdout=s.PIPE); print(p.communicate(b"hello"*1000)[0][:10], p.returncode)'
python3 -c 'import os,stat; r,w=os.pipe(); p=os.fork() or os.execv("/bin/sh",["sh","-c","exit 9"]); print(os.waitpid(p,0)[1])'
perl -e 'print `/bin/echo perl`; system("/bin/false"); print $?>>8,"\n"; open(F,"-|","seq 3"); print <F>;'
sh -c 'cat <<X | tr a-z A-Z; echo $((1+1))
hello
X'
dash -c 'for i in 1 2 3; do /bin/echo $i > $PANDO_TEST_FILES.$i; done; cat $PANDO_TEST_FILES.*; rm $PANDO_TEST_FILES.*'
setsid -w sh -c '/bin/echo in a session; exit 4'
nohup sh -c '/bin/echo nohup'
bash -c 'yes | head -1000 | wc -l'
sh -c 'echo a | python3 -c "import os, stat; print(stat.S_ISFIFO(os.fstat(0).st_mode))"'
sh -c 'grep SigIgn /proc/self/status; id -un; umask; pwd; ulimit -n'
bash -c 'echo one two | while read a b; do /bin/echo $b $a; done'
sh -c 'find /usr/include -name "s*.h" | xargs -P4 -n20 cat | md5sum | wc -c'
sh -c 'exit 37'
P
}
export PANDO_TEST_FILES=$T/file
compare() { # POLICY
	local text="" line outside inside
	policy "$1"
	while IFS= read -r line; do
		text+=${text:+$'\n'}$line
		[ $(($(tr -cd "'" <<<"$text" | wc -c) % 2)) = 0 ] || continue
		outside=$(timeout 30 sh -c "$text" </dev/null 2>&1; echo "status $?")
		inside=$(run timeout 30 sh -c "$text" </dev/null 2>&1; echo "status $?")
		check_eq "$1: $text" "$outside" "$inside"
		text=""
	done < <(programs)
}
compare local
compare elsewhere
compare random
wait_for 10 "no process is left of them" idle

# --- a build ---

mkdir "$T/tree"
for k in $(seq 24); do printf '#include <stdio.h>\nint f%d(int a) { return printf("%%d\\n", a + %d); }\n' $k $k >"$T/tree/f$k.c"; done
cat >"$T/tree/Makefile" <<'M'
all: lib.a
lib.a: $(patsubst %.c,%.o,$(wildcard *.c))
	ar rcD $@ $^
	+@$(MAKE) --no-print-directory sub
sub: s1 s2 s3 s4
s%:
	@echo sub $@
M
built() { md5sum <"$T/tree/lib.a"; sort "$T/$1.log" | md5sum; }
build() { rm -f "$T"/tree/*.o "$T"/tree/lib.a; }
if command -v cc >/dev/null && command -v make >/dev/null; then
	build; make -C "$T/tree" -j4 >"$T/outside.log" 2>&1
	want=$(built outside)
	for p in random elsewhere balance; do
		policy $p
		build; run make -C "$T/tree" -j8 >"$T/inside.log" 2>&1
		check_eq "$p: make -j8 > log: the same library, each line once" "$want" "$(built inside)"
		build; run sh -c "make -C $T/tree -j8 2>&1 | tee $T/inside.log" >"$T/tee.log"
		check_eq "$p: make -j8 | tee: the same, in both" "$want $(tail -1 <<<"$want")" "$(built inside) $(sort "$T/tee.log" | md5sum)"
	done
	policy random
	build; run make -C "$T/tree" -j8 >"$T/inside.log" 2>&1 & builder=$!
	for k in 1 2 3; do on $k pkill -9 -x pandod; done
	wait $builder # a process that is just being placed may be killed by it; nothing hangs, and nothing is there twice
	check_eq "daemons killed under a build: it ends, no line is there twice" "" "$(grep '^cc' "$T/inside.log" | sort | uniq -d)"
	wait_for 10 "all nodes are up again" members_up 3
else
	say "skip: no compiler here"
fi

# --- many, and what they leave ---

policy random
check_eq "300 in a row: every status is right" "done" "$(run bash -c 'for i in $(seq 300); do /bin/sh -c "exit $((i % 200))"; [ $? = $((i % 200)) ] || echo "$i: $?"; done; echo done')"
check_eq "60 at once: every status is right" "done" "$(run bash -c 'for i in $(seq 60); do /bin/sh -c "sleep 0.2; exit $i" & p[$i]=$!; done; for i in $(seq 60); do wait ${p[$i]}; [ $? = $i ] || echo "$i: $?"; done; echo done')"
wait_for 10 "no process is left of them" idle

on 1 "$PANDO" run --node 1 -- bash -c 'for i in $(seq 8); do /bin/sh -c "sleep 3; exit $i" & p[$i]=$!; done; echo ready; for i in $(seq 8); do wait ${p[$i]}; echo $?; done' >"$T/ends" 2>&1 & far=$!
wait_for 10 "processes run on all nodes" grep -q ready "$T/ends"
wait_for 10 "and have begun" settled
for k in 1 2 3; do on $k pkill -9 -x pandod; done
wait $far
check_eq "all daemons killed: programs go on, pando run finds them again, every status is right" "0 ready 1 2 3 4 5 6 7 8" "$? $(paste -sd' ' "$T/ends")"
wait_for 10 "all nodes are up again" members_up 3

# --- signals with their senders ---

policy elsewhere
cat >"$T/queue.py" <<'P'
import ctypes, os, signal, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
child = subprocess.Popen([sys.executable, sys.argv[1]], stdout=subprocess.PIPE)
assert child.stdout.readline() == b"ready\n"
for k in range(3):
    assert libc.sigqueue(child.pid, signal.SIGRTMIN + 1, ctypes.c_void_p(40 + k)) == 0
os.kill(child.pid, signal.SIGUSR1)
for line in child.stdout:
    signo, pid, value = line.split()
    print(int(signo) - signal.SIGRTMIN if int(signo) >= 32 else int(signo), int(pid) == os.getpid(), value.decode())
print(child.wait())
P
cat >"$T/queued.py" <<'P'
import ctypes, signal
some = {signal.SIGRTMIN + 1, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, some)
print("ready", flush=True)
got = []
libc = ctypes.CDLL(None)
for k in range(4):
    s = signal.sigwaitinfo(some)
    got.append((s.si_signo, s.si_pid, s.si_code))
for g in sorted(got):
    print(*g, flush=True)
P
check_eq "signals to a process elsewhere: each once, from the right sender" "$(python3 "$T/queue.py" "$T/queued.py")" "$(run python3 "$T/queue.py" "$T/queued.py" 2>&1)"

# --- a terminal ---

for p in local elsewhere; do
	policy $p
	check "$p: an interactive shell with job control" python3 "$(dirname "$0")/job-control.py" "$PANDO" dev exec 1 -- "$PANDO" run -- bash --norc -i
done

# --- other users ---

if command -v setpriv >/dev/null; then
	chmod 755 "$T"
	policy elsewhere
	check_eq "an ordinary user's command is that user's" "65534" "$(run_user sh -c '/usr/bin/id -u')"
	run sh -c '/bin/sleep 600 & echo $!; wait' >"$T/pid" & victim=$!
	wait_for 5 "a process of root runs elsewhere" test -s "$T/pid"
	pid=$(cat "$T/pid")
	check "a user cannot signal it" ! run_user /bin/kill -TERM "$pid"
	check "or read its environment" ! run_user cat "/proc/$pid/environ"
	check "or its memory map" ! run_user cat "/proc/$pid/maps"
	check "or its descriptors" ! run_user ls "/proc/$pid/fd/"
	check "or change its features" ! on 1 setpriv --reuid=65534 --regid=65534 --clear-groups "$PANDO" features "$pid" -place
	check "or ask why it stays" ! on 1 setpriv --reuid=65534 --regid=65534 --clear-groups "$PANDO" why "$pid"
	check "root can: pando why" on 1 "$PANDO" why "$pid"
	check "root can: pando features" on 1 "$PANDO" features "$pid" -place
	check_match "ps shows it" "*sleep 600*" "$(run ps -p "$pid" -o args=)"
	check "root can end it" run /bin/kill -TERM "$pid"
	wait $victim
	check_eq "and its parent goes on" 0 $?
fi

# --- features ---

cpus() { on 1 "$PANDO" run -f "$1" -- sh -c '/bin/sh -c "grep -c ^processor /proc/cpuinfo"'; }
check_eq "with cluster-cpus /proc has the CPUs of all nodes, without those of one" "$(($(cpus -cluster-cpus) * 3))" "$(cpus +cluster-cpus)"
check_eq "with local-proc /proc has the processes of its own node only" "here, not there" "$(on 1 "$PANDO" run -f +local-proc -- bash -c '/bin/sleep 9 & cd /proc && for k in 1 2 3 4 5 6; do /bin/sh -c "[ -e /proc/$!/stat ] && echo here || echo not there"; done; kill $!' | sort -u | paste -sd, | sed 's/,/, /')"
check "without place everything stays on one node" test "$(on 1 "$PANDO" run -f -place -- sh -c 'for k in 1 2 3 4 5; do readlink /proc/self/ns/net; done' | sort -u | wc -l)" = 1
check "what is not there yet says so" ! on 1 "$PANDO" run -f +migrate -- true

# --- a node dies ---

policy random
on 1 "$PANDO" run --node 1 -- bash -c 'for i in $(seq 12); do /bin/sleep 6 & p[$i]=$!; done; echo ready; for i in $(seq 12); do wait ${p[$i]}; echo $?; done >'"$T/ends" >"$T/far" 2>&1 & far=$!
wait_for 10 "processes run on all nodes" grep -q ready "$T/far"
"$PANDO" dev kill 3
wait $far
check_eq "a node killed under load: its processes end as by SIGKILL, the others as they do" "0 137" "$(sort -nu "$T/ends" | paste -sd' ')"
wait_for 10 "the others know" members_up 2
check_eq "and go on" "on" "$(run /bin/echo on)"
check "it is turned on again" "$PANDO" dev start 3
wait_for 20 "and is a member again" members_up 3
check "and is used" run "$PANDO" run --node 3 -- /bin/true

# --- the network is parted ---

"$PANDO" dev part "1 2" "3"
wait_for 10 "the majority knows" members_up 2
check_eq "and goes on" "on" "$(run /bin/echo on)"
wait_for 10 "the minority stands still" state_is 3 frozen
check "and starts nothing" ! on 3 timeout 5 "$PANDO" run -- /bin/true
"$PANDO" dev heal
wait_for 20 "healed: all are up" members_up 3
wait_for 20 "and the minority's node is used again" on 3 "$PANDO" run -- /bin/true
wait_for 10 "no process is left" idle
