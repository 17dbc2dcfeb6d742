"""One pipelined connection to Redis for all greenlets of a thread: commands of one moment go in one packet.

redis-py runs in a thread of the pipeline, so that a Redis that is slow to answer, a TLS handshake or a look-up holds up
no POST.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from insend_relay.outbox.connection import Executor, together
from insend_relay.worker.batching import Batcher, Done
from insend_relay.worker.green_thread import Door

Command = tuple[Any, ...]


class _Packet(NamedTuple):
    """Commands that are sent together, and what their replies are given to."""

    commands: Sequence[Command]
    done: Done[Any]


class Pipeline:
    """Runs commands for an Outbox; made and used in one thread.

    Args:
        redis: The client that runs them, in another thread.
    """

    def __init__(self, redis: Executor) -> None:
        self._redis = redis
        self._door = Door()
        self._packets: queue.SimpleQueue[_Packet | None] = queue.SimpleQueue()
        self._batcher: Batcher[Command, Any] = Batcher(lambda *packet: self._packets.put(_Packet(*packet)))
        self._thread = threading.Thread(target=self._carry, name="insend-pipeline", daemon=True)
        self._thread.start()

    def execute_command(self, *args: Any) -> Any:
        """Run one command and return its reply; errors are redis-py's."""
        return self._batcher.ask(args)

    def close(self) -> None:
        """End the thread."""
        self._packets.put(None)
        self._thread.join()
        self._door.close()

    def _carry(self) -> None:
        """The thread's life."""
        while packet := self._packets.get():
            self._door.call(packet.done, self._run(packet.commands))

    def _run(self, commands: Sequence[Command]) -> Sequence[Any]:
        try:
            return together(self._redis, *commands)
        except Exception as error:  # noqa: BLE001 - whatever it is, every greenlet that waits must learn of it
            return [error] * len(commands)
