"""Writing down an event that breaks the rules, as well as JSON can, for the dead letters.

What has a JSON form is kept as it is. Anything else is kept as text, so that a person sees what the application gave
and can correct it. Never fails, and never writes much more than ``MAX_LETTER_BYTES``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from json.encoder import encode_basestring

from insend_relay.producers.json_writer import MAX_LEVELS, MAX_WRITTEN, Refused, Unreadable, scalar, type_name

MAX_LETTER_BYTES = MAX_WRITTEN  # an event that is too large has to be whole in its letter to be made smaller
_MAX_TEXT = 4_096  # characters of a value that has no JSON form
_LEFT_OUT = '"<left out>"'


def salvage(given: object) -> bytes:
    """The value as JSON in UTF-8."""
    return "".join(_pieces(given, _Room(), 1)).encode()


class _Room:
    """How many bytes there is still room for."""

    def __init__(self) -> None:
        self.left = MAX_LETTER_BYTES

    def fit(self, piece: str) -> str:
        self.left -= len(piece.encode())
        return piece if self.left >= 0 else _LEFT_OUT


def _pieces(value: object, room: _Room, level: int) -> Iterator[str]:
    room.left -= 2  # brackets or quotes: with them even empty objects use up the room
    if isinstance(value, Unreadable):
        value = [*value.read, f"<{value.problem}>"] if isinstance(value.read, list) else value.read
    if level > MAX_LEVELS:
        yield _LEFT_OUT
    elif isinstance(value, Mapping):
        yield from _object(value, room, level)
    elif isinstance(value, (list, tuple, AbstractSet)):
        yield from _list(value, room, level)
    else:
        yield room.fit(_leaf(value))


def _object(value: Mapping[object, object], room: _Room, level: int) -> Iterator[str]:
    yield "{"
    for place, (key, item) in enumerate(value.items()):
        if room.left <= 0:
            break
        yield "," if place else ""
        yield room.fit(_quoted(_name(key, value)))
        yield ":"
        yield from _pieces(item, room, level + 1)
    yield "}"


def _list(value: Iterable[object], room: _Room, level: int) -> Iterator[str]:
    yield "["
    for place, item in enumerate(value):
        if room.left <= 0:
            break
        yield "," if place else ""
        yield from _pieces(item, room, level + 1)
    yield "]"


def _name(key: object, mapping: Mapping[object, object]) -> str:
    if isinstance(key, str):
        return key
    name = _as_text(key)
    return f"{name} <{type_name(key)}>" if name in mapping else name  # of two equal names a reader would see one


def _leaf(value: object) -> str:
    if value is None:
        return "null"
    try:
        written = None if isinstance(value, str) else scalar(value)
    except Refused:
        written = None
    return written or _quoted(value if isinstance(value, str) else _as_text(value))


def _quoted(text: str) -> str:
    return encode_basestring(text.encode(errors="replace").decode())


def _as_text(value: object) -> str:
    """What a value says, for a person; bytes that are no text in base64."""
    try:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return _decoded(bytes(value))[:_MAX_TEXT]
        if isinstance(value, int) and value.bit_length() > _MAX_TEXT:
            return hex(value)[:_MAX_TEXT]  # Python turns no int of more than 4,300 digits into decimal text
        return str(value)[:_MAX_TEXT]
    except Exception:  # noqa: BLE001 - the application's ``__str__``
        return f"<{type_name(value)}>"


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(data).decode()}"
