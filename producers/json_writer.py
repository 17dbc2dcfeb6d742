"""Plain Python values as JSON text, the way that the tracker wants them.

Plain values are str, int, float, bool, Decimal, dates and times, lists and objects; ``plain_values`` makes plain ones
of others. The ready-made JSON writers are not exact: they write a Decimal as a string or a float, NaN as ``NaN`` or
``null``, and large floats in exponent form. Every writer takes a value and returns its text, or raises Refused with
all that is wrong inside the value, by path. No problem's text contains a value, so that it may be logged.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

MAX_BYTES = 65_536  # of one event's payload
MAX_WRITTEN = 2 * MAX_BYTES  # characters; up to here an event that is too large is written, so that its size is known
MAX_LEVELS = 32  # of objects and lists inside each other, the data object being the first
_MAX_FAULTS = 1000  # in one event; a list of thousands of items may have them all wrong
_MAX_BITS = 2048  # of an int: 617 digits, within what Python turns into text under any of its settings
_MAX_EXPONENT = 617  # of a Decimal, likewise: Decimal("1E+999999") must not become a megabyte of zeros
_PLAIN_KEY = re.compile(r"[^\W\d][\w-]{0,63}\Z")
_ISO = re.compile(r"\d[\w:.+-]*\Z", re.ASCII)  # pandas.NaT is a datetime, and its isoformat() is "NaT"

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
    """The event has too many faults, or is too large: raised as soon as that is certain.

    Without it a few objects that hold each other many times over could keep a web request busy for ever.
    """


class TooLarge(GivenUp):
    """The event has more than ``MAX_WRITTEN`` characters."""


class Unreadable:
    """Stands for a value that could not be read to its end; every writer refuses it.

    Args:
        problem: Why, as a fault says it; names no value.
        read: What was read of it before; for the dead letter.
    """

    __slots__ = ("problem", "read")

    def __init__(self, problem: str, read: object) -> None:
        self.problem = problem
        self.read = read


def refused(problem: str) -> Refused:
    """The exception for a value that is itself at fault."""
    return Refused(("", problem))


def not_a(wanted: str, value: object, hint: str = "") -> Refused:
    """The exception for a value of a wrong type.

    Args:
        wanted: What would do, such as "a string".
        value: The value.
        hint: What to give instead.
    """
    if isinstance(value, Unreadable):
        return refused(value.problem)
    if isinstance(value, AbstractSet):
        hint = "; a set has no order: give a list, such as sorted(...)"
    return refused(f"must be {wanted}, not {type_name(value)}{hint}")


def type_name(value: object) -> str:
    """What a value is, for an error text."""
    return "None" if value is None else type(value).__name__


def note(error: Refused, place: str, faults: list[Fault]) -> None:
    """Add the faults of a value to those of what holds it; ``place`` is a name or ``[3]``."""
    for path, problem in error.faults:
        faults.append((f"{place}.{path}" if path and not path.startswith("[") else f"{place}{path}", problem))
    if len(faults) > _MAX_FAULTS:
        raise GivenUp(f"has more than {_MAX_FAULTS:,} faults, such as {faults[0][0]}: {faults[0][1]}")


def attempt(write: Callable[[Any], str], value: Any, path: str, faults: list[Fault]) -> str:
    """``write(value)``; when it is refused, "" and its faults under ``path``."""
    try:
        return write(value)
    except Refused as error:
        note(error, path, faults)
        return ""


def place_of(key: object, number: int) -> str:
    """How a key stands in a path: by name if it looks like one, else by its place (it might be an e-mail address)."""
    return key if isinstance(key, str) and _PLAIN_KEY.match(key) else f"<key {number}>"


def text(value: Any) -> str:
    """A string of any Unicode; lone surrogates have no UTF-8 form and are refused."""
    if type(value) is not str:
        raise not_a("a string", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise refused(f"contains half a surrogate pair at character {error.start}") from None
    return encode_basestring(value)


def number(value: Any) -> str:
    """An int, float or Decimal, exact and never in exponent form; a bool is no number."""
    kind = type(value)
    if kind is float:
        digits = repr(value)
        if digits[-1].isdigit() and "e" not in digits:
            return digits
        written = _fixed_point(Decimal(digits))
        return written if "." in written else f"{written}.0"  # the reader sees a float, too
    if kind is int:
        if value.bit_length() > _MAX_BITS:
            raise refused("has too many digits")
        return repr(value)
    if kind is Decimal:
        return _fixed_point(value)
    # A number in a text is not guessed at: "1.234" is 1234 in one country and 1.234 in another.
    raise not_a("a number", value, '; give Decimal("12.50") for "12,50"' if isinstance(value, str) else "")


def _fixed_point(value: Decimal) -> str:
    if not value.is_finite():
        raise refused("must be a finite number, not NaN or infinity")
    if value.adjusted() > _MAX_EXPONENT or value.adjusted() - len(value.as_tuple().digits) < -_MAX_EXPONENT:
        raise refused("has too many digits")
    return format(value, "f")


def moment(value: dt.date | dt.time) -> str:
    """A date, a time or both, in ISO form."""
    try:
        written = value.isoformat()
    except Exception as error:  # noqa: BLE001 - the application's code: a subclass, or its tzinfo
        raise refused(f"cannot be read: {type(error).__name__}") from None
    if type(written) is not str or not _ISO.match(written):
        raise refused("must be a date or time that there is")
    return f'"{written}"'


def scalar(value: Any) -> str | None:
    """A string, number, bool, date or time; None when the value is none of these."""
    kind = type(value)
    if kind is str:
        return text(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is float or kind is Decimal:
        return number(value)
    if isinstance(value, (dt.date, dt.time)):
        return moment(value)
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
    raise not_a("something that JSON has (string, number, boolean, list, object)", value)


def _free_object(value: Mapping[Any, Any], level: int) -> str:
    """An object that may have any keys."""
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
        raise not_a("a list", value)
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
    if level > MAX_LEVELS:
        raise refused(f"lies deeper than {MAX_LEVELS} levels")


def grown(size: int, part: str) -> int:
    """``size`` and one more part, in characters; TooLarge when that is more than is ever written."""
    size += len(part) + 1
    if size > MAX_WRITTEN:
        raise TooLarge(f"is larger than {MAX_WRITTEN:,} bytes; at most {MAX_BYTES:,} are allowed")
    return size
