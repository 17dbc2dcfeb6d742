"""The line to Redis that all greenlets of a thread share: what they ask at the same moment goes in one packet.

A greenlet that asks waits, and the others go on. While one packet is under way the next gathers, so that packets grow
with the load: an event's settle costs a fraction of a round trip when hundreds of lanes are under way, and a whole one,
at once, when nothing else is. redis-py itself works in a thread of the line, so that a Redis that is slow to answer, a
TLS handshake or a look-up holds up no POST.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import gevent
from gevent.hub import Waiter

from insend_relay.outbox.connection import Executor, together
from insend_relay.worker.green_thread import Door


class _Asked(NamedTuple):
    """A command, and the greenlet that waits for its reply."""

    command: tuple[Any, ...]
    waiter: Waiter


class Line:
    """Runs commands for an Outbox; made and used in one thread.

    Args:
        redis: The client that runs them, in another thread.
    """

    def __init__(self, redis: Executor) -> None:
        self._redis = redis
        self._loop = gevent.get_hub().loop
        self._door = Door()
        self._gathered: list[_Asked] = []
        self._under_way = False
        self._packets: queue.SimpleQueue[list[_Asked] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._carry, name="insend-line", daemon=True)
        self._thread.start()

    def execute_command(self, *args: Any) -> Any:
        """Run one command and return its reply; errors are redis-py's."""
        waiter = Waiter()
        if not self._gathered:
            self._loop.run_callback(self._send)  # once the greenlets that are ready now have asked, too
        self._gathered.append(_Asked(args, waiter))
        reply = waiter.get()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        """End the thread."""
        self._packets.put(None)
        self._thread.join()
        self._door.close()

    def _send(self) -> None:
        if self._gathered and not self._under_way:
            packet, self._gathered = self._gathered, []
            self._under_way = True
            self._packets.put(packet)

    def _hand_out(self, packet: Sequence[_Asked], replies: Sequence[Any]) -> None:
        self._under_way = False
        for asked, reply in zip(packet, replies, strict=True):
            asked.waiter.switch(reply)
        self._loop.run_callback(self._send)  # once those who have their replies have asked again, too

    def _carry(self) -> None:
        """The thread's life."""
        while packet := self._packets.get():
            self._door.call(self._hand_out, packet, self._run(packet))

    def _run(self, packet: Sequence[_Asked]) -> Sequence[Any]:
        try:
            return together(self._redis, *(asked.command for asked in packet))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are to know it
            return [error] * len(packet)
