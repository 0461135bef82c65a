#!/bin/bash
# What is tried within the space of node 1 of a made-up cluster (src/procfs/fake-cluster.c); run by test-procfs.sh with the name of a part.
# Node i has the pids from i*32768 + 1 on; nodes 2 and up have sleepers, every second one of uid 65534.
set -u
T=$1
part=$2
R=65537 # a sleeper of root on node 2
U=65538 # one of uid 65534 there

ok() { echo "ok $1"; }
not_ok() { echo "not ok $1"; shift; [ $# = 0 ] || printf '%s\n' "$*" | sed 's/^/    /' | head -20; }
check() { # as in lib.sh
	local sentence=$1 want=0 got
	shift
	if [ "$1" = "!" ]; then want=1; shift; fi
	timeout 60 "$@" >"$T/in.out" 2>&1 </dev/null
	got=$?
	if [ $((got != 0)) = $want ] && [ $got != 124 ]; then ok "$sentence"; else not_ok "$sentence" "status $got of: $*
$(cat "$T/in.out")"; fi
}
check_eq() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "expected: $2
got: $3"; fi; }
has() { command -v "$1" >/dev/null 2>&1 || { echo "skip no $1 here"; return 1; }; }
sh_check() { local s=$1; shift; check "$s" bash -c "$@"; }
as() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }
as_check() { # SENTENCE UID [!] COMMAND...
	local s=$1 uid=$2 not=
	shift 2
	if [ "$1" = "!" ]; then not=!; shift; fi
	check "$s" $not setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
}
ctl() { echo "$*" >"$FAKE_CTL"; }
until_true() { # SENTENCE COMMAND...: within 20 s
	local s=$1 end=$((SECONDS + 20))
	shift
	until "$@" >/dev/null 2>&1; do
		if [ $SECONDS -ge $end ]; then not_ok "$s"; return 1; fi
		sleep 0.05
	done
	ok "$s"
}
pids() { ls /proc | grep -E '^[0-9]+$' | sort -n; }

remote_files() {
	check_eq "the list has the processes of all nodes" "65537 65538 65539 65540 98305 98306 98307 98308" "$(pids | awk '$1 > 65536' | xargs)"
	sh_check "and this one" "[ -d /proc/$$ ] && ls /proc | grep -qx $$"
	check_eq "no pid is listed twice" "" "$(pids | uniq -d)"
	check_eq "stat" "$R (sleeper0) S 1" "$(cut -d' ' -f1-4 /proc/$R/stat)"
	check_eq "stat has all fields" 52 "$(wc -w </proc/$R/stat)"
	check_eq "status" "sleeper0 65537 1" "$(awk '/^Name:|^Pid:|^PPid:/ {printf "%s%s", s, $2; s = " "}' /proc/$R/status)"
	check_eq "status tells the owner" 65534 "$(awk '/^Uid:/ {print $2}' /proc/$U/status)"
	check_eq "comm" sleeper1 "$(cat /proc/$U/comm)"
	check_eq "cmdline" "--server" "$(tr '\0' '\n' </proc/$R/cmdline | sed -n 2p)"
	check_eq "environ" "MARK=7" "$(tr '\0' '\n' </proc/$R/environ | grep ^MARK=)"
	check_eq "statm" 7 "$(wc -w </proc/$R/statm)"
	check_eq "exe" "$FAKE_EXE" "$(readlink /proc/$R/exe)"
	check_eq "cwd" "$PWD" "$(readlink /proc/$R/cwd)"
	check_eq "root" / "$(readlink /proc/$R/root)"
	check_eq "fd" /dev/null "$(readlink /proc/$R/fd/0)"
	check_eq "fdinfo" pos: "$(awk 'NR == 1 {print $1}' /proc/$R/fdinfo/0)"
	check_eq "task" $R "$(ls /proc/$R/task)"
	check_eq "files of a task" sleeper0 "$(cat /proc/$R/task/$R/comm)"
	sh_check "maps" "grep -q '\[stack\]' /proc/$R/maps"
	sh_check "smaps, limits, io, cgroup, mountinfo" "for f in smaps limits io cgroup mountinfo; do [ -n \"\$(cat /proc/$R/\$f)\" ] || exit 1; done"
	check_eq "ns" pid: "$(readlink /proc/$R/ns/pid | cut -c1-4)"
	check_eq "oom_score_adj is read only" 1 "$( (echo 5 >/proc/$R/oom_score_adj) 2>/dev/null; echo $?)"
	check_eq "owner and mode of the directory" "65534 555" "$(stat -c '%u %a' /proc/$U)"
	check_eq "owner of a file" 65534 "$(stat -c %u /proc/$U/environ)"
	check "no such file" ! cat /proc/$R/nonesuch
	check "no such process" ! ls /proc/65599
	sh_check "every file of a process can be looked at" "ls -lR /proc/$R >/dev/null 2>&1; ls -l /proc/$R | grep -c . | grep -qE '^[4-9][0-9]'"
	check_eq "mem is read where something is mapped" ELF "$(python3 - $R 2>&1 <<-'END'
		import sys
		pid = sys.argv[1]
		at = int(next(l for l in open(f"/proc/{pid}/maps") if l.split()[2:3] == ["00000000"] and "/" in l).split("-")[0], 16)
		f = open(f"/proc/{pid}/mem", "rb", 0); f.seek(at); print(f.read(4)[1:].decode())
		END
	)"
}

remote_users() {
	as_check "a user reads his own environ elsewhere" 65534 grep -qz ^MARK=7 /proc/$U/environ
	as_check "his maps" 65534 grep -q stack /proc/$U/maps
	as_check "his descriptors" 65534 readlink /proc/$U/fd/0
	as_check "his exe" 65534 readlink /proc/$U/exe
	as_check "not the environ of root" 65534 ! cat /proc/$R/environ
	as_check "not the maps of root" 65534 ! cat /proc/$R/maps
	as_check "not the memory of root" 65534 ! head -c1 /proc/$R/mem
	as_check "not the descriptors of root" 65534 ! ls /proc/$R/fd
	as_check "nor one of them by its name" 65534 ! readlink /proc/$R/fd/0
	as_check "not the exe of root" 65534 ! readlink /proc/$R/exe
	as_check "another user: not environ" 4711 ! cat /proc/$U/environ
	as_check "another user: not memory" 4711 ! head -c1 /proc/$U/mem
	as_check "another user: not descriptors" 4711 ! ls /proc/$U/fd
	as_check "another user: not cwd" 4711 ! readlink /proc/$U/cwd
	as_check "another user: not io" 4711 ! cat /proc/$U/io
	as_check "everybody reads stat, status, cmdline" 4711 cat /proc/$R/stat /proc/$R/status /proc/$R/cmdline /proc/$U/stat
	check_eq "but no addresses in stat" "0 0 0" "$(as 4711 cut -d' ' -f28-30 /proc/$R/stat)"
	as_check "the list is for everybody" 4711 bash -c "ls /proc | grep -qx $U"
	check_eq "root without capabilities is nobody special" 1 "$(setpriv --bounding-set=-all --inh-caps=-all cat /proc/$U/environ >/dev/null 2>&1; echo $?)"
	as_check "a refusal comes back after root has read it" 4711 ! cat /proc/$U/environ
	# local processes, through the links
	as_check "a user reads his own local environ" 4711 cat /proc/self/environ
	as_check "not that of pid 1" 4711 ! cat /proc/1/environ
	as_check "not the exe of pid 1" 4711 ! readlink /proc/1/exe
	check_eq "exe of a local process is its true text" "$(command -v bash | xargs readlink -f)" "$(readlink /proc/$$/exe)"
}

tools() {
	check_eq "ps -ef --forest" 8 "$(ps -ef --forest | awk '$2 + 0 > 65536' | wc -l)"
	sh_check "ps shows the tree of this one" 'ps -ef --forest | grep -q "\\\\_ .*ps -ef"'
	check_eq "ps -p of a remote one" sleeper1 "$(ps -o comm= -p $U)"
	check_eq "ps -u" 4 "$(ps -u 65534 -o pid= | wc -l)"
	sh_check "top -b -n1" "top -b -n1 -w 200 | grep -qE '^ *$U .*sleeper1'"
	check_eq "pgrep" "65538 98306" "$(pgrep -x sleeper1 | xargs)"
	check_eq "pidof" 65537 "$(pgrep -x sleeper0 | head -1)"
	if has pstree; then sh_check "pstree" "pstree -p 1 | grep -q 'sleeper1($U)'"; fi
	if has lsof; then sh_check "lsof of a remote process" "lsof -p $R 2>/dev/null | grep -q /dev/null"; fi
	if has pmap; then sh_check "pmap of a remote process" "pmap $R | grep -q total"; fi
	if has pwdx; then check_eq "pwdx" "$R: $PWD" "$(pwdx $R)"; fi
	if has htop && has script; then
		# It draws once and is ended; what it wrote is looked at.
		TERM=xterm timeout 3 script -qec 'stty rows 60 cols 200; exec htop -d 1' /dev/null </dev/null >"$T/htop.out" 2>&1
		sh_check "htop shows processes of all nodes" "grep -aq -e --server '$T/htop.out' && grep -aq -e 65538 '$T/htop.out'"
	fi
	check_eq "find takes processes for directories" 1 "$(find /proc -maxdepth 1 -name $U -type d | wc -l)"
	check_eq "the nodes are there by name" "node1 node2 node3" "$(ls /proc/.nodes | xargs)"
	check_eq "the processes of one node" "98305 98306 98307 98308" "$(ls /proc/.nodes/node3 | grep -E '^[0-9]+$' | xargs)"
	check_eq "this node's own are listed once" "" "$(ls /proc/.nodes/node1 | sort | uniq -d)"
	check_eq "and nothing of other nodes' there" "" "$(ls /proc/.nodes/node1 | awk '$1 + 0 > 65536')"
	check_eq "every node has the same figures" "$(ls /proc/.nodes/node2 | grep -vE '^[0-9]+$' | xargs)" "$(ls /proc/.nodes/node1 | grep -vE '^[0-9]+$' | xargs)"
	check "no other files" ! ls -d /proc/.nodes/node1/self /proc/.nodes/node1/kcore
	check_eq "and lead to the process" sleeper1 "$(cat /proc/.nodes/node2/$U/comm)"
	sh_check "a node's own figures" "grep -q MemTotal /proc/.nodes/node2/meminfo"
}

selves() {
	sh_check "self is the one who asks" '[ "$(awk "/^Pid:/ {print \$2}" /proc/self/status)" != $$ ] && read -r pid rest </proc/self/stat && [ $pid = $$ ]'
	sh_check "thread-self" 'read -r pid rest </proc/thread-self/stat && [ $pid = $$ ]'
	sh_check "self/fd is the one's who asks" 'exec 9</etc/passwd; [ "$(readlink /proc/self/fd/9)" = /etc/passwd ]'
	sh_check "process substitution" '[ "$(cat <(echo a) <(echo b) | xargs)" = "a b" ]'
	sh_check "/dev/stdin" '[ "$(echo x | cat /dev/stdin)" = x ]'
	sh_check "an open file of one's own is opened again" 'exec 9<<<hello; [ "$(cat /proc/self/fd/9)" = hello ]'
	sh_check "sysctl reads" '[ "$(sysctl -n kernel.ostype)" = Linux ] && [ "$(sysctl -a 2>/dev/null | wc -l)" -gt 300 ]'
	sh_check "sysctl writes" 'v=$(sysctl -n kernel.shmmni) && sysctl -qw kernel.shmmni=$((v + 1)) && [ "$(cat /proc/sys/kernel/shmmni)" = $((v + 1)) ] && sysctl -qw kernel.shmmni=$v'
	sh_check "a local file is written" 'echo 100 >/proc/self/oom_score_adj && [ "$(cat /proc/$$/oom_score_adj)" != x ]'
	n=$(grep -c ^processor /proc/.n/cpuinfo)
	check_eq "cpuinfo of the cluster" $((3 * n)) "$(grep -c ^processor /proc/cpuinfo)"
	check_eq "processors are numbered through" $((3 * n - 1)) "$(grep ^processor /proc/cpuinfo | tail -1 | awk '{print $3}')"
	check_eq "stat has the cluster's cpus" $((3 * n)) "$(grep -c '^cpu[0-9]' /proc/stat)"
	sh_check "meminfo is summed" '[ "$(awk "/^MemTotal/ {print \$2}" /proc/meminfo)" = $((3 * $(awk "/^MemTotal/ {print \$2}" /proc/.n/meminfo))) ]'
	sh_check "loadavg" '[ "$(wc -w </proc/loadavg)" = 5 ]'
	sh_check "uptime" '[ "$(wc -w </proc/uptime)" = 2 ] && uptime && free && vmstat'
	sh_check "mounts" 'grep -q " /proc fuse" /proc/mounts && grep -q " /proc/.n proc" /proc/self/mountinfo /proc/self/mounts'
	sh_check "version, filesystems, net" '[ -s /proc/version ] || [ -n "$(cat /proc/version)" ]; grep -q fuse /proc/filesystems && [ -n "$(cat /proc/net/dev)" ]'
	check "nothing is made or removed" ! touch /proc/new
	check "no directory is made" ! mkdir /proc/new
	if unshare -U true 2>/dev/null; then
		check "unshare --mount-proc as root" unshare --pid --fork --mount-proc bash -c '[ "$(ls /proc | grep -cE "^[0-9]+$")" -le 4 ]'
		as_check "unshare --mount-proc as a user" 4711 unshare --user --map-root-user --pid --fork --mount-proc sh -c 'read -r pid rest </proc/self/stat && [ $pid = 1 ]'
	else
		echo "skip no user namespaces here"
	fi
	if has bwrap; then
		check "bwrap --proc as root" bwrap --ro-bind / / --dev /dev --proc /proc --unshare-pid sh -c '[ "$(cat /proc/1/comm)" != "" ]'
		as_check "bwrap --proc as a user" 4711 bwrap --ro-bind / / --dev /dev --proc /proc --unshare-pid --unshare-user sh -c 'cat /proc/1/comm'
		check "bwrap with the whole of /proc" bwrap --bind / / --dev-bind /dev /dev sh -c "cat /proc/$R/comm"
	fi
	mkdir "$T/root"
	check "mount --rbind of /proc elsewhere" sh -c "mount --rbind /proc $T/root && cat $T/root/$R/comm $T/root/self/comm; umount -l $T/root"
	check "mount --bind of /proc elsewhere" sh -c "mount --bind /proc $T/root && cat $T/root/$R/comm $T/root/self/comm; umount -l $T/root"
	rmdir "$T/root"
	if has python3; then sh_check "python finds its processors and descriptors" 'python3 -c "import os; os.cpu_count(); os.listdir(\"/proc/self/fd\")"'; fi
}

told() {
	ctl hide $$
	until_true "a hidden pid is not listed" bash -c "! ls /proc | grep -qx $$"
	check "nor is it there" ! ls -d /proc/$$
	ctl gone $$
	until_true "shown again" bash -c "ls /proc | grep -qx $$"
	ctl remote $$ 2 4711 4711
	until_true "a pid whose body is away is shown with its owner" bash -c "[ \"\$(stat -c %u /proc/$$)\" = 4711 ]"
	check "its files are asked for there" ! cat /proc/$$/stat
	ctl gone $$
	until_true "and comes back" bash -c "read -r pid rest </proc/$$/stat"
	me=$$
	ctl features $me 1
	until_true "feature local-proc: the node's own only" bash -c "ls /proc >/dev/null; exec 8<>$T/x; ps --no-headers -o pid -p $me"
	local_only() { local n=0 f; for f in /proc/[0-9]*; do [ "${f#/proc/}" -gt 65536 ] && n=$((n + 1)); done; [ $n = 0 ]; }
	until_true "its list has no others" local_only
	local n=0 a b
	while read -r a b; do [ "$a" = processor ] && n=$((n + 1)); done </proc/cpuinfo
	check_eq "its figures are the node's own" "$(grep -c ^processor /proc/.n/cpuinfo)" $n
	ctl features $me 2
	all_again() { ! local_only; }
	until_true "and all again" all_again
	ctl bounce
	until_true "after pandod came back the list is whole" bash -c "[ \$(ls /proc | grep -cE '^(65|98)[0-9]{3}\$') = 8 ]"
}

deaths() {
	local i bad=0 n out
	for i in 1 2 3; do
		(while [ ! -e "$T/stop" ]; do timeout 60 ps -ef >"$T/bg.$i" || echo "$?" >>"$T/bad"; done) &
	done
	for i in $(seq 12); do
		ctl kill 1
		out=$(timeout 60 ps -e -o pid=) || bad=$((bad + 1))
		n=$(echo "$out" | awk '$1 > 65536' | wc -l)
		[ "$n" = 8 ] || { bad=$((bad + 1)); echo "    $n of 8 after kill $i"; }
	done
	: >"$T/stop"
	wait
	check_eq "ps is right while the server is killed 12 times" 0 $bad
	check "no ps of those at the side failed" ! test -e "$T/bad"
	exec 7</proc/$R/status
	ctl kill 1
	check_eq "an open file of a remote process is read after a kill" sleeper0 "$(timeout 60 awk '/^Name:/ {print $2}' <&7)"
	exec 7<&-
	ctl nojournal
	until_true "a server without the journal serves as well" bash -c "[ \$(timeout 10 ps -e -o pid= | awk '\$1 > 65536' | wc -l) = 8 ]"
	ctl kill 1
	until_true "and the one after it" bash -c "[ \$(timeout 10 ps -e -o pid= | awk '\$1 > 65536' | wc -l) = 8 ]"
}

away() {
	ctl stop 2
	check "a node that does not answer holds no list up" ps -ef
	check "what it is asked for ends" ! cat /proc/$R/environ
	check_eq "the others are there" 4 "$(ps -e -o pid= | awk '$1 > 98304' | wc -l)"
	check "figures as well" cat /proc/stat /proc/meminfo /proc/loadavg
	timeout 60 cat /proc/$R/smaps >/dev/null 2>&1 &
	wait $!
	check_eq "a reader of it can be interrupted" 1 "$(timeout -s INT 0.3 cat /proc/$R/limits >/dev/null 2>&1; s=$?; [ $s != 0 ] && echo 1)"
	ctl cont 2
	until_true "back when it answers again" bash -c "[ \$(ps -e -o pid= | awk '\$1 > 65536 && \$1 < 98304' | wc -l) = 4 ]"
	ctl down 2
	until_true "a node that is down has no processes" bash -c "[ \$(ps -e -o pid= | awk '\$1 > 65536 && \$1 < 98304' | wc -l) = 0 ]"
	check "nor files" ! cat /proc/$R/comm
	check_eq "and no processors" $((2 * $(grep -c ^processor /proc/.n/cpuinfo))) "$(grep -c ^processor /proc/cpuinfo)"
	ctl up 2
	until_true "up again" bash -c "[ \$(ps -e -o pid= | awk '\$1 > 65536 && \$1 < 98304' | wc -l) = 4 ]"
}

speed() {
	local i best=9999999 a b
	for i in 1 2 3 4 5; do
		a=${EPOCHREALTIME/./}
		ps aux >"$T/ps.out"
		b=$((${EPOCHREALTIME/./} - a))
		[ $b -lt $best ] && best=$b
	done
	check_eq "ps aux shows 3000 remote processes" 3000 "$(awk '$2 + 0 > 65536' "$T/ps.out" | wc -l)"
	echo "remote $best us"
	: >"$T/measured"
	until_true "the other side has measured" test -e "$T/native"
}

unfinished() {
	local pid rest
	read -r pid rest </proc/self/stat
	check_eq "without the inner procfs: self" $$ "$pid"
	check "local files" cat /proc/1/stat /proc/1/status /proc/self/cmdline
	check_eq "local and remote are listed" 8 "$(pids | awk '$1 > 65536' | wc -l)"
	check_eq "sys is read" Linux "$(cat /proc/sys/kernel/ostype)"
	sh_check "and written" 'v=$(cat /proc/sys/kernel/shmmni) && echo $((v + 1)) >/proc/sys/kernel/shmmni && [ "$(cat /proc/sys/kernel/shmmni)" = $((v + 1)) ]'
	as_check "written by root only" 4711 ! bash -c 'echo 1 >/proc/sys/kernel/shmmni'
	as_check "a user's own environ" 4711 cat /proc/self/environ
	as_check "not that of root" 4711 ! cat /proc/1/environ
	sh_check "descriptors" 'exec 9</etc/passwd; [ "$(readlink /proc/self/fd/9)" = /etc/passwd ]'
}

"$part"
