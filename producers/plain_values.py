"""Plain Python values for the values of other types that have one obvious meaning.

===========================================  ==========================================
given                                        plain
===========================================  ==========================================
an Enum whose value is a string or number    that value, also where the Enum is a str or int itself
a subclass of str, int, float, Decimal       the str, int, float, Decimal
UUID                                         its text
a lazy text (Django, Flask-Babel)            its text
``__index__`` (numpy's integers)             int
``numbers.Real`` (numpy.float32)             Decimal of the digits that it shows
numpy's bool                                 bool
any Mapping                                  dict
deque, range, a dict's views, QuerySet,      list, of at most ``MAX_ITEMS`` items
generators and other iterators, numpy.array
===========================================  ==========================================

A Fraction has no exact decimal form, a set has no order, and bytes have no known encoding: they stay as they are, and
the writers refuse them. A value that raises while it is read, or has no end, becomes ``Unreadable``. An iterator can be
read once only, so a copy is made once and serves the check and the dead letter. What the caller gave is not changed.
"""

from __future__ import annotations

import datetime as dt
import io
import numbers
import operator
import uuid
from collections import UserString
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from decimal import Decimal, InvalidOperation
from enum import Enum
from itertools import islice
from types import NoneType
from typing import Any

from insend_relay.producers.json_writer import MAX_BYTES, MAX_LEVELS, Unreadable, type_name

MAX_ITEMS = 10_000  # that are read from an iterator or a query: it may have no end, or be a whole table
_MAX_VALUES = MAX_BYTES // 2  # in one event: a value takes two bytes at least, with its comma
_PLAIN = frozenset((str, int, float, bool, NoneType, Decimal, dt.date, dt.datetime, dt.time))


def plain(value: object) -> object:
    """A copy of a value in which all that has one obvious meaning is plain; never fails."""
    return _Copy().of(value, 1)


def plain_scalar(value: Any) -> Any:
    """The plain value for a single value; the value itself when it has none, Unreadable when it raises."""
    if type(value) in _PLAIN:
        return value
    try:
        return _scalar(value)
    except Exception as error:  # noqa: BLE001 - the application's code; a call raises InvalidEvent and NotAccepted alone
        return Unreadable(f"cannot be read: {type(error).__name__}", f"<{type_name(value)}>")


def _scalar(value: Any) -> Any:
    if isinstance(value, Enum):
        meant = value.value  # first of all: a str-Enum may show another text than it has
        return _scalar(meant) if isinstance(meant, (str, numbers.Number)) else value
    known = _of_known_type(value)
    if known is not value or _is_opaque(value):
        return known
    number = _as_number(value)
    if number is not value:
        return number
    return str(value) if _is_lazy_text(value) else value


def _of_known_type(value: Any) -> Any:
    """The plain value for a subclass of a plain type, a UUID or a proxy of one of them; else the value itself.

    A proxy (Django's SimpleLazyObject, Werkzeug's LocalProxy) says by ``__class__`` that it is a str. C code, as in the
    JSON writer, wants a real one.
    """
    kind, real = type(value), value.__class__
    if issubclass(real, bool) or (kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")):
        return bool(value)
    for known, exact in _EXACT:
        if issubclass(real, known):
            return exact(value if issubclass(kind, known) else known(str(value)))
    return None if real is NoneType else value


_EXACT: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),  # not str(): that asks the subclass
    (int, int.__index__),
    (float, float.__float__),
    (Decimal, Decimal),
    (uuid.UUID, str),
)


def _as_number(value: Any) -> Any:
    """The number that a value of another library stands for; the value itself when it is none."""
    if _defines(value, "__index__"):
        try:
            return operator.index(value)
        except TypeError:
            return value  # an array has it, too
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Rational):
        try:
            return Decimal(str(value))  # numpy.float32(9.99) is shown as 9.99, and float() of it as 9.989999771118164
        except InvalidOperation:
            return value
    return value


def _is_opaque(value: object) -> bool:
    """Whether it is a class, bytes, a file, or of ``unittest.mock``: a MagicMock has ``__index__`` and all else."""
    known = isinstance(value, (type, bytes, bytearray, memoryview, io.IOBase))
    return known or type(value).__module__ == "unittest.mock"


def _is_lazy_text(value: Any) -> bool:
    """Whether it passes on the methods of a str: a lazy translation of Django, Flask-Babel or Babel, a UserString."""
    method = getattr(value, "casefold", None)
    return callable(method) and isinstance(method(), (str, UserString))


def _defines(value: object, *names: str) -> bool:
    """Whether its type has these methods; ``hasattr`` would also find those of a class's class."""
    types = type(value).__mro__
    return all(any(name in each.__dict__ for each in types) for name in names)


class _Copy:
    """Makes one copy.

    Attributes:
        left: How many values may still be copied. What comes after them stays as it is: such an event is too large.
    """

    def __init__(self) -> None:
        self.left = _MAX_VALUES

    def of(self, value: Any, level: int) -> Any:
        """The copy of a value that lies ``level`` deep."""
        self.left -= 1
        if type(value) in _PLAIN or self.left < 0 or level > MAX_LEVELS:
            return value
        scalar = plain_scalar(value)
        if scalar is not value:
            return scalar
        try:
            if isinstance(value, Mapping):
                return self._mapping(value, level)
            if isinstance(value, (list, tuple)):
                return self._list(value, level)
            return self._read(value, level) if _is_ordered(value) else value
        except Exception as error:  # noqa: BLE001 - the application's code, as above
            return Unreadable(f"cannot be read: {type(error).__name__}", f"<{type_name(value)}>")

    def _mapping(self, value: Mapping[Any, Any], level: int) -> dict[Any, Any]:
        pairs = iter(value.items())
        copied: dict[Any, Any] = {}
        for key, item in pairs:
            copied[_name(key, value)] = self.of(item, level + 1)
            if self.left < 0:
                copied.update(pairs)
        return copied

    def _list(self, value: list[Any] | tuple[Any, ...], level: int) -> list[Any]:
        items = iter(value)
        copied: list[Any] = []
        for item in items:
            copied.append(self.of(item, level + 1))
            if self.left < 0:
                copied.extend(items)
        return copied

    def _read(self, value: Any, level: int) -> list[Any] | Unreadable:
        """The items of what is no list: a generator, a query, an array."""
        read: list[Any] = []
        try:
            items = iter(_bounded(value))
            read.extend(self.of(item, level + 1) for item in islice(items, MAX_ITEMS))  # those before an error stay
            complete = next(items, _END) is _END
        except Exception as error:  # noqa: BLE001 - the application's code, as above
            return Unreadable(f"cannot be read after {len(read):,} items: {type(error).__name__}", read)
        return read if complete else Unreadable(f"has more than {MAX_ITEMS:,} items", read)


_END = object()
_ORDERED = (Sequence, Iterator, KeysView, ItemsView, ValuesView)


def _name(key: Any, mapping: Mapping[Any, Any]) -> Any:
    """A key as text where it has one; two keys never become one."""
    if type(key) is str:
        return key
    name = plain_scalar(key)
    return name if type(name) is str and (isinstance(key, str) or name not in mapping) else key


def _is_ordered(value: Any) -> bool:
    """Whether it holds items in an order, as a QuerySet and an array do; not a file or a table."""
    if isinstance(value, _ORDERED):
        return not _is_opaque(value)
    if isinstance(value, AbstractSet) or _is_opaque(value):
        return False
    return _defines(value, "__iter__", "__len__", "__getitem__") and not hasattr(value, "keys")  # as a DataFrame has


def _bounded(value: Any) -> Iterable[Any]:
    """What to iterate over. A query is cut by the database: to iterate over it would load a whole table."""
    bounded: Iterable[Any] = value if isinstance(value, _ORDERED) else value[: MAX_ITEMS + 1]
    return bounded
