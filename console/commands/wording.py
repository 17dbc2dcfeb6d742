"""What a person is told about an event that was sent: what became of it, and what is wrong with it."""

from __future__ import annotations

import re

from insend_relay.outbox.errors import InvalidEvent
from insend_relay.producers.receipt import Receipt

_MEANING = {
    "redis": "kept, and delivered once the tracker takes it",
    "spool": "kept on this machine's disk until Redis takes it",
    "duplicate": "an event with this idempotency key was kept before",
    "opted_out": "not kept: the visitor does not want to be tracked",
    "disabled": "not kept: sending is switched off (INSEND_ENABLED)",
}


def meaning(receipt: Receipt) -> str:
    """What a receipt says."""
    unconfirmed = "" if receipt.confirmed else "; not confirmed as INSEND_DURABILITY wants it"
    return _MEANING.get(receipt.where, receipt.where) + unconfirmed


def as_options(error: InvalidEvent) -> InvalidEvent:
    """The same faults in the words of a command line, not those of Python."""
    return _reworded(error, "--no-strict")


def as_file(error: InvalidEvent) -> list[str]:
    """The faults, a line each, in the words of a file of events."""
    return [f"{path}: {problem}" for path, problem in _reworded(error, '"strict": false').faults]


def as_json_text(problem: str) -> str:
    """A problem, or several, in the words of a person who writes JSON, not Python."""
    return problem.replace('give Decimal("12.50") for "12,50"', 'write 12.50, without quotes, for "12,50"')


def answer_lines(answer: str) -> list[str]:
    """The faults in the answer of an invalid event's letter, one by one: a problem may hold "; " itself."""
    return re.split(r"; (?=[^\s:;]+: )", as_json_text(answer))


def _reworded(error: InvalidEvent, lenient: str) -> InvalidEvent:
    faults = [(path, as_json_text(problem.replace("strict=False", lenient))) for path, problem in error.faults]
    return InvalidEvent(faults)
