"""Name resolution with a time limit: getaddrinfo has none, and takes half a minute when no name server answers.

A lookup runs in a thread of its own. Those who wait for it give up in time, and it goes on: the next connection to the
same name waits for it instead of starting another, so a name has one such thread at most. It is a daemon thread, and
none of asyncio's executor: a program may end meanwhile, and the executor's threads stay the application's.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import redis

from insend_relay.outbox.process import PerProcess

Found = list[Any]  # as getaddrinfo returns it


class Lookups:
    """The lookups of one host name; an IP address needs none.

    Args:
        host: A name or an IP address.
        port: The port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._latest = PerProcess(lambda _: self._start())

    def resolve(self, seconds: float) -> Found:
        """What getaddrinfo finds.

        Args:
            seconds: How long to wait for it.

        Raises:
            redis.TimeoutError: It has not ended in time.
            OSError: The name has no address.
        """
        if self._is_address():
            return self._getaddrinfo()
        lookup = self._lookup()
        with suppress(TimeoutError):
            return lookup.result(seconds)
        if lookup.done():  # it has ended just now, or by a TimeoutError of its own
            return lookup.result()
        raise redis.TimeoutError(f"the name {self._host} was not resolved within {seconds:g} s")

    async def resolve_in_loop(self) -> Found:
        """The same for asyncio; the caller sets the time limit."""
        if self._is_address():
            return self._getaddrinfo()
        return await asyncio.wrap_future(self._lookup())

    def _is_address(self) -> bool:
        try:
            ipaddress.ip_address(self._host)
        except ValueError:
            return False
        return True

    def _getaddrinfo(self) -> Found:
        return socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)

    def _lookup(self) -> Future[Found]:
        """The one that runs, or a new one."""
        latest = self._latest.peek()
        if latest is not None and latest.done():
            self._latest.forget()
        return self._latest.get()

    def _start(self) -> Future[Found]:
        lookup: Future[Found] = Future()
        lookup.set_running_or_notify_cancel()  # asyncio must not cancel it: others may wait for it
        thread = threading.Thread(target=self._run, args=(lookup,), name="insend-resolve", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or Python is shutting down
            self._run(lookup)
        return lookup

    def _run(self, lookup: Future[Found]) -> None:
        try:
            found = self._getaddrinfo()
        except Exception as error:  # noqa: BLE001 - it is raised where the addresses are wanted
            lookup.set_exception(error)
        else:
            lookup.set_result(found)
