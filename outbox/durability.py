"""How safe an event is before the call that brought it returns: what Redis is asked behind an append.

``memory``
    Nothing. Redis has the event, as safe as its ``appendfsync`` makes it before it answers.
``fsync``
    WAITAOF: the append-only file has reached the disk (Redis 7.2, Valkey 8 and newer).
``replicated``
    WAIT: one replica has the event in its memory at least.

A question is about all that was written on its connection before it, so it goes out right behind the append: both take
one round trip. While Redis holds a question it answers nothing else on that connection, and it looks at its clock no
more than ten times a second: an answer may come 100 ms after the time that the question gave it.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Literal, NamedTuple, Self

from redis.exceptions import NoPermissionError, ResponseError

from insend_relay.outbox.connection import REPLICA
from insend_relay.outbox.errors import OutboxError, OutboxRefused, OutboxUnreachable

Durability = Literal["memory", "fsync", "replicated"]
SHARE = 0.4  # of the time that a call has left
LATE_SECONDS = 0.11  # by so much Redis may answer later than it was given
FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.25, 8.0  # between two questions while none is answered in time
YES_SHARE = 0.95  # what is left of the pause after a yes; under everysec these come in rows, and prove nothing
_log = logging.getLogger("insend_relay.producers")


class Question(NamedTuple):
    """What Redis is asked.

    Attributes:
        durability: The setting that wants it.
        words: The command but its time.
        probe: A command that Redis answers at once if it takes the question; for a new connection.
        missing: What to do about a Redis that does not know it.
        failing: What it means when no answer comes in time.
    """

    durability: Durability
    words: tuple[str | int, ...]
    probe: tuple[str | int, ...]
    missing: str
    failing: str

    def command(self, ms: int) -> tuple[str | int, ...]:
        """The command; it is answered within so many milliseconds, and 100 more. At least 1: 0 would be for ever."""
        return (*self.words, max(1, ms))

    def holds(self, reply: Any) -> bool:
        """Whether the answer is yes: how many there are, after WAITAOF the own disk first."""
        count = reply[0] if isinstance(reply, list) and reply else reply
        return isinstance(count, int) and count >= 1

    def refusal(self, error: ResponseError) -> OutboxError:
        """What it means that Redis does not take the question at all."""
        name, setting = self.words[0], f"INSEND_DURABILITY={self.durability}"
        said = str(error)
        if isinstance(error, NoPermissionError):
            right = str(name).lower()
            return OutboxRefused(f"{setting}: Redis does not let this user run {name}: give it +{right}")
        if "unknown command" in said.lower():
            return OutboxRefused(f"{setting} needs {name}, which this Redis does not have: {self.missing}")
        if "appendonly" in said:
            return OutboxRefused(f"{setting}: this Redis keeps no append-only file: set appendonly yes")
        if "replica" in said:
            return OutboxUnreachable(REPLICA)
        return OutboxRefused(f"{setting}: Redis refuses {name} ({said})")


FSYNC = Question(
    "fsync",
    ("WAITAOF", 1, 0),
    ("WAITAOF", 1, 0, 1),
    "Redis 7.2, Valkey 8 and newer have it; upgrade it, or set INSEND_DURABILITY=memory",
    "Redis does not sync its file in time; appendfsync always does",
)
REPLICATED = Question(
    "replicated",
    ("WAIT", 1),
    ("WAIT", 0, 1),
    "each version has it, so a proxy may not pass it on; go round the proxy, or set INSEND_DURABILITY=memory",
    "no replica has them in time",
)
_QUESTIONS = {"memory": None, "fsync": FSYNC, "replicated": REPLICATED}


class Asking:
    """When to ask: no call waits for an answer that did not come to the last ones, but now and then one tries again.

    For any number of threads: where two meet, one question more is asked.

    Attributes:
        question: What is asked.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self._failing = False  # whether the last answer was no, or did not come
        self._pause = FIRST_PAUSE_SECONDS  # until one tries again; it doubles with a no, and a yes is worth little
        self._next = 0.0  # when one may try again, while failing; monotonic seconds
        self._said = False

    @classmethod
    def about(cls, durability: Durability) -> Self | None:
        """For a setting; None when nothing is asked."""
        question = _QUESTIONS[durability]
        return None if question is None else cls(question)

    def may_ask(self) -> bool:
        """Whether it is worth while; who is told so asks."""
        if self._failing:
            now = time.monotonic()
            if now < self._next:
                return False
            self._next = now + self._pause
        return True

    def heard(self, said: Any) -> bool:
        """Whether an answer is yes; None is none, and an exception Redis's error."""
        if self.question.holds(said):
            self._failing = False
            self._pause = max(FIRST_PAUSE_SECONDS, self._pause * YES_SHARE)
            if self._said and self._pause == FIRST_PAUSE_SECONDS:
                self._said = False
                _log.warning("events are confirmed again (INSEND_DURABILITY=%s)", self.question.durability)
            return True
        self._failing = True
        self._next = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, MOST_PAUSE_SECONDS)
        if not self._said:
            self._said = True
            failing = f"INSEND_DURABILITY={self.question.durability}: {self.question.failing}"
            _log.warning(
                "no event is confirmed: %s", self.question.refusal(said) if isinstance(said, ResponseError) else failing
            )
        return False


def patience_ms(seconds: float) -> int:
    """How long the question of a call may wait that has so many seconds left."""
    return max(1, int(min(seconds * SHARE, seconds - LATE_SECONDS) * 1000))
