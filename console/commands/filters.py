"""The filters that say which dead letters are meant: the same options on every command that works on many."""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from insend_relay.operations.dead import DeadLetters, Filter
from insend_relay.operations.status import read_clock
from insend_relay.outbox.store import Outbox

_AGE = re.compile(r"(\d{1,6})\s*(s|m|min|h|d|w)\Z")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time as an operator gives it: absolute, or so long before now.

    Attributes:
        at_ms: Milliseconds since the epoch; None for an age.
        age_ms: So long ago; 0 for an absolute time.
    """

    at_ms: int | None
    age_ms: int = 0

    @classmethod
    def parse(cls, text: str) -> Moment:
        """Read ``2h``, ``3d``, or an ISO time (local when it names no zone); ValueError otherwise."""
        age = _AGE.match(text.strip().lower())
        if age:
            return cls(None, int(age[1]) * _SECONDS[age[2]] * 1000)
        try:
            at = datetime.fromisoformat(text.strip()).astimezone()
            return cls(int(at.timestamp() * 1000))
        except (ValueError, OverflowError):
            wanted = "an age such as 2h or 3d, or a time such as 2026-05-01T14:30"
            raise ValueError(f"give {wanted}, not {text!r}") from None

    def ms(self, now_ms: int) -> int:
        """Milliseconds since the epoch."""
        return now_ms - self.age_ms if self.at_ms is None else self.at_ms


class _MomentType(click.ParamType[Moment]):
    name = "TIME|AGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, Moment):
            return value
        try:
            return Moment.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filter options of a command line; ``filter`` makes the outbox's filter of them, once its clock is known."""

    type: str | None = None
    reason: str | None = None
    outcome: str | None = None
    app: str | None = None
    visitor: str | None = None
    since: Moment | None = None
    until: Moment | None = None
    id: uuid.UUID | None = None

    def filter(self, outbox: Outbox) -> Filter:
        """The filter as of now; what dies later is not meant: nothing shall be acted on that was not counted."""
        now_ms = read_clock(outbox)
        return Filter(
            type=self.type,
            reason=self.reason,
            outcome=self.outcome,
            app=self.app,
            visitor=self.visitor,
            since_ms=self.since.ms(now_ms) if self.since else None,
            until_ms=self.until.ms(now_ms) if self.until else None,
            last_burial=DeadLetters(outbox).last_burial(),
            id=self.id,
        )


_OPTIONS = (
    click.option("--type", help="Of this event type."),
    click.option("--reason", help="That died for this reason, as `insend dead groups` shows it."),
    click.option(
        "--outcome",
        type=click.Choice(["refused", "answered", "unknown", "invalid", "none"]),
        help="Whose last attempt ended so. Of an unknown outcome, the tracker may have counted the event.",
    ),
    click.option("--app", help="Of this app."),
    click.option("--visitor", metavar="UID", help="Of this visitor or guest."),
    click.option("--since", type=_MomentType(), help="That died since then: 2h, 3d, 2026-05-01T14:30."),
    click.option("--until", type=_MomentType(), help="That died before then."),
    click.option("--id", type=click.UUID, help="The one letter of this id."),
)
_NAMES = tuple(Wanted.__dataclass_fields__)


def filter_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command all filter options; they arrive together as its argument ``wanted``."""

    @functools.wraps(function)
    def command(**values: Any) -> None:
        wanted = Wanted(**{name: values.pop(name) for name in _NAMES})
        function(wanted=wanted, **values)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command
