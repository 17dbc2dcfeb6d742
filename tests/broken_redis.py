"""Servers that speak Redis's protocol for a while, and then do something else."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[socket.socket], None]
APPENDED = b"*2\r\n$8\r\nAPPENDED\r\n:1\r\n"  # what the script says that takes an event in
DUPLICATE = b"*2\r\n$9\r\nDUPLICATE\r\n$24\r\n0123456789abcdefghijklmn\r\n"  # and when it had come before

NOT_OURS = [  # whole answers to a script, which no script of ours gives
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"+OK\r\n",
    b":1\r\n",
    b"$-1\r\n",
    b"*0\r\n",
    b"*2\r\n+OK\r\n:1\r\n",
    b"*2\r\n$9\r\nDUPLICATE\r\n$3\r\nabc\r\n",
    b"*2\r\n-ERR in the middle\r\n:1\r\n",
    b"*x\r\n",
    b"*1\r\n" * 20_000,
    b"-MOVED nowhere\r\n",
]


@contextmanager
def broken_redis(answer: Answer) -> Iterator[str]:
    """A server that accepts connections and deals with each as ``answer`` does; yields its address."""
    connections: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=deal, args=(connection,)).start()

    def deal(connection: socket.socket) -> None:
        try:
            answer(connection)
        except OSError:  # the other side has gone: what these tests are about
            return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                with connection, suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def silent(connection: socket.socket) -> None:
    """Reads and says nothing."""
    while connection.recv(65536):
        pass


def drip(connection: socket.socket) -> None:
    """Answers a byte at a time, without end."""
    connection.sendall(b"*2\r\n$1000000\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.01)


def handshake_then(rest: Answer, until: bytes = b"EVALSHA") -> Answer:
    """Answers every command as Redis would until the first script, and then does something else."""

    def answer(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            if until in data:
                rest(connection)
                return
            oks = b"+OK\r\n" * len(re.findall(rb"(CLIENT|SCRIPT)\r\n", data))
            proof = b"+PONG\r\n" + b"-ERR unknown command\r\n" * (b"HELLO" in data)  # one packet has both
            connection.sendall(proof if b"PING" in data else b":1\r\n" if b"WAIT" in data else oks)

    return answer


def says(data: bytes) -> Answer:
    """Says this, and waits until the other side has gone."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(data)
        silent(connection)

    return answer
