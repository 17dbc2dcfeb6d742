"""What an event tells about its visitor, by the rules of CONTRACT.md.

**An empty string erases what the service knows about the visitor.** So a field of None is left out, an empty string
is refused, and a caller who does want to erase a field says so: ``visitor_info={"phone": ERASE}``.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

from insend_relay.producers.json_writer import Writer, refused, scalar, text, type_name
from insend_relay.producers.shape import Shape

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)


class Erase:
    """The type of ``ERASE``."""

    def __repr__(self) -> str:
        return "ERASE"


ERASE: Final = Erase()
"""The value of a ``visitor_info`` field that the service shall forget."""


def _erasable(write: Writer) -> Writer:
    def either(value: Any) -> str:
        if value is ERASE:
            return '""'
        if isinstance(value, str) and not value:
            raise refused("is empty, which would erase the field; leave it out, or give ERASE if that is meant")
        return write(value)

    return either


def _date_of_birth(value: Any) -> str:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return f'"{value.isoformat()}"'
    if not isinstance(value, str):
        raise refused(f"must be a date or a string YYYY-MM-DD, not {type_name(value)}")
    try:
        valid = _DATE.match(value) and dt.date.fromisoformat(value)
    except ValueError:
        valid = None
    if not valid:
        raise refused("must be a date of the form YYYY-MM-DD")
    return f'"{value}"'


def _gender(value: Any) -> str:
    if value not in ("male", "female"):
        raise refused('must be "male" or "female"')
    return f'"{value}"'


def _custom_field(value: Any) -> str:
    written = scalar(value)
    if written is None:
        raise refused(f"must be a string, number, boolean or date, not {type_name(value)}")
    return written


_erasable_custom_field = _erasable(_custom_field)


def _further(value: Any, _level: int) -> str:
    return "" if value is None else _erasable_custom_field(value)


VISITOR_INFO = Shape(
    optional={
        **dict.fromkeys(("first_name", "last_name", "full_name", "email", "phone", "language"), _erasable(text)),
        "date_of_birth": _erasable(_date_of_birth),
        "gender": _erasable(_gender),
    },
    further=_further,
    level=2,
)
