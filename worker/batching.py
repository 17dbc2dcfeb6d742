"""Group commit for the greenlets of one thread: what they ask for at the same moment is done in one batch.

A greenlet that asks waits, and the others go on. While batches are in flight the next ones gather, so that batches grow
with the load: a request costs a fraction of a round trip when hundreds of lanes are in flight. When there is nothing
else, it costs a whole one, and begins at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Generic, TypeVar

import gevent
from gevent.hub import Waiter

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Done = Callable[[Sequence[Reply | BaseException]], None]


class Batcher(Generic[Request, Reply]):
    """Puts requests into batches; made and used in one thread.

    Args:
        start: Starts a batch and does not wait for it. Its end is told to the given function, in this thread's loop,
            with a reply or an exception for each request.
        max_size: A larger batch is split into several, which are in flight together; 0 sets no maximum.
    """

    def __init__(
        self,
        start: Callable[[Sequence[Request], Done[Reply]], None],
        *,
        max_size: int = 0,
    ) -> None:
        self._start = start
        self._max_size = max_size
        self._loop = gevent.get_hub().loop
        self._gathered: dict[Hashable, list[tuple[Request, Waiter]]] = {}
        self._in_flight = 0  # batches

    def ask(self, request: Request, key: Hashable = None) -> Reply:
        """Have a request carried out with others of the same key; returns its reply, or raises its exception."""
        waiter = Waiter()
        if not self._gathered and not self._in_flight:
            self._loop.run_callback(self._send)  # when the greenlets that are ready now have asked, too
        self._gathered.setdefault(key, []).append((request, waiter))
        reply: Reply | BaseException = waiter.get()
        if isinstance(reply, BaseException):
            raise reply.with_traceback(None)  # others raise the same one: it would show where each of them was
        return reply

    def _send(self) -> None:
        if self._in_flight:
            return
        gathered, self._gathered = self._gathered, {}
        for same_key in gathered.values():
            size = self._max_size or len(same_key)
            for at in range(0, len(same_key), size):
                requests, waiters = zip(*same_key[at : at + size], strict=True)
                self._in_flight += 1
                self._start(requests, partial(self._end, waiters))

    def _end(self, waiters: Sequence[Waiter], replies: Sequence[Reply | BaseException]) -> None:
        self._in_flight -= 1
        for waiter, reply in zip(waiters, replies, strict=True):
            waiter.switch(reply)
        self._loop.run_callback(self._send)  # when the greenlets that have their replies have asked again
