"""The recount of what the books say of waiting and dead events: number and revenue by app and type.

``recount.lua`` reads the headers of at most 1,000 records in a step, so Redis serves everything else in between.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from insend_relay.outbox.scripts import Scripts
from insend_relay.outbox.store import Outbox

NAMES_AT_ONCE = 500  # lanes or letters named in a step
_LENGTH = struct.Struct(">H")


class Sums(NamedTuple):
    """What some records add up to.

    Attributes:
        number: How many they are.
        unknown: How many of them have a revenue that cannot be counted.
        revenue: The sum of their revenues, in units of 1/10,000, as it would stand in the books: modulo 2**64.
    """

    number: int = 0
    unknown: int = 0
    revenue: int = 0

    def plus(self, number: int, unknown: int, revenue: int) -> Sums:
        """With more records."""
        return Sums(self.number + number, self.unknown + unknown, as_int64(self.revenue + revenue))


@dataclass(slots=True)
class Recount:
    """What was counted.

    Attributes:
        books: By app and type code.
        groups: Of dead letters, by group.
        names: How many lanes or ids there were.
    """

    books: defaultdict[tuple[str, int], Sums] = field(default_factory=lambda: defaultdict(Sums))
    groups: defaultdict[bytes, Sums] = field(default_factory=lambda: defaultdict(Sums))

    names: int = 0

    def add(self, books: Iterable[Sequence[Any]], groups: Iterable[Sequence[Any]]) -> None:
        """Add the rows of ``recount.lua``."""
        for app, code, number, unknown, *revenues in books:
            book = app.decode(errors="surrogateescape"), code
            self.books[book] = self.books[book].plus(number, unknown, sum(revenues))
        for group, _, number, unknown, *revenues in groups:
            self.groups[group] = self.groups[group].plus(number, unknown, sum(revenues))

    @property
    def number(self) -> int:
        """How many records there were."""
        return sum(sums.number for sums in self.books.values())


def recount_lanes(outbox: Outbox, lanes: Iterable[str]) -> Recount:
    """Count what waits in these lanes."""
    names = (lane.encode(errors="surrogateescape") for lane in lanes)
    scripts = Scripts(outbox.redis, outbox.keys)
    return _recount(names, lambda packed, skip: scripts.run("recount", lanes=packed, letters=b"", skip=skip))


def recount_letters(outbox: Outbox, ids: Iterable[bytes]) -> Recount:
    """Count the dead letters of these ids that are there."""
    scripts = Scripts(outbox.redis, outbox.keys)
    return _recount(iter(ids), lambda packed, skip: scripts.run("recount", lanes=b"", letters=packed, skip=skip))


def as_int64(value: int) -> int:
    """A sum as the books hold it: int64 that wraps around."""
    return (value + 2**63) % 2**64 - 2**63


def _recount(names: Iterator[bytes], step: Callable[[bytes, int], list[Any]]) -> Recount:
    """Count what the names stand for, in steps that go on where the one before has stopped."""
    found, skip = Recount(), 0
    batch = list(islice(names, NAMES_AT_ONCE))
    while batch:
        packed = b"".join(_LENGTH.pack(len(name)) + name for name in batch)
        done, skip, books, groups = step(packed, skip)
        found.add(books, groups)
        found.names += done
        batch = batch[done:] or list(islice(names, NAMES_AT_ONCE))
    return found
