"""Happy eyeballs for Redis (RFC 8305): the addresses of a name are tried in parallel, and the first primary wins.

The next attempt starts 250 ms after the one before, or at once when that has failed. An attempt has worked when TLS,
authentication and the role are in order, so a node that swallows packets, a frozen one and a replica delay the
connection by 250 ms at most. Losers are closed. A replica wins only when there is no primary.

An attempt blocks, so each runs in a thread of its own; with a single address there is no thread. These threads end by
themselves: each attempt has its own time-outs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import redis

from insend_relay.outbox.addresses import NEXT_ADDRESS_SECONDS


class Attempt(Protocol):
    """One connection to one address, still to be opened."""

    def run(self) -> bool:
        """Connect; whether the server is a primary. Cleans up when it raises."""

    def abort(self) -> None:
        """Close the connection; from another thread while ``run`` goes on, which then raises. May be repeated."""


A = TypeVar("A", bound=Attempt)


def race(attempts: Sequence[A], seconds: float) -> A:
    """Run the attempts and return the one that won, open; the others are closed.

    Args:
        attempts: In the order of their addresses, at least one.
        seconds: The time for all of them together.

    Raises:
        redis.TimeoutError: None has worked in time.
        Exception: What the attempts raised when all failed; an error that a server answered before one of the network.
    """
    if len(attempts) == 1:
        attempts[0].run()
        return attempts[0]
    return _Race(attempts, seconds).run()


class _Race(Generic[A]):
    def __init__(self, attempts: Sequence[A], seconds: float) -> None:
        self._waiting = deque(attempts)
        self._started: list[A] = []
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._ended: deque[tuple[A, bool | BaseException]] = deque()
        self._over = False
        self._winner: A | None = None
        # Released when an attempt has ended. Not a queue: gevent can patch the threads and leave queues as they are.
        self._news = threading.Lock()
        self._news.acquire()

    def run(self) -> A:
        try:
            self._winner = self._first_that_works()
            return self._winner
        finally:
            self._over = True
            for attempt in self._started:
                if attempt is not self._winner:
                    attempt.abort()

    def _first_that_works(self) -> A:
        errors: list[BaseException] = []
        replica: A | None = None
        running = 0
        while self._waiting or running:
            if self._waiting:
                self._start(self._waiting.popleft())
                running += 1
            ended = self._next_end()
            if ended is None:
                continue
            running -= 1
            attempt, outcome = ended
            if outcome is True:
                return attempt
            if isinstance(outcome, BaseException):
                errors.append(outcome)
            else:
                replica = replica or attempt
        if replica is not None:
            return replica
        raise most_telling(errors)

    def _start(self, attempt: A) -> None:
        self._started.append(attempt)
        thread = threading.Thread(target=self._attempt, args=(attempt,), name="insend-connect", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or Python is shutting down
            self._attempt(attempt)

    def _attempt(self, attempt: A) -> None:
        outcome: bool | BaseException
        try:
            outcome = attempt.run()
        except Exception as error:  # noqa: BLE001 - it is raised where the connection is wanted
            outcome = error
        self._ended.append((attempt, outcome))
        with suppress(RuntimeError):  # released already
            self._news.release()
        if self._over and attempt is not self._winner:  # too late to be seen there
            attempt.abort()

    def _next_end(self) -> tuple[A, bool | BaseException] | None:
        """How an attempt ended; None when the next one is to start. TimeoutError at the deadline."""
        until = self._deadline
        if self._waiting:
            until = min(until, time.monotonic() + NEXT_ADDRESS_SECONDS)
        while not self._ended:
            left = until - time.monotonic()
            if left <= 0 and until == self._deadline:
                raise late(self._seconds)
            if left <= 0:
                return None
            self._news.acquire(timeout=left)
        return self._ended.popleft()


def late(seconds: float) -> redis.TimeoutError:
    """No address has worked in time."""
    return redis.TimeoutError(f"connecting took more than {seconds:g} s")


def most_telling(errors: Sequence[BaseException]) -> BaseException:
    """What a server answered, such as a wrong password, rather than that another one is not there; else the first."""
    network = (redis.ConnectionError, redis.TimeoutError, OSError)
    said = [each for each in errors if not isinstance(each, network) or isinstance(each, redis.AuthenticationError)]
    return (said or errors)[0]
