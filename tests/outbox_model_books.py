"""What the books ought to say, in plain Python: a part of ``outbox_model``."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, NamedTuple

from insend_relay.outbox.keys import Keys

COLUMNS = ("waiting", "dead", "delivered", "discarded")
NEAR_THE_LIMIT = 2**63 - 20_000 * 10_000  # of a sum of revenues: two purchases may be too much


class Kind(NamedTuple):
    """An event's data object, and what the books have to know of it."""

    payload: bytes
    code: int = 0
    revenue: int = 0
    unknown: int = 0


KINDS = [
    Kind(b'{"n":1.10}'),
    Kind(b'{"type":"view_product","properties":{"revenue":7}}', 4),
    Kind(b'{"type":"purchase","properties":{"order_id":"7","revenue":12.3405}}', 5, 123_405),
    Kind(b'{"type":"purchase","properties":{"order_id":"8","revenue":900719925474.0991}}', 5, 2**53 - 1),
    Kind(b'{"type":"purchase","properties":{"order_id":"9","revenue":-1}}', 5, 0, 1),
    Kind(b'{"type":"purchase","properties":{"order_id":"10","revenue":0}}', 5),
    Kind(b'{"type":"order_update","properties":{"order_id":"7","revenue":0.5}}', 11, 5_000),
    Kind(b'{"type":"of a later day"}', 255),
]


def corrected(number: int) -> Kind:
    """The event of a correction; no other has the same."""
    payload = b'{"type":"purchase","properties":{"order_id":"%d","revenue":%d}}' % (number, number)
    return Kind(payload, 5, number * 10_000)


class ModelBooks:
    """The books of each app and type; those of the whole relay are their sums."""

    def __init__(self) -> None:
        self.rows: defaultdict[tuple[str, int], Counter[str]] = defaultdict(Counter)
        self.ages: Counter[str] = Counter()

    def move(self, app: str, kind: Kind, came_from: str, to: str) -> None:
        """An event goes from one column to another."""
        row = self.rows[app, kind.code]
        row[came_from] += 1 if came_from == "accepted" else -1
        if to == "corrected":
            row["accepted"] -= 1
        else:
            row[to] += 1
        row["buried"] += to == "dead"
        row["replayed"] += came_from == "dead" and to in {"waiting", "corrected"}
        for column, sign in ((came_from, -1), (to, 1)):
            if column in {"waiting", "dead"}:
                row[f"revenue_{column}"] += sign * kind.revenue
                row[f"unknown_{column}"] += sign * kind.unknown

    def total(self, column: str) -> int:
        """The sum of a column."""
        return sum(row[column] for row in self.rows.values())

    def check(self, keys: Keys, content: dict[str, Any]) -> None:
        """Fails when Redis holds other books, or one that does not balance."""
        relay: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for (app, code), row in self.rows.items():
            assert _read(content, keys.books_of(f"{app}/{code}")) == _wrapped(row)
            assert row["accepted"] == sum(row[column] for column in COLUMNS)
            relay[str(code)].update(row)
        for name, row in relay.items():
            assert _read(content, keys.books_of(name)) == _wrapped(row)
        named = {name.decode() for name in content.get(keys.books, [])}
        assert named == {f"{app}/{code}" for app, code in self.rows}
        stored = {key for key in content if key.startswith(keys.books_of(""))}
        assert stored == {keys.books_of(name) for name in (*named, *relay)}
        for app, number in self.ages.items():
            histogram = _read(content, keys.latency(app))
            assert sum(found for name, found in histogram.items() if name.startswith("delivered:")) == number


def wrap(revenue: int) -> int:
    """A sum as Redis holds it: 64 bits, signed."""
    return (revenue + 2**63) % 2**64 - 2**63


def _wrapped(row: Counter[str]) -> dict[str, int]:
    numbers = {name: wrap(number) if name.startswith("revenue") else number for name, number in row.items()}
    return {name: number for name, number in numbers.items() if number}


def _read(content: dict[str, Any], key: str) -> dict[str, int]:
    flat = content.get(key, [])
    found = {name.decode(): int(number) for name, number in zip(flat[::2], flat[1::2], strict=True)}
    return {name: number for name, number in found.items() if number}
