"""Commands in Redis's protocol.

Not by redis-py: with hiredis installed it leaves numbers to that, and hiredis crashes the process when a signal handler
raises an exception (an application's time limit, Ctrl-C) while it makes a text of a number. It would also take longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

Word = str | bytes | int


def packed(command: Sequence[Word]) -> bytes:
    """One command, ready to be sent."""
    head = 3 + int(command[2]) if command[0] == "EVALSHA" else 0
    same = _packed_head(tuple(command[:head])) if head else b""
    return b"*%d\r\n%b%b" % (len(command), same, _packed_words(command[head:]))


@lru_cache(maxsize=64)
def _packed_head(words: tuple[Word, ...]) -> bytes:
    """What all calls of a script begin with: its hash and its keys, half of the words of a command."""
    return _packed_words(words)


def _packed_words(words: Sequence[Word]) -> bytes:
    written = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in written])
