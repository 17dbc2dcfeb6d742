"""One connection to Redis whose commands keep a total deadline.

redis-py's time-outs are per read, so a Redis that drips a byte at a time holds a call for ever. Here every send and
receive on the socket gets only the time that is left.
"""

from __future__ import annotations

import socket
import time
from typing import Any, ClassVar

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)
from redis.retry import Retry

from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.outbox.hello import probe
from insend_relay.outbox.keep_alive import keep_alive
from insend_relay.outbox.pinned import Opening, PinnedTcp, PinnedTls, PinnedUnix
from insend_relay.outbox.process import abandon
from insend_relay.outbox.race import race
from insend_relay.producers.address import CONNECT_SECONDS, Address, Late
from insend_relay.producers.packing import packed

# What reading an answer may raise: redis-py takes its form for granted, and stumbles in any of Python's own ways. Any
# other exception is the application's: its signal handler has raised it (a time limit), and must not be lost here.
_OF_READING = (
    RedisError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


class _TimedSocket:
    """A socket that gives up at ``deadline`` (monotonic seconds), however its time is spent.

    Attributes:
        deadline: When it gives up.
        may_have_sent: Whether the system may have taken what was to be sent last.
    """

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self.deadline = time.monotonic() + CONNECT_SECONDS
        self.may_have_sent = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def settimeout(self, seconds: float | None) -> None:
        """Ignored: redis-py sets its own, per read; the deadline is what counts."""

    def sendall(self, data: bytes) -> None:
        self.may_have_sent = False
        rest = memoryview(data)
        while rest:
            self._take_time()
            self.may_have_sent = True  # first: a signal handler may raise an exception right after the call
            rest = rest[self._inner.send(rest) :]

    def recv(self, *args: Any) -> bytes:
        self._take_time()
        return self._inner.recv(*args)

    def recv_into(self, *args: Any) -> int:
        self._take_time()
        return self._inner.recv_into(*args)

    def _take_time(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("deadline reached")
        self._inner.settimeout(left)


class _Timed:
    """Mixed into redis-py's connections: the socket they open is a timed one, with TCP keep-alive."""

    timed: _TimedSocket

    def _connect(self) -> _TimedSocket:
        connected = super()._connect()  # type: ignore[misc]
        keep_alive(connected)
        self.timed = _TimedSocket(connected)
        return self.timed


class _Tcp(_Timed, PinnedTcp):
    """redis://"""


class _Tls(_Timed, PinnedTls):
    """rediss://"""


class _Unix(_Timed, PinnedUnix):
    """unix://"""


class TimedAddress(Address):
    """Where to open timed connections."""

    retry = Retry
    kinds: ClassVar = {"tcp": _Tcp, "tls": _Tls, "unix": _Unix}

    def open(self) -> TimedConnection:
        """Connect, authenticate and see that Redis answers, and the question too.

        Raises:
            RedisError: As redis-py has it.
            OutboxError: This Redis does not take the question, or runs in cluster mode.
        """
        found = [None] if self.addresses is None else self.addresses.resolve(CONNECT_SECONDS)
        winner = race([Opening(self.connection(address), self._prove) for address in found], CONNECT_SECONDS)
        if self.addresses is not None and winner.primary:
            self.addresses.worked(winner.connection.address)
        return TimedConnection(winner.connection)

    def _prove(self, connection: Any) -> bool:
        """Whether this is a primary; raises when it is of no use to calls."""
        hello = probe(connection)
        hello.check()
        if self._question is not None:
            connection.send_command(*self._question.probe, check_health=False)
            try:
                connection.read_response()
            except ResponseError as error:
                raise self._question.refusal(error) from error
        return hello.is_primary


class TimedConnection:
    """An open connection, used by one call at a time.

    Attributes:
        broken: Whether an answer is missing, so that it must be used no more although no command failed.
    """

    def __init__(self, connection: Any) -> None:
        self.broken = False
        self._connection = connection
        self._socket: _TimedSocket = connection.timed
        # A second descriptor, to look without waiting: so no other greenlet runs in the middle of the pool's work.
        self._look = socket.fromfd(self._socket.fileno(), self._socket.family, self._socket.type)
        self._look.setblocking(False)

    def run(self, command: tuple[Any, ...], deadline: float) -> Any:
        """Run one command, once.

        An error that Redis answers with is raised as redis-py's; ResponseError leaves the connection in order. When
        the connection itself fails it is OutboxUnreachable, ``unknown`` once the command may have been sent, and Late
        when that is all that is wrong.
        """
        self._socket.deadline = deadline
        self._send(command)
        return self._read()

    def run_and_ask(self, command: tuple[Any, ...], question: tuple[Any, ...], deadline: float) -> tuple[Any, Any]:
        """Run one command, once, and ask a question right behind it.

        Returns:
            Both answers, which may be a ResponseError each; the second is None when none came. When there is no first
            one, raises as ``run`` does.
        """
        self._socket.deadline = deadline
        self._send(command, question)
        try:
            reply = self._read()
        except ResponseError as error:
            reply = error
        try:
            said = self._read()
        except ResponseError as error:
            said = error
        except (OutboxUnreachable, AuthenticationError, BusyLoadingError):
            said, self.broken = None, True
        return reply, said

    def _send(self, *commands: tuple[Any, ...]) -> None:
        data = b"".join([packed(command) for command in commands])
        try:
            self._socket.sendall(data)
        except OSError as error:  # of the socket, or of a signal handler: a time limit often raises TimeoutError
            if self._socket.may_have_sent:
                reason = f"the connection to Redis failed while the command was sent: {error}"
                raise OutboxUnreachable(reason, unknown=True) from error
            raise OutboxUnreachable(f"Redis took no command: {error}") from error

    def _read(self) -> Any:
        try:
            return self._connection.read_response()
        except (ResponseError, AuthenticationError, BusyLoadingError):
            raise
        except RedisTimeoutError as error:
            raise Late("Redis did not answer in time", unknown=True) from error
        except _OF_READING as error:
            raise OutboxUnreachable(f"Redis broke off before it answered: {error}", unknown=True) from error

    def is_stale(self) -> bool:
        """Whether Redis has closed it (a restart, an idle time-out) or it holds an answer that nobody waits for."""
        try:
            self._look.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """End the connection."""
        self._look.close()
        self._connection.disconnect()

    def abandon(self) -> None:
        """In a forked child: close the child's copy of the parent's connection, and say nothing to Redis."""
        abandon(self._look.fileno())
        abandon(self._socket.fileno())
