"""What an event tells about its visitor, by the rules of CONTRACT.md.

**An empty string erases what the service knows about the visitor.** So a field of None and a blank field, as an empty
form gives one, are left out, and a caller who wants to erase a field says so: ``visitor_info={"phone": ERASE}``.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Final

from insend_relay.producers.event_types import email_address
from insend_relay.producers.json_writer import Writer, moment, not_a, refused, scalar, text
from insend_relay.producers.shape import Shape

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)


class Erase:
    """The type of ``ERASE``."""

    def __repr__(self) -> str:
        return "ERASE"

    def __reduce__(self) -> str:
        return "ERASE"  # by its name in this module: a copy and an unpickled one are the same object


ERASE: Final = Erase()
"""The value of a ``visitor_info`` field that the service shall forget."""


def without_blanks(info: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], tuple[str, ...]]:
    """The fields that say something, and the names of those that are left out."""
    blank = tuple(name for name, value in info.items() if isinstance(name, str) and _is_blank(value))
    return (info, ()) if not blank else ({name: value for name, value in info.items() if name not in blank}, blank)


def _is_blank(value: object) -> bool:
    return type(value) is str and (not value or value.isspace())


def _erasable(write: Writer) -> Writer:
    def either(value: Any) -> str:
        if value is ERASE:
            return '""'
        if _is_blank(value):
            raise refused("is blank; leave it out, or give ERASE to erase the field")
        return write(value)

    return either


def _date_of_birth(value: Any) -> str:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return moment(value)
    if type(value) is not str:
        raise not_a("a date or a string YYYY-MM-DD", value)
    try:
        valid = _DATE.match(value) and dt.date.fromisoformat(value)
    except ValueError:
        valid = None
    if not valid:
        raise refused("must be a date of the form YYYY-MM-DD")
    return f'"{value}"'


def _gender(value: Any) -> str:
    if type(value) is not str or value not in ("male", "female"):
        raise refused('must be "male" or "female"')
    return text(value)


def _custom_field(value: Any) -> str:
    written = scalar(value)
    if written is None:
        raise not_a("a string, number, boolean or date", value)
    return written


_erasable_custom_field = _erasable(_custom_field)


def _further(value: Any, _level: int) -> str:
    return "" if value is None else _erasable_custom_field(value)


VISITOR_INFO = Shape(
    optional={
        **dict.fromkeys(("first_name", "last_name", "full_name", "phone", "language"), _erasable(text)),
        "email": _erasable(email_address),
        "date_of_birth": _erasable(_date_of_birth),
        "gender": _erasable(_gender),
    },
    further=_further,
    level=2,
)
