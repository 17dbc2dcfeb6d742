"""The connections of one process to Redis: opened by a background thread, lent to one call at a time.

No lock is held anywhere, since a call may be re-entered at any point, by a signal handler or by ``__del__``. All that
calls share is changed in single steps that threads cannot divide: a deque, a set and a dict. Where a look and a change
are two steps, the change comes first and the look is repeated after it.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress

from insend_relay.outbox.background import Background
from insend_relay.outbox.errors import OutboxError, OutboxUnreachable
from insend_relay.producers.address import DOUBT_SECONDS, why_away
from insend_relay.producers.deadline import TimedAddress, TimedConnection
from insend_relay.spool.in_use import InUse

MAX_CONNECTIONS = 32  # of one process; at 200 us a round trip these carry more than a web process can ask for
FIRST_PAUSE_SECONDS = 0.05  # between two tries to connect; it doubles
MAX_PAUSE_SECONDS = 1.0

_log = logging.getLogger("insend_relay.producers")


class Pool:
    """Connections that are ready, in a stack with the last used on top.

    Args:
        address: Where to.
        timeout_seconds: As long as a call may take.
    """

    def __init__(self, address: TimedAddress, timeout_seconds: float) -> None:
        self._pid = os.getpid()
        self._address = address
        self._timeout = timeout_seconds
        self._idle: deque[TimedConnection] = deque()
        self._open: InUse[TimedConnection] = InUse()  # the idle ones and those that calls hold
        self._waiters: set[threading.Lock] = set()  # of calls: released when there may be something for them
        self._away: OutboxError | None = None  # why calls fail at once
        self._doubted = False  # whether the last answer was late, and Redis has not answered since
        self._connector = Background("insend-link", self._keep_connected, wanted=self._wants_connection)

    # A call's side

    def take(self, deadline: float) -> TimedConnection:
        """A connection that is in order; it must be given back or dropped. OutboxError when there is none in time."""
        if self._doubted:
            deadline = min(deadline, time.monotonic() + DOUBT_SECONDS)
        while True:
            if connection := self._idle_one():
                return connection
            # Not a Condition, which would take its lock back at any cost: gevent may end a call in its wait.
            waiter = threading.Lock()
            waiter.acquire()
            self._waiters.add(waiter)
            try:
                if connection := self._idle_one():  # given back before it could see the waiter
                    return connection
                left = self._time_to_wait(deadline)
                self._call_connector()
                _wait(waiter, left)
            finally:
                self._waiters.discard(waiter)

    def give_back(self, connection: TimedConnection) -> None:
        """The call that took it has its answer."""
        if connection.broken:
            self.drop(connection)
            return
        self._idle.append(connection)
        self._away = None  # Redis has just answered
        self._doubted = False
        if self._waiters:
            self._wake_calls()
        if self._connector.stopped:
            self._forget_idle()

    def drop(self, connection: TimedConnection, *, late: bool = False) -> None:
        """End it, and all idle ones: they lead to the same Redis.

        Args:
            connection: The one that failed.
            late: Whether an answer that did not come in time is all that is wrong.
        """
        self._doubted = self._doubted or late
        self._forget(connection)
        self._forget_idle()
        self._wake_calls()
        self._connector.nudge()

    def _idle_one(self) -> TimedConnection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if not connection.is_stale():
                return connection
            self._forget(connection)

    def _time_to_wait(self, deadline: float) -> float:
        """For how many seconds a call may wait for a connection; OutboxError when not at all."""
        if self._connector.stopped:
            raise OutboxUnreachable("the connections to Redis were closed meanwhile")
        if (away := self._away) is not None:
            with suppress(RuntimeError):  # an exception may have ended the thread that finds out when Redis is back
                self._connector.start()
            raise type(away)(str(away))
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._no_connection()
        return left

    def _no_connection(self) -> OutboxUnreachable:
        within = f"within {(DOUBT_SECONDS if self._doubted else self._timeout) * 1000:.0f} ms"
        if self._open and not self._doubted:
            return OutboxUnreachable(f"all connections to Redis were busy {within}")
        error = OutboxUnreachable(f"no connection to Redis at {self._address} {within}")
        if not self._open:  # else an answer may come there, and then it is not away
            self._away = error
            if self._open:  # the connector has connected meanwhile
                self._away = None
            self._wake_calls()
        return error

    def _call_connector(self) -> None:
        if _is_half_patched():
            raise OutboxUnreachable("gevent has patched the sockets but not the threads: patch both, or neither")
        if self._connector.is_current():
            raise OutboxUnreachable(
                "no connection to Redis is ready, and this call interrupts the thread that connects"
            )
        try:
            self._connector.start()
        except RuntimeError as error:  # no more threads, or Python is shutting down
            raise OutboxUnreachable(f"no thread to connect to Redis with: {error}") from error
        self._connector.nudge()

    def _wake_calls(self) -> None:
        while self._waiters:
            with suppress(KeyError):  # another thread has taken the last one
                self._waiters.pop().release()

    def _forget_idle(self) -> None:
        while self._idle:
            with suppress(IndexError):  # another thread has taken the last one
                self._forget(self._idle.pop())

    def _forget(self, connection: TimedConnection) -> None:
        self._open.discard(connection)
        connection.close()

    # The connector's side

    def _keep_connected(self) -> None:
        failures = 0
        while not self._connector.stopped:
            if not self._wants_connection():
                self._connector.wait()
                continue
            try:
                self._connected(self._address.open())  # this thread must keep no reference to it
            except Exception as error:  # noqa: BLE001 - whatever it is, this thread must live to try again
                reason = why_away(error)
                if not failures:
                    _log.warning("no connection to Redis at %s: %s", self._address, reason)
                self._connecting_failed(reason, min(FIRST_PAUSE_SECONDS * 2**failures, MAX_PAUSE_SECONDS))
                failures = min(failures + 1, 16)
            else:
                if failures:
                    _log.warning("connected to Redis at %s again", self._address)
                failures = 0

    def _wants_connection(self) -> bool:
        """Whether there is none at all, or calls wait that no idle one can serve."""
        if self._connector.stopped:
            return False
        return not self._open or (len(self._waiters) > len(self._idle) and len(self._open) < MAX_CONNECTIONS)

    def _connected(self, connection: TimedConnection) -> None:
        self._open.add(connection)
        self.give_back(connection)

    def _connecting_failed(self, reason: OutboxError, pause_seconds: float) -> None:
        if not self._open:
            self._away = reason
            self._wake_calls()
        until = time.monotonic() + pause_seconds
        while not self._connector.stopped and (left := until - time.monotonic()) > 0:
            self._connector.wait(left)

    # The end

    def end(self) -> None:
        """End the thread and the connections, each when its call has ended."""
        self._connector.dismiss()
        self._forget_idle()
        self._wake_calls()
        self._connector.stop(self._timeout)  # longer only while it connects to a Redis that does not answer

    def leave(self) -> None:
        """Another pool has taken over: this one is a parent's, or from before a patch of the threads."""
        if self._pid == os.getpid():
            self._connector.dismiss()
            self._forget_idle()
            return
        for connection in self._open:
            connection.abandon()


def _is_half_patched() -> bool:
    """Whether a connection that one thread opens cannot be used by another: gevent's ``patch_all(thread=False)``."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("socket") and not monkey.is_module_patched("threading")


def _wait(waiter: threading.Lock, seconds: float) -> None:
    try:
        waiter.acquire(timeout=seconds)
    except AssertionError as error:  # gevent's BlockingSwitchOutError: a signal handler in its hub cannot wait
        raise OutboxUnreachable(f"no connection to Redis is ready, and this call cannot wait: {error!r}") from error
