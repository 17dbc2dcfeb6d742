"""The sandbox's door: a port that answers, refuses for a while when told to, and leaves nothing behind when closed.

One thread runs an event loop that listens and serves all connections. ``shut`` and ``open`` may be called from any
thread, also from that one while it answers a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from insend_relay.console.sandbox.server import Respond, serve

_BACKLOG = 4096
_RETRY_SECONDS = 0.05  # while another process listens on the port: SO_REUSEADDR lets both bind it
_PATIENCE_SECONDS = 10.0  # how long ``open`` waits for that to end


class Door:
    """A port that answers, can be shut for a while, and stays ours until it is closed.

    Args:
        host: The address to listen on, or a name of this machine.
        port: The port; 0 takes a free one.
        respond: Called with each request, in the door's thread: while it runs, no other request is served.

    Raises:
        OSError: The port cannot be had.
    """

    def __init__(self, host: str, port: int, respond: Respond) -> None:
        self._host, self.port, self._respond = host, port, respond
        self._socket = self._bound()
        if not self._listens():
            self._socket.close()
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.port = self._socket.getsockname()[1]
        self._numbers = itertools.count(1)
        self._connections: dict[asyncio.Task[None], socket.socket] = {}
        self._is_open = threading.Event()
        self._timer: asyncio.TimerHandle | None = None  # that opens the door again
        self._loop = asyncio.new_event_loop()
        self._listen()
        self._thread = threading.Thread(target=self._run, name=f"sandbox door {self.port}")
        self._thread.start()

    def shut(self, seconds: float) -> None:
        """Refuse connections for so long, beginning before this returns; those that are open are cut.

        Called while a request is being answered, it spares that one connection until the answer is sent.
        """
        self._call(self._shut, seconds)

    def open(self) -> None:
        """Listen again, beginning before this returns; OSError while another process listens there.

        A door that was closed stays so.
        """
        self._call(self._listen)
        patience = 0 if threading.current_thread() is self._thread else _PATIENCE_SECONDS
        if self._thread.is_alive() and not self._is_open.wait(patience):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    def close(self) -> None:
        """Stop for good."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function in the door's thread; once the door is closed, nothing is called."""

        async def call() -> None:
            function(*arguments)

        if threading.current_thread() is self._thread:
            function(*arguments)
        elif self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _run(self) -> None:
        """What the door's thread does: serve until told to stop, then end what is left."""
        self._loop.run_forever()
        self._stop_listening()
        while self._connections:
            self._cut()
            self._loop.run_until_complete(asyncio.wait(list(self._connections)))
        self._loop.close()

    def _shut(self, seconds: float) -> None:
        if self._is_open.is_set():
            self._stop_listening()
            # Bound at once but not listening yet, the next socket refuses and keeps the port from every other process.
            self._socket = self._bound()
            self._cut()
        self._listen_in(seconds)

    def _listen_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._listen)

    def _listen(self) -> None:
        """Take connections, as soon as no other process listens on the port."""
        if self._is_open.is_set():
            return
        if self._listens():
            self._loop.add_reader(self._socket, self._accept)
            self._is_open.set()
        else:
            self._listen_in(_RETRY_SECONDS)

    def _stop_listening(self) -> None:
        self._is_open.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _accept(self) -> None:
        """Take one of the connections that have come; with more of them the loop calls again."""
        with contextlib.suppress(OSError):  # it has gone, or there are too many
            connection, _ = self._socket.accept()
            connection.setblocking(False)
            served = self._loop.create_task(serve(connection, next(self._numbers), self._respond, self._is_open.is_set))
            self._connections[served] = connection
            served.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        """A connection has ended. A mistake of ours, or of ``on_event``, is shown as if a thread had ended by it."""
        self._connections.pop(task).close()
        if not task.cancelled() and (error := task.exception()) is not None:
            about = (type(error), error, error.__traceback__, threading.current_thread())
            threading.excepthook(threading.ExceptHookArgs(about))

    def _cut(self) -> None:
        """Cut all connections, but not the one whose request is being answered."""
        for task, connection in self._connections.items():
            if task is not asyncio.current_task(self._loop):
                with contextlib.suppress(OSError):  # the client was quicker
                    connection.shutdown(socket.SHUT_RDWR)
                task.cancel()

    def _bound(self) -> socket.socket:
        """A socket that has the port."""
        bound = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        try:
            bound.setblocking(False)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((self._host, self.port))
        except BaseException:
            bound.close()
            raise
        return bound

    def _listens(self) -> bool:
        """Let the kernel take connections; False while another process listens on this port."""
        try:
            self._socket.listen(_BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True
