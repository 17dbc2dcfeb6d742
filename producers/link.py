"""The producers' link to Redis: a call takes at most its deadline, whatever is broken.

- Connections are opened and proven by one background thread, never by a call: resolving a name, TCP, TLS and the
  handshake can take seconds (``pool``).
- A call takes a ready connection and makes its round trip on it. When there is none it waits for one: for the first
  connection, for the one that replaces a broken one, or for another call to end.
- While Redis is known to be away, calls fail at once; the background thread tries until it is back. After a late
  answer a call waits 5 ms at most, until a connection has been proven again: a Redis that is frozen, or a network
  that swallows everything, costs a process its deadline once.
- A connection that failed is dropped with all idle ones: they lead to the same Redis. None is ever used again after an
  answer was missed, and no command is ever repeated.
- A script may be followed by a question whether what it wrote is safe (``INSEND_DURABILITY``), in the same round trip.
- A forked child has a pool of its own, however it was forked; so has a process whose threads were patched by gevent.
- A call may be re-entered at any point, by a signal handler or by ``__del__``: no lock is held.
"""

from __future__ import annotations

import time
from typing import Any

from redis.exceptions import ResponseError

from insend_relay.outbox.durability import Asking, Durability, patience_ms
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.outbox.process import PerProcess
from insend_relay.outbox.scripts import COMMANDS as SCRIPTS
from insend_relay.producers.address import Late
from insend_relay.producers.deadline import TimedAddress, TimedConnection
from insend_relay.producers.pool import Pool


class Call:
    """One call of the application, which runs its commands for an Outbox.

    The state of a call is here and nowhere else, so a call that is made in the middle of another changes nothing of it.

    Args:
        link: Has the connections.
        deadline: When it must end; monotonic seconds.

    Attributes:
        confirmed: Whether what it wrote is as safe as the settings want it.
    """

    __slots__ = ("_link", "confirmed", "deadline")

    def __init__(self, link: Link, deadline: float) -> None:
        self._link = link
        self.deadline = deadline
        self.confirmed = True

    def execute_command(self, *args: Any) -> Any:
        """Run one command; raises OutboxUnreachable, or redis-py's exception for an error that Redis answered."""
        return self._link.run(args, self)


class Link:
    """Runs commands for an Outbox, each on a connection of its own for as long as it takes.

    Args:
        url: As in the settings.
        timeout_seconds: The longest that a call may take, all its commands together.
        durability: What Redis is asked behind each script.
    """

    def __init__(self, url: str, *, timeout_seconds: float, durability: Durability = "memory") -> None:
        self._asking = Asking.about(durability)
        self.address = TimedAddress(url, None if self._asking is None else self._asking.question)
        self._timeout = timeout_seconds
        self._closed = False
        self._pools = PerProcess(lambda _: Pool(self.address, self._timeout), leave=Pool.leave)

    def call(self) -> Call:
        """Begin a call: its commands share one deadline."""
        return Call(self, time.monotonic() + self._timeout)

    def execute_command(self, *args: Any) -> Any:
        """Run one command, in a call of its own; see ``Call.execute_command``."""
        return self.call().execute_command(*args)

    def run(self, args: tuple[Any, ...], call: Call) -> Any:
        """Run one command of a call; see ``Call.execute_command``."""
        pool = self._pool()
        connection = pool.take(call.deadline)
        try:
            reply = self._run(connection, args, call)
        except ResponseError as error:
            if "READONLY" in str(error):  # a failover: the name may by now lead to the new primary
                pool.drop(connection)
            else:
                pool.give_back(connection)
            raise
        except BaseException as error:  # also a greenlet that is killed in the middle of an answer
            pool.drop(connection, late=isinstance(error, Late))
            raise
        pool.give_back(connection)
        return reply

    def _run(self, connection: TimedConnection, args: tuple[Any, ...], call: Call) -> Any:
        if self._asking is None or args[0] not in SCRIPTS:
            return connection.run(args, call.deadline)
        if not self._asking.may_ask():
            call.confirmed = False
            return connection.run(args, call.deadline)
        question = self._asking.question.command(patience_ms(call.deadline - time.monotonic()))
        reply, said = connection.run_and_ask(args, question, call.deadline)
        call.confirmed = self._asking.heard(said)
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def connect(self) -> None:
        """Have a connection ready for the first call; OutboxUnreachable when there is none in time."""
        pool = self._pool()
        pool.give_back(pool.take(time.monotonic() + self._timeout))

    def close(self) -> None:
        """End the background thread and every connection; later calls fail."""
        self._closed = True
        pool = self._pools.peek()
        if pool is not None:
            pool.end()

    def _pool(self) -> Pool:
        if self._closed:
            raise OutboxUnreachable("this InSend has been closed")
        return self._pools.get()
