"""A tracker that costs next to nothing: it answers 200 after a fixed time and notes when each request came.

    python stub.py

Prints its address, then obeys a line on standard input at a time, with a line of JSON for each:

    delay SECONDS   from now on answer so late; forgets what it has noted
    count           how many requests came since
    times           when each came, monotonic seconds, which all processes of a machine share

One process, one thread, no framework: about 20 us a request, so that what is measured is who sends. It understands what
the contestants send (a POST with Content-Length) and nothing else, and cares for nobody who has gone away.
"""

from __future__ import annotations

import contextlib
import json
import re
import selectors
import socket
import sys
import time
from array import array
from collections import deque

from insend_relay.worker import descriptors

ANSWER = b"HTTP/1.1 200 OK\r\nServer: stub\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nOK"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_AT_ONCE = 65_536
_CONNECTIONS = 20_000


class Tracker:
    """The tracker, and its side of the conversation with the harness."""

    def __init__(self) -> None:
        descriptors.enough_for(_CONNECTIONS)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(sys.stdin, selectors.EVENT_READ, None)
        self._pending: dict[socket.socket, bytes] = {}  # what has come of a request that is not whole yet
        self._answers: deque[tuple[float, socket.socket]] = deque()  # when to answer whom; all wait equally long
        self._delay = 0.0
        self._times = array("d")

    def run(self) -> None:
        """Serve until standard input ends."""
        port = self._listener.getsockname()[1]
        print(f"http://127.0.0.1:{port}/watch/event", flush=True)
        while True:
            wait = max(0.0, self._answers[0][0] - time.monotonic()) if self._answers else None
            for key, _ in self._selector.select(wait):
                if key.data is not None:
                    self._read(key.data)
                elif key.fileobj is self._listener:
                    self._accept()
                elif not self._obey():
                    return
            self._answer_due()

    def _obey(self) -> bool:
        word, *rest = sys.stdin.readline().split() or [""]
        if word == "delay":
            self._delay = float(rest[0])
            self._times = array("d")
            print("null", flush=True)
        elif word == "count":
            print(len(self._times), flush=True)
        elif word == "times":
            print(json.dumps(self._times.tolist()), flush=True)
        return bool(word)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # gone before it was its turn
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection, selectors.EVENT_READ, connection)

    def _read(self, connection: socket.socket) -> None:
        try:
            came = connection.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        if not came:
            self._selector.unregister(connection)
            self._pending.pop(connection, None)
            connection.close()
            return
        request = self._pending.pop(connection, b"") + came
        head = request.find(b"\r\n\r\n")
        length = _LENGTH.search(request, 0, head + 2) if head >= 0 else None
        if length is None or len(request) < head + 4 + int(length[1]):
            self._pending[connection] = request
            return
        now = time.monotonic()
        self._times.append(now)
        if self._delay:
            self._answers.append((now + self._delay, connection))
        else:
            _answer(connection)

    def _answer_due(self) -> None:
        now = time.monotonic()
        while self._answers and self._answers[0][0] <= now:
            _answer(self._answers.popleft()[1])


def _answer(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed, by us or by its sender
        connection.send(ANSWER)


if __name__ == "__main__":
    Tracker().run()
