"""Python values as JSON text, the way that the tracker wants them.

Ours, because the ready-made writers are not exact here: they write a Decimal as a string or a float, NaN as ``NaN`` or
``null``, and large floats in exponent form. Every writer takes a value and returns its text, or raises Refused with
all that is wrong inside the value, by path. No problem's text contains a value, so that it may be logged.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

MOST_BYTES = 65_536  # of one event's payload
MOST_LEVELS = 32  # of objects and lists inside each other, the data object being the first
_MOST_FAULTS = 1000  # in one event; a list of thousands of items may have them all wrong
_MOST_BITS = 2048  # of an int: 617 digits, within what Python turns into text under any of its settings
_MOST_EXPONENT = 617  # of a Decimal, likewise: Decimal("1E+999999") must not become a megabyte of zeros
_PLAIN_KEY = re.compile(r"[^\W\d][\w-]{0,63}\Z")

Writer = Callable[[Any], str]
Fault = tuple[str, str]


class Refused(ValueError):
    """A value that breaks a rule.

    Attributes:
        faults: ``(path, problem)`` pairs; the path is relative to the value, "" being the value itself.
    """

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__(*faults)


class GivenUp(ValueError):
    """The value is too large, or has too many faults: raised as soon as that is certain.

    Without it a few objects that hold each other many times over could keep a web request busy for ever.
    """


def refused(problem: str) -> Refused:
    """The exception for a value that is itself at fault."""
    return Refused(("", problem))


def type_name(value: object) -> str:
    """What a value is, for an error text."""
    return "None" if value is None else type(value).__name__


def note(error: Refused, place: str, faults: list[Fault]) -> None:
    """Add the faults of a value to those of what holds it; ``place`` is a name or ``[3]``."""
    for path, problem in error.faults:
        faults.append((f"{place}.{path}" if path and not path.startswith("[") else f"{place}{path}", problem))
    if len(faults) > _MOST_FAULTS:
        raise GivenUp(f"has more than {_MOST_FAULTS:,} faults, such as {faults[0][0]}: {faults[0][1]}")


def place_of(key: object, number: int) -> str:
    """How a key stands in a path: by name if it looks like one, else by its place (it might be an e-mail address)."""
    return key if isinstance(key, str) and _PLAIN_KEY.match(key) else f"<key {number}>"


def text(value: Any) -> str:
    """A string of any Unicode; lone surrogates have no UTF-8 form and are refused."""
    if not isinstance(value, str):
        raise refused(f"must be a string, not {type_name(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise refused(f"contains half a surrogate pair at character {error.start}") from None
    return encode_basestring(value)


def number(value: Any) -> str:
    """An int, float or Decimal, exact and never in exponent form; a bool is no number."""
    if isinstance(value, float):
        digits = float.__repr__(value)  # not repr(): numpy's floats are floats, and show their type there
        if digits[-1].isdigit() and "e" not in digits:
            return digits
        written = _fixed_point(Decimal(digits))
        return written if "." in written else f"{written}.0"  # still a float to whoever reads it
    if isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() > _MOST_BITS:
            raise refused("has too many digits")
        return int.__repr__(value)
    if isinstance(value, Decimal):
        return _fixed_point(value)
    raise refused(f"must be a number, not {type_name(value)}")


def _fixed_point(value: Decimal) -> str:
    if not value.is_finite():
        raise refused("must be a finite number, not NaN or infinity")
    if value.adjusted() > _MOST_EXPONENT or value.adjusted() - len(value.as_tuple().digits) < -_MOST_EXPONENT:
        raise refused("has too many digits")
    return Decimal.__format__(value, "f")


def scalar(value: Any) -> str | None:
    """A string, number, bool, or date or time in ISO form; None when the value is none of these."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, Decimal)):
        return number(value)
    if isinstance(value, (dt.date, dt.time)):
        return f'"{value.isoformat()}"'
    return None


def anything(value: Any, level: int) -> str:
    """Any JSON value; ``level`` is how deep it lies."""
    if value is None:
        return "null"
    written = scalar(value)
    if written is not None:
        return written
    if isinstance(value, Mapping):
        return _free_object(value, level)
    if isinstance(value, (list, tuple)):
        return listed(value, lambda item: anything(item, level + 1), level)
    raise refused(f"must be something that JSON has (string, number, boolean, list, object), not {type_name(value)}")


def _free_object(value: Mapping[Any, Any], level: int) -> str:
    """An object whose keys nobody has laid down."""
    check_level(level)
    parts: list[str] = []
    faults: list[Fault] = []
    size = 0
    for place, (key, item) in enumerate(value.items(), 1):
        try:
            part = f"{text(key)}:{anything(item, level + 1)}"
        except Refused as error:
            note(error, place_of(key, place), faults)
        else:
            parts.append(part)
            size = grown(size, part)
    if faults:
        raise Refused(*faults)
    return "{" + ",".join(parts) + "}"


def listed(value: Any, write: Writer, level: int) -> str:
    """A list or tuple, each item written by ``write``."""
    if not isinstance(value, (list, tuple)):
        raise refused(f"must be a list, not {type_name(value)}")
    check_level(level)
    parts: list[str] = []
    faults: list[Fault] = []
    size = 0
    for place, item in enumerate(value):
        try:
            part = write(item)
        except Refused as error:
            note(error, f"[{place}]", faults)
        else:
            parts.append(part)
            size = grown(size, part)
    if faults:
        raise Refused(*faults)
    return "[" + ",".join(parts) + "]"


def check_level(level: int) -> None:
    """Refuse what lies too deep; this also ends a structure that contains itself."""
    if level > MOST_LEVELS:
        raise refused(f"lies deeper than {MOST_LEVELS} levels")


def grown(size: int, part: str) -> int:
    """``size`` and one more part; GivenUp when that is more than an event may have."""
    size += len(part) + 1
    if size > MOST_BYTES:
        raise GivenUp(f"is larger than {MOST_BYTES:,} bytes")
    return size
