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
from typing import Any, Literal, NamedTuple

from redis.exceptions import NoPermissionError, ResponseError

from insend_relay.outbox.connection import REPLICA
from insend_relay.outbox.errors import OutboxError, OutboxRefused, OutboxUnreachable

Durability = Literal["memory", "fsync", "replicated"]
SHARE = 0.4  # of the time that a call has left: with Redis's 100 ms the answer is there within 250 ms
FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.25, 8.0  # between two questions while none is answered in time
_log = logging.getLogger("insend_relay.producers")


class Question(NamedTuple):
    """What Redis is asked.

    Attributes:
        durability: The setting that wants it.
        words: The command but its time.
        since: Which servers have it.
        failing: What it means when no answer comes in time.
    """

    durability: Durability
    words: tuple[str | int, ...]
    since: str
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
            return OutboxRefused(
                f"{setting} needs {name}, which this Redis does not have ({self.since} have it): upgrade it, or set "
                "INSEND_DURABILITY=memory"
            )
        if "appendonly" in said:
            return OutboxRefused(f"{setting}: this Redis keeps no append-only file: set appendonly yes")
        if "replica" in said:
            return OutboxUnreachable(REPLICA)
        return OutboxRefused(f"{setting}: Redis refuses {name} ({said})")


_QUESTIONS = {
    "memory": None,
    "fsync": Question(
        "fsync",
        ("WAITAOF", 1, 0),
        "Redis 7.2, Valkey 8 and newer",
        "Redis does not sync its file in time; appendfsync always does",
    ),
    "replicated": Question("replicated", ("WAIT", 1), "all versions", "no replica has them in time"),
}


def question(durability: Durability) -> Question | None:
    """What to ask for a setting; None when nothing."""
    return _QUESTIONS[durability]


class Patience:
    """When to ask: no call waits for an answer that did not come to the last ones, but now and then one tries again.

    For any number of threads: where two meet, one question more is asked.

    Args:
        question: What is asked.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        self._failing = False
        self._pause = FIRST_PAUSE_SECONDS
        self._next = 0.0  # when one may try again, while failing; monotonic seconds

    def ms(self, seconds: float) -> int:
        """How long the question may wait, of a call that has so many seconds left; 0: do not ask."""
        if self._failing:
            now = time.monotonic()
            if now < self._next:
                return 0
            self._next = now + self._pause
            self._pause = min(2 * self._pause, MOST_PAUSE_SECONDS)
        return max(1, int(seconds * SHARE * 1000))

    def note(self, *, confirmed: bool, why: str = "") -> None:
        """How a question ended."""
        if confirmed:
            if self._failing:
                _log.warning("events are confirmed again (INSEND_DURABILITY=%s)", self._question.durability)
            self._failing = False
            self._pause = FIRST_PAUSE_SECONDS
        elif not self._failing:
            self._next = time.monotonic() + self._pause
            self._failing = True
            words = "events are kept, but not confirmed (INSEND_DURABILITY=%s): %s"
            _log.warning(words, self._question.durability, why or self._question.failing)


class Asking(NamedTuple):
    """A question, and the patience of those who ask it."""

    question: Question
    patience: Patience

    @classmethod
    def about(cls, durability: Durability) -> Asking | None:
        """For a setting; None when nothing is asked."""
        asked = question(durability)
        return None if asked is None else cls(asked, Patience(asked))

    def heard(self, said: Any) -> bool:
        """Whether an answer is yes; None is none, and an exception Redis's error."""
        confirmed = self.question.holds(said)
        why = str(self.question.refusal(said)) if isinstance(said, ResponseError) else ""
        self.patience.note(confirmed=confirmed, why=why)
        return confirmed
