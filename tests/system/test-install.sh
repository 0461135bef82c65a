#!/usr/bin/env bash
# What is installed: by meson, and by the Debian package, each into a scratch root, where the programs find each other.
. "$(dirname "$0")/lib.sh"
source=$(cd "$(dirname "$0")/../.." && pwd)
build=${PANDO%/src/bin/pando}

# Paths below usr that must be there, and no others.
expected() {
	local c
	echo bin/pando
	for c in pandod pando-keeper pando-streams pando-procfs pando-dev-lan pando-member pando-zygote; do echo "lib/pando/$c"; done
	echo share/bash-completion/completions/pando
	for c in "$source"/man/*.scd; do c=$(basename "$c" .scd); echo "share/man/man${c##*.}/$c"; done
	echo share/man/man1/pando-get.1
}
listed() { sed 's/\.gz$//; s|^/*||; s|^usr/\(local/\)\?||' | grep -v '^lib/systemd\|^share/doc\|^share/lintian' | sort; }

works() { # root/usr: a program that was installed there
	check "$1: the program runs" "$2/bin/pando" version
	check "$1: it finds the others" "$2/bin/pando" --state "$T/state-${1// /-}" init --addr 127.0.0.1 --name n1
	check_match "$1: the unit names the keeper" "*ExecStart=*/lib/pando/pando-keeper *" "$(cat "$3")"
}

if [ ! -e "$build/build.ninja" ]; then say "skip: \$PANDO is not in a build directory"; exit 77; fi
DESTDIR=$T/inst meson install -C "$build" --no-rebuild --quiet >"$T/install.log" 2>&1 || not_ok "meson install" "$(cat "$T/install.log")"
check_eq "meson install: all files and no others" "" "$(diff <(expected | sort) <(cd "$T/inst" && find . -type f -o -type l | sed 's|^\.||' | listed))"
prefix=$(find "$T/inst" -name bin -type d | head -1)
works "meson install" "${prefix%/bin}" "$(find "$T/inst" -name pando.service)"

if ! command -v dh >/dev/null || ! command -v dpkg-buildpackage >/dev/null; then say "skip: debhelper is not installed (make deb installs it)"; exit 77; fi
check "the package is built" "$source/tools/make-deb" "$T/deb" || exit 1
deb=$(ls "$T"/deb/pando_*.deb)
check_eq "package: all files and no others" "" "$(diff <(expected | sort) <(dpkg-deb -c "$deb" | awk '$1 !~ /^d/ { print substr($6, 2) }' | listed))"
check_match "package: what it needs is known" "*libraft*libuv1*" "$(dpkg-deb -f "$deb" Depends)"
mkdir -p "$T/root/var/lib/dpkg"/{info,updates} && : >"$T/root/var/lib/dpkg/status"
check "package: unpacks into a scratch root" dpkg --root="$T/root" --force-depends --unpack "$deb"
works "package" "$T/root/usr" "$T/root/lib/systemd/system/pando.service"
check_match "package: the service is stopped by removal only, not by an upgrade" '*"$1" = remove*stop*' "$(dpkg-deb --ctrl-tarfile "$deb" | tar xOf - ./prerm)"
if command -v lintian >/dev/null; then check "package: lintian finds no error" lintian --allow-root --fail-on error "$deb"; fi
