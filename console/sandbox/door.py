"""The sandbox's door: a port that answers, refuses for a while when told to, and leaves nothing behind when closed.

One thread of its own, the keeper, listens, shuts and opens again; ``shut`` and ``open`` may be called from any thread,
also from one that is answering a request.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time

from insend_relay.console.sandbox.server import Respond, Server

_LOOK_SECONDS = 0.05  # how soon the keeper sees that it is to stop listening
_PATIENCE_SECONDS = 10.0  # how long ``open`` waits for a port that somebody else has taken meanwhile


class Door:
    """A port that answers, can be shut for a while, and stays ours until it is closed.

    Args:
        host: The address to listen on, or a name of this machine.
        port: The port; 0 takes a free one.
        respond: Called with each request, from many threads at once.

    Raises:
        OSError: The port cannot be had.
    """

    def __init__(self, host: str, port: int, respond: Respond) -> None:
        self._host = host
        self.port = port
        self._respond = respond
        self._numbers = itertools.count(1)
        first = self._bind()
        if not first.start_listening():
            first.server_close()
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.port = first.server_address[1]
        self._server: Server | None = first
        self._changed = threading.Condition()
        self._shut_until = 0.0
        self._closed = threading.Event()
        self._keeper = threading.Thread(target=self._keep, args=(first,), name=f"sandbox door {self.port}")
        self._keeper.start()

    def shut(self, seconds: float) -> None:
        """Refuse connections for so long, beginning before this returns; those that are open are cut.

        Called while a request is being answered, it spares that one connection until the answer is sent.
        """
        with self._changed:
            self._shut_until = time.monotonic() + seconds
            self._changed.notify_all()
            server = self._server
        if server is not None:
            server.spare_me()
            server.closing.set()  # before the answer to this very request, which then ends its connection
            server.shutdown()
            with self._changed:
                self._changed.wait_for(lambda: self._server is not server)

    def open(self) -> None:
        """Listen again, beginning before this returns; OSError while somebody else listens there."""
        with self._changed:
            self._shut_until = 0.0
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._server is not None or self._closed.is_set(), _PATIENCE_SECONDS):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    def close(self) -> None:
        """Stop for good."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
            server = self._server
        if server is not None:
            server.shutdown()
        self._keeper.join()

    def _bind(self) -> Server:
        return Server((self._host, self.port), self._respond, self._numbers)

    def _keep(self, server: Server) -> None:
        """The keeper's thread: listen, shut, wait, listen again."""
        while True:
            server.serve_forever(_LOOK_SECONDS)
            server.socket.close()
            # Bound at once but not listening yet, the next server refuses and keeps the port from everybody else.
            successor = None if self._closed.is_set() else self._bind()
            with self._changed:
                self._server = None
                self._changed.notify_all()
            server.hang_up()
            if successor is None:
                return
            with self._changed:
                while not self._closed.is_set() and (rest := self._shut_until - time.monotonic()) > 0:
                    self._changed.wait(min(rest, threading.TIMEOUT_MAX))
                if self._closed.is_set():
                    successor.server_close()
                    return
                while not (listens := successor.start_listening()) and not self._closed.is_set():
                    self._changed.wait(_LOOK_SECONDS)  # somebody else listens: SO_REUSEADDR lets two bind a port
                if not listens:
                    successor.server_close()
                    return
                self._server = server = successor
                self._changed.notify_all()
