#!/bin/bash
# pando dev: trial clusters come up, are what they should be, break as asked, and leave nothing.
# The service here is a small TCP server (5000: sends each line back), so that this can be tried without a pandod.
. "$(dirname "$0")/lib.sh"

cat >"$T/echo.pl" <<'END'
use Socket; $| = 1;
socket(S, PF_INET, SOCK_STREAM, 0); setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1);
bind(S, sockaddr_in(5000, INADDR_ANY)) or die "bind: $!"; listen(S, 16); $SIG{CHLD} = "IGNORE";
while (accept(C, S)) { next if fork; select(C); $| = 1; while (<C>) { print C $_ } exit }
END
service="exec perl $T/echo.pl"

talk() { # talk FROM TO: does a line come back within a second?
	on "$1" timeout 1 bash -c "exec 3<>/dev/tcp/node$2/5000 && echo hello >&3 && read -r x <&3 && [ \$x = hello ]"
}
ms_of() { local a; a=$(now_ms); "$@" >/dev/null 2>&1; echo $(($(now_ms) - a)); }
state_of() { "$PANDO" dev status --format=json | awk -v n="$1" '/"node":/ {i = $2 + 0} /"state":/ && i == n {gsub(/[",]/, ""); print $2}'; }

# --- up, and what a node is ---
check "up of 3 nodes" cluster_up 3 --service "$service"
for i in 1 2 3; do wait_for 5 "node $i has its service" talk "$i" "$i"; done
check "list shows it" grep -q "^$PANDO_DEV_NAME .*up .*3 .*3 " <("$PANDO" dev list)
check_eq "status says that node 2 is up" up "$(state_of 2)"
check "status as text" "$PANDO" dev status
check_eq "the host name is the node's" node2 "$(on 2 hostname)"
check_eq "pid 1 is the node's own" 1 "$(on 1 pgrep -f -- 'dev --init' | head -1)"
check "the monotonic clocks are 100000 s apart" awk -v a="$(on 1 cut -d. -f1 /proc/uptime)" -v b="$(on 2 cut -d. -f1 /proc/uptime)" \
	'BEGIN {d = b - a; exit !(d > 99990 && d < 100010)}'
on 1 sh -c "echo from1 >$T/shared; echo x >/run/own-$TEST_ID; echo x >/var/lib/own-$TEST_ID; echo x >/dev/shm/own-$TEST_ID"
check_eq "/tmp is shared" from1 "$(on 2 cat "$T/shared")"
for d in /run /var/lib /dev/shm; do check "$d is private" ! on 2 test -e $d/own-$TEST_ID; done
check "and not the machine's" ! ls /run/own-$TEST_ID /var/lib/own-$TEST_ID /dev/shm/own-$TEST_ID
check "the machine's /var/lib is seen" on 1 test -d /var/lib/dpkg
check "a node sees only its own processes" test "$(on 1 ps ax | wc -l)" -lt 10
check "a node can make cgroups of its own" on 1 sh -c 'for d in $(awk "\$3 ~ /^cgroup/ {print \$2}" /proc/mounts); do mkdir $d/x && rmdir $d/x || exit 1; done'
check "eth0 is there, and it is up" on 1 sh -c 'ip -br a show eth0 | grep -q UP'
check "pando is in the PATH" on 1 sh -c 'command -v pando'
check "the same name twice is refused" grep -q "already" <("$PANDO" dev up 2 --service true 2>&1)
check "nodes reach each other by name" talk 1 3

# --- exec ---
on 1 sh -c 'exit 7'; check_eq "exit status" 7 $?
on 1 nosuchcommand 2>/dev/null; check_eq "no such command: 127" 127 $?
on 1 /etc/passwd 2>/dev/null; check_eq "not executable: 126" 126 $?
(on 1 sh -c 'kill -TERM $$'); check_eq "killed by a signal" 143 $?
on 9 true 2>/dev/null; check_eq "no such node: 125" 125 $?
check_eq "input and output" "abc" "$(echo abc | on 1 cat)"
check_eq "arguments as they are" "a  b|-x|" "$(on 1 printf '%s|' 'a  b' -x)"
check_eq "the directory is kept" "$T" "$(cd "$T" && on 1 pwd)"
check_eq "the environment is kept" "v w" "$(V='v w' on 1 sh -c 'echo "$V"')"
timeout -s INT 0.3 "$PANDO" dev exec 1 -- sh -c 'trap "exit 9" INT; while :; do sleep 0.05; done'; check_eq "a signal is passed on" 124 $?
check "and the command has ended" ! on 1 pgrep -f 'trap .exit 9'
"$PANDO" dev exec 1 -- sleep 4711 & victim=$!
wait_for 5 "exec runs" on 1 pgrep -f 'sleep 4711'
kill -9 $victim; wait $victim 2>/dev/null
wait_for 5 "exec killed outright: the command ends too" on 1 sh -c '! pgrep -f "[s]leep 4711"'

# --- terminal ---
tty_run() { script -qec "$PANDO dev exec 1 -- $1" /dev/null </dev/null | tr -d '\r'; }
check_match "a terminal of the node" "/dev/pts/[0-9]*" "$(tty_run tty)"
check_match "of the right size" "*33 77*" "$(script -qec "stty rows 33 cols 77; $PANDO dev exec 1 -- stty size" /dev/null </dev/null)"
check_eq "job control" "[1] done" "$(tty_run "bash -ic 'sleep 0.01 & fg >/dev/null; echo [1] done'" | tail -1)"
script -qec "$PANDO dev exec 1 -- sh -c 'exit 5'" /dev/null >/dev/null </dev/null; check_eq "its exit status" 5 $?
mkfifo "$T/keys"
script -qec "$PANDO dev exec 1 -- sh -c 'echo ready; exec sleep 4712'" /dev/null <"$T/keys" >"$T/screen" & victim=$!
exec 9>"$T/keys"
wait_for 5 "a command at the terminal" grep -q ready "$T/screen"
printf '\003' >&9
wait $victim; check_eq "^C reaches it" 130 $?
exec 9>&-

# --- kill and start ---
on 1 sh -c 'echo kept >/var/lib/disk'
on 2 bash -c "exec 3<>/dev/tcp/node1/5000; echo a >&3; read x <&3; echo connected; read -t 2 x <&3; echo \$? " >"$T/conn" & client=$!
wait_for 5 "a connection from node 2 to node 1" grep -q connected "$T/conn"
check "kill of node 1" "$PANDO" dev kill 1
check_eq "it is off" off "$(state_of 1)"
wait $client
check "its peer heard nothing: no FIN, no RST" test "$(tail -1 "$T/conn")" -gt 128
on 1 true 2>"$T/off"; check_eq "exec in it: 125" 125 $?
check "and says why" grep -q "is off" "$T/off"
check "start of node 1" "$PANDO" dev start 1
namespaces_note "$PANDO_DEV_NAME"
check_eq "its disk was kept" kept "$(on 1 cat /var/lib/disk)"
check "its /run was not" ! on 1 test -e /run/own-$TEST_ID
wait_for 5 "its service is back" talk 2 1
on 3 pkill -KILL -f echo.pl
wait_for 5 "a service that dies is started again" talk 2 3

# --- cuts ---
check "cut 1 2" "$PANDO" dev cut 1 2
check "1 does not reach 2" ! talk 1 2
check "3 reaches 1" talk 3 1
check "3 reaches 2" talk 3 2
check "status shows the cut" grep -q "link 1-2: cut" <("$PANDO" dev status)
check "heal" "$PANDO" dev heal
check "1 reaches 2 again" talk 1 2
check "part" "$PANDO" dev part "1 2" 3
check "1 reaches 2" talk 1 2
check "1 does not reach 3" ! talk 1 3
check "3 does not reach 2" ! talk 3 2
check "heal" "$PANDO" dev heal
check "cut 3" "$PANDO" dev cut 3
check "3 is alone" ! talk 3 1
check "a node started anew stays cut" sh -c "$PANDO dev kill 3 && $PANDO dev start 3"
check "3 is still alone" ! talk 3 1
check "heal" "$PANDO" dev heal
wait_for 5 "3 is back" talk 1 3
check "without nft: part" env PANDO_DEV_NFT=no "$PANDO" dev part 1 "2 3"
check "2 reaches 3" talk 2 3
check "1 does not" ! talk 1 3
check "without nft: heal" env PANDO_DEV_NFT=no "$PANDO" dev heal
check "1 reaches 3" talk 1 3
check "without nft: what cannot be done is refused" ! env PANDO_DEV_NFT=no "$PANDO" dev cut 1 2
check "and not done" talk 1 2

# --- limits ---
pull() { on 1 perl -e 'use Socket; socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in(5000, inet_aton("node2"))) or die; $| = 1; select(S); $| = 1;
	$n = 500000; print S "x" x $n, "\n"; while ($got < $n) { sysread(S, $b, 65536) or last; $got += length $b }'; }
check "slow 2 8" "$PANDO" dev slow 2 8
took=$(ms_of pull)
check "500 kB there and back at 8 Mbit/s take a second ($took ms)" test "$took" -ge 700 -a "$took" -le 4000
check "slow 2 off" "$PANDO" dev slow 2 off
took=$(ms_of pull)
check "and then no more ($took ms)" test "$took" -lt 700
burn() { on 1 perl -e 'use Time::HiRes qw(time); $t = time + 1; 1 while time < $t; print int(1000 * (times)[0] + 1000 * (times)[1])'; }
check "cpu 1 0.25" "$PANDO" dev cpu 1 0.25
used=$(burn)
check "a busy second costs a quarter of a CPU ($used ms)" test "$used" -ge 120 -a "$used" -le 330
check "cpu 1 none" "$PANDO" dev cpu 1 none
check "mem 1 64M" "$PANDO" dev mem 1 64M
check "more than that is not to be had" ! on 1 perl -e '$x = "x" x (200 << 20)'
check "less is" on 1 perl -e '$x = "x" x (20 << 20)'
check "mem 1 none" "$PANDO" dev mem 1 none
check "freeze 2" "$PANDO" dev freeze 2
check_eq "status says so" frozen "$(state_of 2)"
check "it does not answer" ! talk 1 2
on 2 true 2>/dev/null; check_eq "exec is refused" 125 $?
check "thaw 2" "$PANDO" dev thaw 2
check "it answers" talk 1 2
check "delay needs the other lan" ! "$PANDO" dev delay 1 2 10

# --- two side by side; the user-space lan ---
other=${PANDO_DEV_NAME}b
check "a second cluster, with --lan user and limits" cluster_up 2 --name "$other" --lan user --cpu 0.5 --mem 256M --service "$service"
check_eq "of other addresses" 2 "$({ on 1 hostname -I; PANDO_DEV_NAME=$other on 1 hostname -I; } | cut -d. -f1-3 | sort -u | wc -l)"
first=$PANDO_DEV_NAME
export PANDO_DEV_NAME=$other
wait_for 5 "its service" talk 1 2
near=$(ms_of talk 1 2)
check "delay 1 2 50" "$PANDO" dev delay 1 2 50
far=$(ms_of talk 1 2)
check "that is 100 ms for the connection and 100 for the line ($near, $far ms)" test $((far - near)) -ge 180 -a $((far - near)) -le 600
check "delay off" "$PANDO" dev delay 1 2 0
check "loss 1 2 100" "$PANDO" dev loss 1 2 100
check "nothing arrives" ! talk 1 2
check "loss off" "$PANDO" dev loss 1 2 0
check "cut 1 2 --one-way" "$PANDO" dev cut 1 2 --one-way
check "nothing arrives" ! talk 2 1
check "heal" "$PANDO" dev heal
wait_for 5 "all is well" talk 2 1
check "slow 1 4" "$PANDO" dev slow 1 4
took=$(ms_of pull)
check "500 kB there and back at 4 Mbit/s take two seconds ($took ms)" test "$took" -ge 1400 -a "$took" -le 6000
check "slow off" "$PANDO" dev slow 1 0
check "kill 2" "$PANDO" dev kill 2
check "start 2" "$PANDO" dev start 2
namespaces_note "$other"
wait_for 5 "it is back" talk 1 2
export PANDO_DEV_NAME=$first
check "the first is unimpressed" talk 1 2
check "the second ends" cluster_down "$other"
check "the first is unimpressed" talk 1 2
took=$(ms_of cluster_down)
check "it ends within a second ($took ms)" test "$took" -lt 1000
check "and is gone" ! "$PANDO" dev status

# --- a root of its own ---
check "a node with a root of its own" cluster_up 2 --root 2=/ --service "$service"
wait_for 5 "its service" talk 1 2
check "what it changes stays with it" on 2 sh -c "echo own >/etc/$TEST_ID"
check "the other does not see it" ! on 1 test -e "/etc/$TEST_ID"
check "nor the machine" test ! -e "/etc/$TEST_ID"
check "/tmp is shared all the same" on 2 cat "$T/shared"
check "what it changed outlives kill and start" sh -c "$PANDO dev kill 2 && $PANDO dev start 2 && $PANDO dev exec 2 cat /etc/$TEST_ID"
namespaces_note "$PANDO_DEV_NAME"
check "it ends" cluster_down

# --- interrupted ---
check "a start that fails leaves nothing" ! "$PANDO" dev up 2 --root 2=/nonexistent --service true --quiet
check "nothing" test ! -e "/var/tmp/pando-dev-$PANDO_DEV_NAME"
for delay in 0.001 0.004 0.008 0.012 0.016 0.02 0.025 0.03 0.04; do
	"$PANDO" dev up 4 --service "$service" --quiet & starter=$!
	sleep $delay
	kill -9 $starter 2>/dev/null
	wait $starter 2>/dev/null
	if [ -e "/var/tmp/pando-dev-$PANDO_DEV_NAME" ]; then
		"$PANDO" dev up 1 --service true --quiet 2>"$T/again" || true
		check_match "killed after $delay s: the next start says what there is" "*pando dev down --name $PANDO_DEV_NAME*" "$(cat "$T/again")"
		namespaces_note "$PANDO_DEV_NAME" 2>/dev/null
		check "and down cleans it" cluster_down
	fi
	check_eq "killed after $delay s: nothing is left" "" "$(leftovers)"
done
"$PANDO" dev up 4 --quiet --service "$service" & starter=$!
sleep 0.015 # whenever it comes, nothing may be left
kill -TERM $starter 2>/dev/null
wait $starter
check "interrupted by SIGTERM: nothing is left" test ! -e "/var/tmp/pando-dev-$PANDO_DEV_NAME" -o "$("$PANDO" dev status 2>/dev/null | head -1 | grep -c ' up,')" = 1
cluster_down 2>/dev/null
check "up of 3 nodes again" "$PANDO" dev up 3 --service "$service" --quiet
check "and down" cluster_down
check "and up" "$PANDO" dev up 3 --service "$service" --quiet
