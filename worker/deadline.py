"""The total deadline of a POST, and the cut at shutdown.

requests and urllib3 know a time-out per read only: a tracker that drips a byte a second holds such a call for ever.
Here one thread of the process looks over the calls under way and shuts the connection of each that is over its
deadline; the call then fails at once where it was connecting, in the handshake, or reading. A connection is watched
through a duplicate of its file descriptor, which the call owns: TLS detaches the socket in the middle of the handshake,
and http.client closes it before the body of some answers is read.

What cannot be ended is the look-up of a host's name; a call that comes back from it too late is not sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from types import TracebackType
from typing import Self


class Watch:
    """One call under way; a context manager that the watchdog hands out.

    Attributes:
        expires: When it must be over, on the monotonic clock.
        sent: Whether sending the request has begun: from then on the tracker may have it.
        cut: Why the connection was shut from outside; empty when it was not.
    """

    def __init__(self, watchdog: Watchdog, expires: float) -> None:
        self._watchdog = watchdog
        self._line: socket.socket | None = None
        self._lock = threading.Lock()
        self.expires = expires
        self.sent = False
        self.cut = ""

    @property
    def rest(self) -> float:
        """The seconds that are left; at least a millisecond, so that it may serve as a time-out."""
        return max(0.001, self.expires - time.monotonic())

    def follow(self, connection: socket.socket) -> None:
        """The call now uses this connection, which may still be connecting."""
        with self._lock:
            if self._line is not None:
                self._line.close()
            self._line = socket.socket(fileno=os.dup(connection.fileno()))
            if self.cut:
                _shut(self._line)

    def shut(self, why: str) -> None:
        """End the call from another thread."""
        with self._lock:
            self.cut = self.cut or why
            if self._line is not None:
                _shut(self._line)

    def __enter__(self) -> Self:
        self._watchdog.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._line is not None:
                self._line.close()
            self._line = None
        self._watchdog.remove(self)


class Watchdog:
    """Ends calls that are over their deadline.

    Args:
        seconds: The deadline of each call.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._pause = min(0.25, seconds / 10)  # how late a deadline may be noticed
        self._calls: set[Watch] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self) -> Watch:
        """A new call, to be used as a context manager."""
        return Watch(self, time.monotonic() + self.seconds)

    def add(self, call: Watch) -> None:
        """Begin to look after a call; the first one starts the thread."""
        with self._lock:
            self._calls.add(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look_after, name="insend-deadline", daemon=True)
                self._thread.start()

    def remove(self, call: Watch) -> None:
        """The call is over."""
        with self._lock:
            self._calls.discard(call)

    def cut(self, why: str) -> None:
        """End every call that is under way now."""
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.shut(why)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _look_after(self) -> None:
        while not self._stop.wait(self._pause):
            now = time.monotonic()
            with self._lock:
                late = [call for call in self._calls if now > call.expires]
            for call in late:
                call.shut(f"no whole answer within {self.seconds:g} s")


def _shut(line: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it was closed already
        line.shutdown(socket.SHUT_RDWR)
