"""What is written on a dead letter beside its record: the group that it is counted in, and how it came to be dead."""

from __future__ import annotations

import json

from insend_relay.outbox import event_type, record


def group(type: str, reason: str) -> bytes:
    """The name under which dead letters are counted."""
    return f"{_label(type)}\t{_label(reason)}".encode()


def letter_meta(*, outcome: str, status: int | None = None, answer: str = "", attempts: int = 0) -> bytes:
    """How the event came to be dead, beside app, lane and group; ``dead.Letter`` has the meanings.

    Args:
        outcome: How the last send ended.
        status: The tracker's status, when it answered.
        answer: What the tracker said, or the faults of an invalid event; "" when there was no answer.
        attempts: How often it was sent, with the sends that crashed their worker (``Tried.starts``).
    """
    about = {"outcome": outcome, "status": status, "answer": answer, "attempts": attempts}
    return json.dumps(about, ensure_ascii=False).encode(errors="replace")


def _label(text: str) -> str:
    """A type or reason as letters are counted by it; an invalid event's type is whatever the caller wrote."""
    return " ".join(text.encode(errors="replace").decode().split())[:200]


def type_of(data: bytes) -> str:
    """The event type inside a stored record, for counting; "?" when it cannot be read."""
    try:
        found = record.decode(data)
    except record.NotARecord:
        return "?"
    code = found.facts.type_code
    return type_in(found.payload) if code in (event_type.UNREADABLE, event_type.OTHER) else event_type.name_of(code)


def type_in(payload: bytes) -> str:
    """The event type inside a payload; "?" when it cannot be read."""
    try:
        return str(json.loads(payload)["type"])
    except (ValueError, RecursionError, LookupError, TypeError):
        return "?"
