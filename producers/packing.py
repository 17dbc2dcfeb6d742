"""Commands in Redis's protocol.

Not by redis-py: with hiredis installed it leaves numbers to that, and hiredis crashes the process when a signal handler
raises an exception (an application's time limit, Ctrl-C) while it makes a text of a number. It would also take longer.
"""

from __future__ import annotations

from collections.abc import Sequence


def packed(command: Sequence[str | bytes | int]) -> bytes:
    """One command, ready to be sent."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
