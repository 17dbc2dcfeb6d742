"""The dead letters by type and reason: how many there are, their revenue, and when the last one died."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from insend_relay.operations.books import PURCHASE, amount
from insend_relay.operations.iso import iso
from insend_relay.outbox.replies import pairs
from insend_relay.outbox.store import Outbox

if TYPE_CHECKING:
    from insend_relay.operations.dead import Letter


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters of one type that died for one reason.

    Attributes:
        type: The event type as their events have it.
        reason: Why they were given up, in a few words that many letters share.
        count: How many there are.
        revenue: The sum of their revenues, in units of 1/10,000.
        unknown: How many of them have a revenue that cannot be counted.
        last_ms: When a letter of the group died last, on Redis's clock.
    """

    type: str
    reason: str
    count: int = 0
    revenue: int = 0
    unknown: int = 0
    last_ms: int = 0

    @property
    def of_purchases(self) -> bool:
        """Whether people are shown the revenue: an order_update repeats its order's."""
        return self.type == PURCHASE

    def as_dict(self) -> dict[str, Any]:
        """As in ``insend dead groups --json``."""
        return {
            "type": self.type,
            "reason": self.reason,
            "count": self.count,
            "revenue": amount(self.revenue),
            "revenue_unknown": self.unknown,
            "last_seen": iso(self.last_ms),
        }


def read_groups(outbox: Outbox) -> list[Group]:
    """The groups as the books have them, the largest first."""
    found: defaultdict[bytes, dict[str, int]] = defaultdict(dict)
    for field, number in pairs(outbox.read("HGETALL", outbox.keys.dead_groups)):
        group, _, name = field.rpartition(b"\t")
        found[group][name.decode(errors="replace")] = int(number)
    return _ordered(
        Group(
            *type_and_reason(group),
            numbers.get("count", 0),
            numbers.get("revenue", 0),
            numbers.get("unknown", 0),
            numbers.get("last_ms", 0),
        )
        for group, numbers in found.items()
    )


def groups_of(letters: Iterable[Letter]) -> list[Group]:
    """The groups of these letters, the largest first."""
    found: dict[tuple[str, str], Group] = {}
    for letter in letters:
        kind = letter.type, letter.reason
        group = found.get(kind) or Group(*kind)
        found[kind] = replace(
            group,
            count=group.count + 1,
            revenue=group.revenue + (letter.revenue or 0),
            unknown=group.unknown + letter.revenue_unknown,
            last_ms=max(group.last_ms, letter.died_at_ms),
        )
    return _ordered(found.values())


def type_and_reason(group: bytes) -> tuple[str, str]:
    """What a group's name says."""
    kind, _, reason = group.decode(errors="replace").partition("\t")
    return kind, reason


def _ordered(groups: Iterable[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: (-group.count, group.type, group.reason))
