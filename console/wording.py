"""What a person is told about an event that was sent: what became of it, and what is wrong with it."""

from __future__ import annotations

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


def _reworded(error: InvalidEvent, lenient: str) -> InvalidEvent:
    return InvalidEvent([(path, problem.replace("strict=False", lenient)) for path, problem in error.faults])
