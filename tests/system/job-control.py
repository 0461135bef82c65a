#!/usr/bin/env python3
"""Types at an interactive shell on a pty and waits for what must come. usage: job-control.py COMMAND...   Prints what was wrong; exit status 1 then."""
import os
import pty
import select
import sys
import time

WAIT_S = 15

pid, tty = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])

seen = b""


def expect(text, what):
    global seen
    end = time.monotonic() + WAIT_S
    while text not in seen:
        if time.monotonic() > end or not select.select([tty], [], [], 0.1)[0]:
            if time.monotonic() > end:
                sys.exit(f"{what}: {text!r} did not come, but {seen!r}")
            continue
        try:
            data = os.read(tty, 4096)
        except OSError:
            data = b""
        if not data:
            sys.exit(f"{what}: the end instead of {text!r}, after {seen!r}")
        seen += data
    seen = seen[seen.index(text) + len(text):]


def type(text):
    os.write(tty, text)


def command(text, *wanted, what=None):
    """Each command says when it is done by a word that is not in what is typed."""
    type(text + b"; echo do''ne\n")
    for w in wanted:
        expect(w, what or text)
    expect(b"done\r\n", what or text)


command(b"PS1=; /bin/stty -echo")
command(b"/bin/sh -c 'test -t 0 && test -c /dev/stdin; echo is a terminal: $?'", b"is a terminal: ")
type(b"/bin/sh -c 'echo be''gun; exec /bin/sleep 60'\n")
expect(b"begun", "a program in the foreground")
type(b"\x03")
command(b"echo status $?", b"status 130")
type(b"/bin/sh -c 'echo be''gun; exec /bin/sleep 61'\n")
expect(b"begun", "a program to be stopped")
type(b"\x1a")
expect(b"Stopped", "^Z")
command(b"jobs", b"Stopped")
command(b"bg")
command(b"jobs", b"Running")
command(b"kill %1; wait %1; echo status $?", b"status 143")
type(b"/bin/cat\n")
type(b"one line\n")
expect(b"one line", "cat")
type(b"\x1a")
expect(b"Stopped", "^Z of cat")
type(b"fg\n")
expect(b"cat", "fg")
type(b"another line\n")
expect(b"another line", "cat again")
type(b"\x04")
command(b"echo status $?", b"status 0")
command(b"echo x > /dev/tty", b"x")
type(b"exit 5\n")
while True:
    try:
        if not os.read(tty, 4096):
            break
    except OSError:
        break
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
if status != 5:
    sys.exit(f"exit 5: status {status}")
