"""The other end of ``ping``: an open-loop client in a process of its own.

It sends one message each 1/rate seconds, whether or not the answers have come, and takes each latency from the
time at which the message was *meant* to go: a server that stalls is charged for all the messages that
waited meanwhile (no coordinated omission).  The latency from the time at which it really went is recorded too.

``ping.py RATE SECONDS WARMUP``: reads the port from standard input, prints JSON:
``{"intended": [...], "sent": [...], "late": n}``, in microseconds.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import struct
import sys
import time

SIZE = 64
MESSAGE = struct.Struct(f"!Q{SIZE - 8}x")
GRACE_S = 5.0
"""For the last answers."""


def ping(port: int, rate: float, seconds: float, warmup: float) -> dict[str, object]:
    """Send and receive; the latencies of what was meant to go after the warm-up."""
    total, skip = int(rate * (seconds + warmup)), int(rate * warmup)
    interval = 1e9 / rate
    sent_at, intended, actual = [0] * total, [0] * total, [0] * total
    buffer = b""
    sent = received = 0
    clock = time.monotonic_ns
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        gc.collect()
        gc.disable()
        begin = clock() + 10_000_000
        give_up = begin + int(total * interval + GRACE_S * 1e9)
        while received < total:
            now = clock()
            if now > give_up:
                raise TimeoutError(f"{total - received} of {total} answers did not come")
            while sent < total and now >= begin + int(sent * interval):
                connection.sendall(MESSAGE.pack(sent))
                sent_at[sent] = now
                sent += 1
                now = clock()
            until = begin + int(sent * interval) if sent < total else give_up
            if select.select([connection], [], [], max(0, until - now) / 1e9)[0]:
                data = connection.recv(65536)
                now = clock()
                if not data:
                    raise ConnectionError("the server closed the connection")
                buffer += data
                while len(buffer) >= SIZE:
                    (number,) = MESSAGE.unpack(buffer[:SIZE])
                    buffer = buffer[SIZE:]
                    if number != received:
                        raise AssertionError(f"answer {number} came when {received} was due")
                    intended[number] = now - (begin + int(number * interval))
                    actual[number] = now - sent_at[number]
                    received += 1
    late = sum(at - (begin + int(i * interval)) > 1_000_000 for i, at in enumerate(sent_at) if i >= skip)
    return {
        "intended": [round(ns / 1000, 1) for ns in intended[skip:]],
        "sent": [round(ns / 1000, 1) for ns in actual[skip:]],
        "late": late,
    }


if __name__ == "__main__":
    rate, seconds, warmup = map(float, sys.argv[1:4])
    line = sys.stdin.readline()
    if line:
        json.dump(ping(int(line), rate, seconds, warmup), sys.stdout)
