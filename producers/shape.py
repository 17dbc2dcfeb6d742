"""The form of an object with named fields: which it must have, which it may have, and what each may hold."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from insend_relay.producers.json_writer import (
    Fault,
    Refused,
    Writer,
    check_level,
    grown,
    not_a,
    note,
    place_of,
    refused,
    text,
)


class Shape:
    """Writes an object field by field and checks it on the way; None in a known field means that it is absent.

    Args:
        required: Fields that must be there.
        optional: Fields that may be there.
        further: Writes any other field, given its value and level; "" leaves the field out. Without it, other fields
            are refused as misspellings.
        level: How deep the object lies in the data object, which is level 1.
    """

    def __init__(
        self,
        *,
        required: Mapping[str, Writer] | None = None,
        optional: Mapping[str, Writer] | None = None,
        further: Callable[[Any, int], str] | None = None,
        level: int,
    ) -> None:
        self.required = tuple(required or ())
        self.level = level
        self._further = further
        fields = {**(required or {}), **(optional or {})}
        self.names = tuple(fields)
        self._fields = {name: (f"{text(name)}:", write) for name, write in fields.items()}

    def write(self, value: Any) -> str:
        """The object's JSON text; Refused with every fault in it."""
        if type(value) is not dict and not isinstance(value, Mapping):
            raise not_a("an object", value)
        check_level(self.level)
        parts: list[str] = []
        faults: list[Fault] = []
        fields = self._fields
        size = 0
        for place, (name, item) in enumerate(value.items(), 1):
            field = fields.get(name)
            try:
                if field is None:
                    part = self._other(name, item)
                    size = grown(size, part)
                    if part:
                        parts.append(part)
                elif item is not None:
                    key, write = field
                    parts.append(key + write(item))
            except Refused as error:
                note(error, place_of(name, place), faults)
        faults += [(name, "missing") for name in self.required if value.get(name) is None]
        if faults:
            raise Refused(*faults)
        return "{" + ",".join(parts) + "}"

    def _other(self, name: Any, item: Any) -> str:
        """A field that is not in the table."""
        if self._further is None:
            raise refused(_unknown(name, self.names))
        key = text(name)
        written = self._further(item, self.level + 1)
        return f"{key}:{written}" if written else ""


def _unknown(name: object, names: tuple[str, ...]) -> str:
    near = nearest(name, names) if isinstance(name, str) else ""
    hint = f"; did you mean {near}?" if near else ""
    return f"no such field{hint} (strict=False sends it as it is)"


@lru_cache(maxsize=256)
def nearest(name: str, names: tuple[str, ...]) -> str:
    """The one of ``names`` that ``name`` is most likely a misspelling of, or "". Takes 50 us uncached."""
    return next(iter(difflib.get_close_matches(name, names, n=1)), "")
