"""What a correction changes in an event: one line for each value, masked unless the operator asks for the values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from insend_relay.console.commands.json_literal import Leaf, Literal, leaves, parse
from insend_relay.outbox.masking import MASK, mask_event, mask_text

_SHOWN = 200  # characters of a value
_ABSENT = "(absent)"
_UNREADABLE = "(not readable)"

Path = tuple[str | int, ...]


class Change(NamedTuple):
    """One value that differs.

    Attributes:
        path: Where it stands, such as ``properties.items[0].qnt``.
        before: The value in the letter as JSON, or a word in parentheses.
        after: The corrected value, likewise.
    """

    path: str
    before: str
    after: str


def changes(before: bytes, after: bytes, *, personal: bool) -> list[Change]:
    """The values in which two payloads differ, in the order of ``before``, then those that are new.

    Args:
        before: The letter's payload; any bytes.
        after: The corrected payload, JSON.
        personal: Show personal values instead of masking them. A masked value that changes is listed all the same.
    """
    new = {leaf.path: leaf for leaf in leaves(parse(after))}
    try:
        old = {leaf.path: leaf for leaf in leaves(parse(before))}
        return list(_listed(old, new, personal=personal))
    except (ValueError, RecursionError):
        return [Change("the event", _UNREADABLE, "(replaced)"), *_listed({}, new, personal=personal)]


def _listed(old: dict[Path, Leaf], new: dict[Path, Leaf], *, personal: bool) -> Iterator[Change]:
    for path in dict.fromkeys((*old, *new)):
        before, after = old.get(path), new.get(path)
        # Compared as JSON text: the number 1 and the string "1" differ.
        if before is None or after is None or before.text != after.text:
            yield Change(_name(path, personal=personal), *(_shown(leaf, personal=personal) for leaf in (before, after)))


def _name(path: Path, *, personal: bool) -> str:
    name = ""
    for part in path:
        shown = part if personal or isinstance(part, int) else mask_text(part)
        name += f"[{shown}]" if isinstance(part, int) else f".{shown}" if name else str(shown)
    return name or "the event"


def _shown(leaf: Leaf | None, *, personal: bool) -> str:
    if leaf is None:
        return _ABSENT
    text = leaf.text if personal else _masked(leaf)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _masked(leaf: Leaf) -> str:
    """The leaf as ``mask_event`` shows it in its event: alone on its path, so that no other name is in its way."""
    if isinstance(leaf.value, list):
        return leaf.text  # it is empty
    event: Any = leaf.value
    for part in reversed(leaf.path):
        event = [event] if isinstance(part, int) else {part: event}
    shown = mask_event(event)
    for _ in leaf.path:
        if not isinstance(shown, dict | list) or not shown:
            return MASK
        shown = next(iter(shown.values())) if isinstance(shown, dict) else shown[0]
    if shown == MASK:
        return MASK
    return Leaf((), Literal(shown) if isinstance(leaf.value, Literal) else shown).text
