"""Redis's replies in one shape, whatever the protocol and the release of redis-py.

A reply of names and values comes as a dict, as a list of pairs, or flat (name, value, name, value): it depends on the
command, on RESP2 or RESP3, and on whether the client parses at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from insend_relay.outbox.connection import Executor, errors_mapped


def pairs(reply: Any) -> list[tuple[bytes, Any]]:
    """The names and values of HGETALL, HSCAN, ZSCAN or a range WITHSCORES."""
    if isinstance(reply, dict):
        return list(reply.items())
    if reply and isinstance(reply[0], list | tuple):
        return [(name, value) for name, value in reply]
    return list(zip(reply[::2], reply[1::2], strict=True))


def scan(redis: Executor, *command: Any, match: str = "*", count: int = 500) -> Iterator[Any]:
    """The batches of a SCAN, HSCAN or ZSCAN, until its cursor is back at 0.

    Args:
        redis: Whatever runs a command.
        command: ``("SCAN",)``, or the other two with their key.
        match: Which names; a pattern.
        count: About how many a batch holds.
    """
    cursor = 0
    while True:
        with errors_mapped():
            reply = redis.execute_command(*command, cursor, "MATCH", match, "COUNT", count)
        cursor = int(reply[0])
        yield reply[1]
        if cursor == 0:
            return
