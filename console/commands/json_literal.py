"""JSON with every number as it is written, and every name, also one that occurs twice: to show it and to compare it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

_INDENT = "  "


class Literal(str):
    """A number, true, false or null, as the text has it; a plain ``str`` is a JSON string."""

    __slots__ = ()


class Members(list[tuple[str, Any]]):
    """The members of an object in their order; a plain ``list`` is a JSON array."""


class Leaf(NamedTuple):
    """A value that holds no other, an empty object, or an empty array.

    Attributes:
        path: The names and the places that lead to it.
        value: A string, a ``Literal``, or an empty list.
    """

    path: tuple[str | int, ...]
    value: Any

    @property
    def text(self) -> str:
        """The value as JSON."""
        return "".join(_lines(self.value, ""))


def parse(text: str | bytes) -> Any:
    """Read JSON text; ValueError or RecursionError when it cannot be read."""
    return _with_constants(
        json.loads(text, parse_float=Literal, parse_int=Literal, parse_constant=Literal, object_pairs_hook=Members)
    )


def indented(payload: bytes) -> str:
    """The text on several lines, nothing else changed. Text that is no JSON stays as it is; other bytes are escaped."""
    try:
        return "".join(_lines(parse(payload), "\n"))
    except (ValueError, RecursionError):
        return payload.decode(errors="backslashreplace")


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    """Every leaf of a parsed value, in order."""
    if isinstance(value, list) and value:
        members = value if isinstance(value, Members) else enumerate(value)
        for place, item in members:
            yield from leaves(item, (*path, place))
    else:
        yield Leaf(path, value)


def _with_constants(value: Any) -> Any:
    """``true``, ``false`` and ``null`` as literals too, so that a string "true" is another value."""
    if isinstance(value, Members):
        return Members((name, _with_constants(item)) for name, item in value)
    if isinstance(value, list):
        return [_with_constants(item) for item in value]
    return value if isinstance(value, str) else Literal(json.dumps(value))


def _lines(value: Any, newline: str) -> Iterator[str]:
    """The pieces of the JSON text; ``newline`` begins a line at the present depth."""
    if isinstance(value, Literal):
        yield value
    elif isinstance(value, str):
        yield _string(value)
    else:
        brackets = "{}" if isinstance(value, Members) else "[]"
        yield brackets[0]
        inner = newline + _INDENT
        for place, item in enumerate(value):
            yield f"{',' if place else ''}{inner}"
            if isinstance(value, Members):
                name, item = item  # noqa: PLW2901 - a member is a name and its value
                yield f"{_string(name)}: "
            yield from _lines(item, inner)
        yield newline + brackets[1] if value else brackets[1]


def _string(value: str) -> str:
    """A string in its own letters; half a surrogate pair, which UTF-8 does not have, is escaped."""
    return json.dumps(value, ensure_ascii=not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value))
