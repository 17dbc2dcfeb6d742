"""The producers' link to Redis: a call takes at most its deadline, whatever is broken.

- Connections are opened and proven by one background thread, never by a call: resolving a name, TCP, TLS and the
  handshake can take seconds. Ready connections lie in a bounded stack, the last used on top.
- A call takes a ready connection and makes its round trip on it. When there is none it waits for one: for the first
  connection, for the one that replaces a broken one, or for another call to end.
- While Redis is known to be away, calls fail at once; the background thread tries until it is back. After a late
  answer a call waits 5 ms at most, until a connection has been proven again: a Redis that is frozen, or a network
  that swallows everything, costs a process its deadline once.
- A connection that failed is dropped with all idle ones: they lead to the same Redis. None is ever used again after an
  answer was missed, and no command is ever repeated.
- A script may be followed by a question whether what it wrote is safe (``INSEND_DURABILITY``), in the same round trip.
- A forked child starts with an empty link of its own (gunicorn's preload, multiprocessing).
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
import weakref
from contextlib import suppress
from typing import Any

from redis.exceptions import ResponseError

from insend_relay.outbox.durability import Asking, Durability, patience_ms
from insend_relay.outbox.errors import OutboxError, OutboxUnreachable
from insend_relay.outbox.scripts import COMMANDS as SCRIPTS
from insend_relay.producers.address import DOUBT_SECONDS, Late, why_away
from insend_relay.producers.deadline import TimedAddress, TimedConnection

MOST_CONNECTIONS = 32  # of one process; at 200 us a round trip these carry more than a web process can ask for
FIRST_PAUSE_SECONDS = 0.05  # between two tries to connect; it doubles
MOST_PAUSE_SECONDS = 1.0

_log = logging.getLogger("insend_relay.producers")


class _Call(threading.local):
    """The call that this thread is in.

    Attributes:
        deadline: When it must end; monotonic seconds.
        confirmed: Whether what it wrote is as safe as the settings want it.
    """

    deadline = 0.0
    confirmed = True


class Link:
    """Runs commands for an Outbox, each on a connection of its own for as long as it takes.

    Args:
        url: As in the settings.
        timeout_seconds: The longest that a call may take, all its commands together.
        durability: What Redis is asked behind each script.
    """

    _lock: threading.Lock
    _idle: list[TimedConnection]
    _open: int  # the idle ones and those that calls hold
    _waiters: set[threading.Lock]  # of calls that wait for one: each is released when there may be something for it
    _news: queue.SimpleQueue[None]  # for the background thread: it is to look again
    _away: OutboxError | None  # why calls fail at once
    _doubted: bool  # whether the last answer was late, and Redis has not answered since
    _thread: threading.Thread | None

    def __init__(self, url: str, *, timeout_seconds: float, durability: Durability = "memory") -> None:
        self._asking = Asking.about(durability)
        self.address = TimedAddress(url, None if self._asking is None else self._asking.question)
        self._timeout = timeout_seconds
        self._call = _Call()
        self._closed = False
        self._start_afresh()
        _links.add(self)

    def start_call(self) -> None:
        """Begin a call: the commands that this thread runs from now on share one deadline."""
        self._call.deadline = time.monotonic() + self._timeout
        self._call.confirmed = True

    def execute_command(self, *args: Any) -> Any:
        """Run one command; raises OutboxUnreachable, or redis-py's exception for an error that Redis answered."""
        deadline = self._call.deadline
        connection = self._take(deadline)
        try:
            reply = self._run(connection, args, deadline)
        except ResponseError as error:
            if "READONLY" in str(error):  # a failover: the name may by now lead to the new primary
                self._drop(connection)
            else:
                self._give_back(connection)
            raise
        except BaseException as error:  # also a greenlet that is killed in the middle of an answer
            self._drop(connection, late=isinstance(error, Late))
            raise
        self._give_back(connection)
        return reply

    @property
    def confirmed(self) -> bool:
        """Whether what this thread's call wrote is as safe as the settings want it."""
        return self._call.confirmed

    def _run(self, connection: TimedConnection, args: tuple[Any, ...], deadline: float) -> Any:
        if self._asking is None or args[0] not in SCRIPTS:
            return connection.run(args, deadline)
        if not self._asking.may_ask():
            self._call.confirmed = False
            return connection.run(args, deadline)
        question = self._asking.question.command(patience_ms(deadline - time.monotonic()))
        reply, said = connection.run_and_ask(args, question, deadline)
        self._call.confirmed = self._asking.heard(said)
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def connect(self) -> None:
        """Have a connection ready for the first call; OutboxUnreachable when there is none in time."""
        self._give_back(self._take(time.monotonic() + self._timeout))

    def close(self) -> None:
        """End the background thread and every connection; later calls fail."""
        with self._lock:
            self._closed = True
            self._forget_idle()
            self._wake_calls()
            thread = self._thread
        self._news.put(None)
        if thread is not None:
            thread.join(self._timeout)  # longer only while it connects to a Redis that does not answer

    # A call's side

    def _take(self, deadline: float) -> TimedConnection:
        if self._doubted:
            deadline = min(deadline, time.monotonic() + DOUBT_SECONDS)
        while True:
            with self._lock:
                if connection := self._idle_one():
                    return connection
                left = self._time_to_wait(deadline)
                # Not a Condition, which would take the lock back at any cost: gevent may end a call in its wait.
                waiter = threading.Lock()
                waiter.acquire()
                self._waiters.add(waiter)
            try:
                self._ensure_thread()
                self._news.put(None)
                waiter.acquire(timeout=left)
            finally:
                self._waiters.discard(waiter)

    def _idle_one(self) -> TimedConnection | None:
        """An idle connection that is in order; the lock is held."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_stale():
                return connection
            self._open -= 1
            connection.close()
        return None

    def _time_to_wait(self, deadline: float) -> float:
        """For how many seconds a call may wait for a connection; OutboxError when not at all. The lock is held."""
        if self._closed:
            raise OutboxUnreachable("this InSend has been closed")
        if self._away is not None:
            raise type(self._away)(str(self._away))
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._no_connection()
        return left

    def _wake_calls(self) -> None:
        """There may be something for them; the lock is held."""
        while self._waiters:
            self._waiters.pop().release()

    def _no_connection(self) -> OutboxUnreachable:
        within = f"within {(DOUBT_SECONDS if self._doubted else self._timeout) * 1000:.0f} ms"
        if self._open and not self._doubted:
            return OutboxUnreachable(f"all connections to Redis were busy {within}")
        error = OutboxUnreachable(f"no connection to Redis at {self.address} {within}")
        if not self._open:  # else an answer may come there, and then it is not away
            self._away = error
            self._wake_calls()
        return error

    def _give_back(self, connection: TimedConnection) -> None:
        if connection.broken:
            self._drop(connection)
            return
        with self._lock:
            if self._closed:
                connection.close()
                return
            self._idle.append(connection)
            self._away = None  # it has just answered
            self._doubted = False
            self._wake_calls()

    def _drop(self, connection: TimedConnection, *, late: bool = False) -> None:
        with self._lock:
            self._doubted = self._doubted or late
            self._open -= 1
            self._forget_idle()
            self._wake_calls()
        self._news.put(None)
        connection.close()

    def _forget_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
            self._open -= 1

    # The background thread's side

    def _ensure_thread(self) -> None:
        with self._lock:
            if self._thread is not None or self._closed:
                return
            thread = self._thread = threading.Thread(target=self._keep_connected, name="insend-link", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads, or Python is shutting down
            self._thread = None
            raise OutboxUnreachable(f"no thread to connect to Redis with: {error}") from error

    def _keep_connected(self) -> None:
        failures = 0
        while True:
            while not self._closed and not self._wants_connection():
                self._news.get()
            if self._closed:
                return
            try:
                connection = self.address.open()
            except Exception as error:  # noqa: BLE001 - whatever it is, this thread must live to try again
                reason = why_away(error)
                if not failures:
                    _log.warning("no connection to Redis at %s: %s", self.address, reason)
                self._connecting_failed(reason, min(FIRST_PAUSE_SECONDS * 2**failures, MOST_PAUSE_SECONDS))
                failures = min(failures + 1, 16)
            else:
                self._connected(connection)
                if failures:
                    _log.warning("connected to Redis at %s again", self.address)
                failures = 0

    def _wants_connection(self) -> bool:
        """Whether there is none at all, or calls wait that no idle one can serve."""
        with self._lock:
            return self._open == 0 or (len(self._waiters) > len(self._idle) and self._open < MOST_CONNECTIONS)

    def _connected(self, connection: TimedConnection) -> None:
        with self._lock:
            if self._closed:
                connection.close()
                return
            self._away = None
            self._doubted = False
            self._open += 1
            self._idle.append(connection)
            self._wake_calls()

    def _connecting_failed(self, reason: OutboxError, pause_seconds: float) -> None:
        with self._lock:
            if self._open == 0:
                self._away = reason
                self._wake_calls()
        until = time.monotonic() + pause_seconds
        while not self._closed and (left := until - time.monotonic()) > 0:
            with suppress(queue.Empty):
                self._news.get(timeout=left)

    # State

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._idle = []
        self._open = 0
        self._waiters = set()
        self._news = queue.SimpleQueue()
        self._away = None
        self._doubted = False
        self._thread = None

    def after_fork(self) -> None:
        """In a forked child: the parent's connections are the parent's, and its thread is not here."""
        for connection in self._idle:
            connection.close()  # closes the child's copy of the socket and says nothing to Redis
        self._start_afresh()


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _after_fork() -> None:
    for link in list(_links):
        link.after_fork()


os.register_at_fork(after_in_child=_after_fork)
