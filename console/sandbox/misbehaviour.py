"""How the sandbox may be told to misbehave, and for which events. Pure: who waits, drips or hangs up is elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from insend_relay.console.sandbox.shapes import PROPERTIES

_Check = Callable[[Any], bool]
_STATUSES = range(200, 600)  # 1xx is not an answer but a promise of one


@dataclass(frozen=True, slots=True, kw_only=True)
class Misbehaviour:
    """One way to misbehave.

    Attributes:
        status: Answer this status, right or wrong the request; None leaves it to the contract.
        retry_after: A Retry-After header for that answer: seconds, or an HTTP date.
        delay: Wait this many seconds before answering.
        close: Read the request, then hang up without an answer.
        drip: Send the answer byte by byte, waiting this many seconds after each.
        refuse_for: Refuse all connections for this many seconds; open ones are cut.
        visitor_uid: Only for events of this visitor or guest.
        type: Only for events of this type.
        times: Only for this many requests; None is until told otherwise.
    """

    status: int | None = None
    retry_after: int | str | None = None
    delay: float = 0
    close: bool = False
    drip: float = 0
    refuse_for: float | None = None
    visitor_uid: str | None = None
    type: str | None = None
    times: int | None = None

    def concerns(self, visitor_uid: str, guest_uid: str, event_type: str) -> bool:
        """Whether an event of these uids and this type is to be treated badly."""
        return self.visitor_uid in {None, visitor_uid, guest_uid} and self.type in {None, event_type}

    def as_dict(self) -> dict[str, object]:
        """What was asked for, without what was left alone."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


def read_misbehaviour(options: Mapping[str, Any]) -> Misbehaviour:
    """Check and take options, from Python or from JSON; ValueError lists every fault, a sentence each."""
    given = {name: value for name, value in options.items() if value is not None}
    faults = [f"{name}: no such option; there are {', '.join(_OPTIONS)}" for name in given if name not in _OPTIONS]
    for name, value in given.items():
        right, wanted = _OPTIONS.get(name, (lambda _: True, ""))
        if not right(value):
            faults.append(f"{name}: must be {wanted}")
    if faults:
        raise ValueError("; ".join(faults))
    misbehaviour = Misbehaviour(**given)
    if problem := _contradiction(misbehaviour):
        raise ValueError(problem)
    return misbehaviour


def _contradiction(asked: Misbehaviour) -> str:
    """Why these options do not go together; "" if they do."""
    answering = asked.status is not None or asked.drip > 0
    if asked.refuse_for is not None:
        others = set(asked.as_dict()) - {"refuse_for"}
        return f"refuse_for: goes alone, not with {', '.join(sorted(others))}" if others else ""
    if not (answering or asked.close or asked.delay > 0):
        return "say how to misbehave: status, delay, close, drip or refuse_for"
    if asked.close and answering:
        return "close: a closed connection carries no answer, so leave status and drip out"
    if asked.retry_after is not None and asked.status is None:
        return "retry_after: give the status that it goes with, such as 503"
    return ""


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _header(value: Any) -> bool:
    return _whole(value) or (isinstance(value, str) and value.isascii() and value.isprintable())


_OPTIONS: Mapping[str, tuple[_Check, str]] = {
    "status": (lambda value: _whole(value) and value in _STATUSES, "a status from 200 to 599"),
    "retry_after": (_header, "seconds or an HTTP date"),
    "delay": (_seconds, "seconds"),
    "close": (lambda value: isinstance(value, bool), "true or false"),
    "drip": (_seconds, "seconds"),
    "refuse_for": (lambda value: _seconds(value) or value == math.inf, "seconds"),
    "visitor_uid": (lambda value: isinstance(value, str) and value != "", "a uid"),
    "type": (lambda value: isinstance(value, str) and value in PROPERTIES, "one of " + ", ".join(PROPERTIES)),
    "times": (lambda value: _whole(value) and value > 0, "a count of at least 1"),
}
