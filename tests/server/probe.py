"""Asks a server one request after another, for seconds, and says how long the refusals took.

    python -m tests.server.probe PORT SECONDS

A program of its own: a load generator that sends thousands at once is late itself. Prints JSON: how often
each status came, and the median and the 90th percentile of the milliseconds from connecting to a refusal.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections import Counter

BODY = json.dumps({"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}).encode()
FIELDS = b"host: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d" % len(BODY)
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\n" + FIELDS + b"\r\n\r\n" + BODY
PAUSE_S = 0.02


def ask(port: int) -> int:
    """The status that a request is answered with."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(REQUEST)
        return int(connection.recv(1 << 16).split()[1])


def main() -> None:
    """Asks and prints."""
    port, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
    statuses: Counter[int] = Counter()
    refusals_ms = []
    while time.monotonic() < end:
        began = time.monotonic()
        status = ask(port)
        statuses[status] += 1
        if status == 429:
            refusals_ms.append((time.monotonic() - began) * 1e3)
        time.sleep(PAUSE_S)
    refusals_ms.sort()
    places = {"median_ms": 0.5, "p90_ms": 0.9} if refusals_ms else {}
    told = {name: round(refusals_ms[int(len(refusals_ms) * place)], 2) for name, place in places.items()}
    print(json.dumps({"statuses": statuses, **told}))


if __name__ == "__main__":
    main()
