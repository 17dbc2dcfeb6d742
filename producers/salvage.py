"""Writing down an event that breaks the rules, as well as JSON can, for the dead letters.

What has a JSON form is kept as it is, so that a person sees what the application gave; what has none is named by its
type. Never fails, and never writes much more than an event may have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from insend_relay.producers.json_writer import MOST_BYTES, MOST_LEVELS, Refused, anything, type_name

_LEFT_OUT = '"<left out>"'


def salvage(given: object) -> bytes:
    """The value as JSON in UTF-8."""
    return "".join(_pieces(given, _Room(), 1)).encode()


class _Room:
    """How many characters there is still room for."""

    def __init__(self) -> None:
        self.left = MOST_BYTES

    def fit(self, piece: str) -> str:
        self.left -= len(piece)
        return piece if self.left >= 0 else _LEFT_OUT


def _pieces(value: object, room: _Room, level: int) -> Iterator[str]:
    room.left -= 2  # brackets or quotes: with them even empty objects use up the room
    if level > MOST_LEVELS:
        yield _LEFT_OUT
    elif isinstance(value, Mapping):
        yield "{"
        for place, (key, item) in enumerate(value.items()):
            if room.left <= 0:
                break
            yield "," if place else ""
            yield room.fit(_leaf(key if isinstance(key, str) else f"<{type_name(key)}>"))
            yield ":"
            yield from _pieces(item, room, level + 1)
        yield "}"
    elif isinstance(value, (list, tuple)):
        yield "["
        for place, item in enumerate(value):
            if room.left <= 0:
                break
            yield "," if place else ""
            yield from _pieces(item, room, level + 1)
        yield "]"
    else:
        yield room.fit(_leaf(value))


def _leaf(value: object) -> str:
    if isinstance(value, str):
        value = value.encode(errors="replace").decode()
    try:
        return anything(value, 1)
    except Refused:
        return f'"<{type_name(value)}>"'
