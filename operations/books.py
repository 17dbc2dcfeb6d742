"""The books: how many events of each type there are and what became of them, for the whole relay and for each app.

Each transition writes them in its own step (``lua/shared/books.lua``), so one book is read in one command and balances.
Two books are read one after the other: events move in between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import islice
from operator import attrgetter
from typing import Any, Self

from insend_relay.operations.latency import Latency, read_latency
from insend_relay.outbox.event_type import NAMES, OTHER, name_of
from insend_relay.outbox.replies import scan
from insend_relay.outbox.revenue import UNITS
from insend_relay.outbox.store import Outbox

PURCHASE = "purchase"
CODES = (*range(len(NAMES)), OTHER)
_WRAPS_AT = 2**63


@dataclass(frozen=True, slots=True)
class Counts:
    """One book: the events of one type, or of all types.

    Attributes:
        accepted: Events taken since the beginning.
        waiting: Those in their lanes now.
        delivered: Those answered 200.
        dead: Those in the dead letters now.
        discarded: Those that an operator gave up or an erasure took.
        replayed: How often a dead letter went back to its lane.
        buried: How often an event became a dead letter.
        revenue_waiting: The sum of the revenues of those that wait, in units of 1/10,000.
        revenue_dead: The same of the dead letters.
        unknown_waiting: How many of those that wait have a revenue that cannot be counted.
        unknown_dead: The same of the dead letters.
    """

    accepted: int = 0
    waiting: int = 0
    delivered: int = 0
    dead: int = 0
    discarded: int = 0
    replayed: int = 0
    buried: int = 0
    revenue_waiting: int = 0
    revenue_dead: int = 0
    unknown_waiting: int = 0
    unknown_dead: int = 0

    @property
    def balanced(self) -> bool:
        """The promise: every accepted event is delivered, waiting, dead or discarded."""
        return self.accepted == self.delivered + self.waiting + self.dead + self.discarded

    def __add__(self, other: Self) -> Self:
        return type(self)(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: revenue in the shop's currency, None when the sum does not fit."""
        return {
            "accepted": self.accepted,
            "waiting": self.waiting,
            "delivered": self.delivered,
            "dead": self.dead,
            "discarded": self.discarded,
            "replayed": self.replayed,
            "buried": self.buried,
            "revenue_waiting": amount(self.revenue_waiting),
            "revenue_dead": amount(self.revenue_dead),
            "revenue_unknown_waiting": self.unknown_waiting,
            "revenue_unknown_dead": self.unknown_dead,
        }


FIELDS = tuple(field.name for field in fields(Counts))
_values = attrgetter(*FIELDS)
Book = dict[str, Counts]  # by type


def read_counts(outbox: Outbox, name: str) -> Counts:
    """One book, ``TYPE`` or ``APP/TYPE``, as it was at one moment."""
    key = outbox.keys.books_of(name).encode(errors="surrogateescape")  # a name that was put there by hand
    found = outbox.read("HMGET", key, *FIELDS)
    return Counts(*(int(value or 0) for value in found))


def read_codes(outbox: Outbox) -> dict[int, Counts]:
    """The books of the whole relay, for each type code there is."""
    return {code: read_counts(outbox, str(code)) for code in CODES}


def read_relay(outbox: Outbox) -> Book:
    """The books of the whole relay, for each type that ever came."""
    return {name_of(code): counts for code, counts in read_codes(outbox).items() if counts != Counts()}


def app_books(outbox: Outbox) -> Iterator[tuple[str, int]]:
    """The app and the type code of each app's books; each once."""
    seen: set[bytes] = set()
    for batch in scan(outbox.redis, "SSCAN", outbox.keys.books):
        for name in set(batch) - seen:
            seen.add(name)
            app, _, code = name.decode(errors="surrogateescape").rpartition("/")
            yield app, int(code)


def total(books: Iterable[Counts]) -> Counts:
    """The books of several types or apps as one."""
    return sum(books, Counts())


def whole(book: Book) -> Counts:
    """All types as one, with the revenue of the purchases alone: an order_update repeats its order's."""
    purchases = book.get(PURCHASE, Counts())
    revenue = {name: getattr(purchases, name) for name in FIELDS if name.startswith(("revenue", "unknown"))}
    return replace(total(book.values()), **revenue)


def amount(units: int) -> float | None:
    """A sum of revenues in the shop's currency; None when it does not fit (``lua/shared/books.lua``)."""
    return units / UNITS if 0 <= units < _WRAPS_AT else None


@dataclass(frozen=True, slots=True)
class AppBooks:
    """The books of one app.

    Attributes:
        app: The application's key.
        types: By type.
        latency: How long its deliveries took.
    """

    app: str
    types: Book
    latency: Latency

    @property
    def whole(self) -> Counts:
        """All types as one; see ``whole``."""
        return whole(self.types)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "app": self.app,
            "types": {name: counts.as_dict() for name, counts in self.types.items()},
            "accepted_to_delivered": self.latency.delivered.as_dict(),
            "post": self.latency.post.as_dict(),
        }


def events_waiting(outbox: Outbox) -> int:
    """How many events wait, of all types."""
    return total(read_relay(outbox).values()).waiting


def read_apps(outbox: Outbox, max_books: int) -> list[AppBooks]:
    """The books of the apps, by name.

    Args:
        outbox: The outbox.
        max_books: So many are read at most, one for each type and app.
    """
    found: defaultdict[str, Book] = defaultdict(dict)
    for app, code in islice(app_books(outbox), max_books):
        found[app][name_of(code)] = read_counts(outbox, f"{app}/{code}")
    return [AppBooks(app, types, read_latency(outbox, app)) for app, types in sorted(found.items())]
