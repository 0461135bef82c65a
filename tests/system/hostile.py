#!/usr/bin/env python3
"""Hostile bytes for the sockets of a node. Standard library only.

usage: hostile.py [--uid N] tcp HOST PORT | unix PATH | control PATH | denied PATH

The same bytes each time. Exit status 0: everything was sent (whatever the other side thought of it); 1: a connection was not possible, or
(control) a request that is all right got no answer."""
import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import time

LIMIT_S = 30  # for one answer


def noise(n, seed):
    out = bytearray()
    x = seed * 2 + 1
    while len(out) < n:
        x = (x * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        out += struct.pack("<Q", x ^ (x >> 29))
    return bytes(out[:n])


def opened(where):
    """A connection; to a Unix socket of whichever kind it is. Waits for room in its queue."""
    if not isinstance(where, str):
        return socket.create_connection(where, LIMIT_S)
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        s = socket.socket(socket.AF_UNIX, kind)
        signal.alarm(LIMIT_S)
        try:
            s.connect(where)
            s.settimeout(LIMIT_S)
            return s
        except OSError as e:
            s.close()
            if e.errno != errno.EPROTOTYPE:
                raise
        finally:
            signal.alarm(0)
    raise OSError(errno.EPROTOTYPE, where)


def send(s, data):
    """What the other side takes of it. False: it has closed."""
    try:
        s.sendall(data)
        return True
    except OSError:
        return False


def drained(s, until=None):
    """What it says, to the end or until a text comes."""
    out = b""
    try:
        while until is None or until not in out:
            part = s.recv(65536)
            if not part:
                break
            out += part
    except OSError:
        pass
    return out


def one(where, data, half_close=True):
    """A connection that sends these bytes, says that it has done, and waits for the other side to close."""
    s = opened(where)
    send(s, data)
    if half_close:
        try:
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    out = drained(s)
    s.close()
    return out


def client_hello(alpn):
    """What a real TLS client of ours begins with."""
    l = socket.socket()
    l.bind(("127.0.0.1", 0))
    l.listen(1)
    p = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % l.getsockname()[1], "-alpn", alpn],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    s, _ = l.accept()
    s.settimeout(LIMIT_S)
    data = s.recv(65536)
    s.close()
    l.close()
    p.wait()
    return data


def common(where):
    """For any socket."""
    for i in range(30):
        one(where, noise(1 << (i % 15), i))
    for i in range(4):
        one(where, bytes([[0, 255, 10, 123][i]]) * 300000)
    for n in (0, 1, 0x7fffffff, 0x80000000, 0xffffffff):  # lengths that are not there
        one(where, struct.pack("<I", n))
        one(where, struct.pack("<I", n) + noise(100, n))
    for i in range(20):  # there and away again
        s = opened(where)
        if i % 2:
            send(s, b"\x01")
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()


def over_tls(where, data):
    """As a stranger within TLS: what anybody may who says that it wants to join."""
    p = subprocess.Popen(["openssl", "s_client", "-connect", "%s:%d" % where, "-alpn", "pando-join/1", "-quiet"],
                         stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        p.communicate(data, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()


def tcp(where):
    common(where)
    one(where, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    for alpn in ("pando-link/1", "pando-stream/1", "pando-join/1", "h2"):
        hello = client_hello(alpn)
        for n in range(0, len(hello), 7):
            one(where, hello[:n])
        one(where, hello)
        one(where, hello + noise(5000, 3))
        one(where, hello + hello)  # again
        for n in range(0, len(hello), 11):
            one(where, hello[:n] + bytes([hello[n] ^ 0x41]) + hello[n + 1:])
    frame = lambda t, call, p: struct.pack("<IHQ", len(p), t, call) + p
    for data in (b"", noise(20000, 5), frame(1, 0, b"\1\0\1\0\xf4\1\0\0"), frame(5, 0, b""), frame(5, 0, noise(400, 6)), frame(5, 0, b"\1" + bytes(60)),
                 frame(5, 0, noise(65536, 7)), struct.pack("<IHQ", 0xffffffff, 5, 0), frame(5, 1, b"x"), frame(200, 0, b"x") * 50):
        over_tls(where, data)
    many = [opened(where) for _ in range(200)]  # that say nothing
    for s in many:
        s.close()


GOOD = b'{"cmd":"status"}\n'


def answered(path, data=GOOD, want=b'"ok":true'):
    s = opened(path)
    send(s, data)
    out = drained(s, b"\n")
    s.close()
    if want not in out:
        print("no good answer: %r" % out[:200])
        sys.exit(1)


def control(path):
    common(path)
    answered(path)
    texts = [b'{"cmd":"status"', b'[]\n', b'1\n', b'"x"\n', b'\n', b'{}\n', b'{"cmd":1}\n', b'{"cmd":"nothing"}\n', b'{"cmd":"status","cmd":"ps"}\n', b'{"cmd":"a\0b"}\n',
             b'{"cmd":"\xff\xfe"}\n', b'[' * 60000 + b'\n', b'{"a":' * 10000 + b'1' + b'}' * 10000 + b'\n', b'{"cmd":"status","id":1e400}\n',
             b'{"cmd":"status","id":' + b'9' * 300 + b'}\n', b'{"cmd":"' + b'x' * 65536 + b'"}\n', b'{"cmd":"run","fds":1}\n',
             b'{"cmd":"run","fds":-1}\n', b'{"cmd":"run","fds":99999999}\n', b'{"cmd":"run"}\n', b'{"cmd":"signal","signal":9}\n',
             b'{"cmd":"reattach","pid":1,"cookie":"' + b'0' * 32 + b'"}\n', b'{"cmd":"winsize","rows":-1}\n', b'{"cmd":"tty-wanted"}\n',
             b'{"cmd":"node-drain","node":99999}\n', b'{"cmd":"node-label","node":1,"set":{"":""}}\n', b'{"cmd":"token","ttl_s":-5}\n',
             b'{"cmd":"set","name":"policy","value":"' + b'v' * 5000 + b'"}\n', b'{"cmd":"get","name":7}\n', b'{"cmd":"features","pid":-1,"change":"+"}\n',
             b'{"cmd":"why","pid":999999999999}\n', b'{"cmd":"ps","pid":0}\n']
    for t in texts:
        one(path, t)
    for n in range(len(GOOD)):  # broken off anywhere
        one(path, GOOD[:n])
    s = opened(path)  # byte by byte
    for b in GOOD:
        send(s, bytes([b]))
    if b'"ok":true' not in drained(s, b"\n"):
        sys.exit("no answer to a request that came in pieces")
    s.close()
    descriptors(path)
    unread(path)
    many = [opened(path) for _ in range(300)]
    for s in many:
        send(s, b'{"cmd":"st')
    answered(path)
    for s in many:
        s.close()
    answered(path)


def descriptors(path):
    """Descriptors with requests that want none, fewer, more, or none of that kind."""
    null = os.open("/dev/null", os.O_RDWR)
    r, w = os.pipe()
    for n, text in ((1, GOOD), (200, GOOD), (1, b'{"cmd":"run","fds":1}\n'), (3, b'{"cmd":"run","fds":1}\n'), (1, b'{"cmd":"run","fds":3}\n'),
                    (250, b'{"cmd":"run","fds":250}\n'), (1, b'{')):
        for fd in (null, r, w):
            s = opened(path)
            try:
                socket.send_fds(s, [text], [fd] * n)
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            drained(s)
            s.close()
    s = opened(path)  # its own socket, which then outlives it in the queue
    try:
        socket.send_fds(s, [b'{"cmd":"run","fds":1'], [s.fileno()] * 100)
    except OSError:
        pass
    s.close()
    for fd in (null, r, w):
        os.close(fd)


def unread(path):
    """Requests without end, of which no answer is read, while others ask."""
    s = opened(path)
    s.settimeout(0.2)
    for _ in range(2000):
        if not send(s, b'{"cmd":"ps"}\n' * 20):
            break
    answered(path)
    s.close()


def unix(path):
    common(path)
    for n in range(64):
        one(path, struct.pack("<I", n) + bytes([n]) * n)
        one(path, struct.pack("<IB", 3, n) + b"\1\0")
    null = os.open("/dev/null", os.O_RDWR)
    for n in (1, 8, 9, 250):
        s = opened(path)
        try:
            socket.send_fds(s, [b"\x03\0\0\0\x01\x01\x00"], [null] * n)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        s.settimeout(5)
        drained(s)
        s.close()
    os.close(null)
    many = [opened(path) for _ in range(100)]
    for s in many:
        send(s, b"\xff\xff")
        s.close()


def denied(path):
    try:
        opened(path)
    except PermissionError:
        return
    sys.exit("%s lets us in" % path)


def main(argv):
    if argv[:1] == ["--uid"]:
        os.setgroups([])
        os.setgid(int(argv[1]))
        os.setuid(int(argv[1]))
        argv = argv[2:]
    begun = time.monotonic()
    if argv[0] == "tcp":
        tcp((argv[1], int(argv[2])))
    else:
        {"unix": unix, "control": control, "denied": denied}[argv[0]](argv[1])
    print("%s: %.1f s" % (argv[0], time.monotonic() - begun))


main(sys.argv[1:])
