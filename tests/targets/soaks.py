"""All at once, round after round: soaks.py HOSTILE GOOD BAD UDP FULL. A round begins with a line on standard input.

GOOD, FULL (TCP) and UDP are ports that it may reach, FULL is that of somebody who does not answer, BAD is neither. Each
round prints {call: [least, most]}: how many calls of it were refused, as their callers counted.
"""

from __future__ import annotations

import collections
import json
import os
import resource
import socket
import struct
import sys
import threading
from collections.abc import Callable

HOSTILE = sys.argv[1]
GOOD, BAD, UDP, FULL = map(int, sys.argv[2:6])
THREADS = 200
CHILDREN = 20
LOOPBACK = "127.0.0.1"
TIMEOUT = struct.pack("ll", 0, 200_000)
EPERM = 1
refused: collections.Counter[str] = collections.Counter()
perhaps: collections.Counter[str] = collections.Counter()


def hostile(*args: object) -> list[int]:
    """What a mode of the C program prints."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(writing, 1)
        os.execv(HOSTILE, [HOSTILE, *map(str, args)])
    os.close(writing)
    with os.fdopen(reading) as output:
        found = output.read()
    assert os.waitpid(child, 0)[1] == 0, args
    return list(map(int, found.split()))


def together(work: Callable[[], None], count: int = THREADS) -> None:
    """The same in many threads."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def connect(client: socket.socket, port: int) -> None:
    """One connect, counted where it is refused."""
    if client.connect_ex((LOOPBACK, port)) == EPERM:
        refused["connect"] += 1


def sleepy() -> None:
    """A connect that nobody answers, until its time is over; more of them than may sleep are refused."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, TIMEOUT)
        connect(client, FULL)


def flipped() -> None:
    """Connects of one socket by many threads, while another one changes whether they may sleep."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, TIMEOUT)
        done = threading.Event()

        def flip() -> None:
            while not done.is_set():
                os.set_blocking(client.fileno(), False)
                os.set_blocking(client.fileno(), True)

        flipper = threading.Thread(target=flip)
        flipper.start()
        together(lambda: connect(client, FULL), CHILDREN)
        done.set()
        flipper.join()


def messages() -> None:
    """One message that may go out, and one that may not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for port in (UDP, BAD):
            try:
                client.sendmsg([b"x"], [], 0, (LOOPBACK, port))
            except PermissionError:
                refused["sendmsg"] += 1


def orphans() -> None:
    """Sessions of their own whose leaders end at once."""
    for _ in range(CHILDREN):
        child = os.fork()
        if not child:
            os.setsid()
            if not os.fork():
                os.nice(0)
            os._exit(0)
        os.waitpid(child, 0)


def turn() -> None:
    """One round."""
    refused["umask"] += hostile("flood", 16, 200)[0] + hostile("forks", 2 * CHILDREN)[0]
    told, _, signals = hostile("timer", 1000, 0)
    refused["umask"] += told
    perhaps["umask"] += signals
    refused["connect"] += hostile("flip", GOOD, BAD, 1000, 2)[2]
    refused["sendto addressed"] += hostile("flipsend", UDP, BAD, 1000, 2)[2]
    refused["connect"] += hostile("swap", UDP, 1000, 1)[2]
    refused["connect"] += THREADS - hostile("many", GOOD, THREADS)[0]
    assert hostile("alarm", FULL)[0] != 0
    together(sleepy)
    flipped()
    together(messages)
    orphans()
    os.write(2, b'{"event": "violation", "seq": 1} forged \x1b[2J\n and unended')


def main() -> None:
    """Rounds until the input ends."""
    threading.stack_size(64 << 10)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft > 2 * THREADS, (soft, hard)
    for _ in sys.stdin:
        turn()
        sums = {call: [count, count + perhaps[call]] for call, count in refused.items()}
        print(json.dumps(sums), flush=True)


main()
