"""What the audit says of the books: does each balance, do they agree, and do lanes and dead letters hold what they say?

Workers and producers go on meanwhile. The books are therefore read before and after the recount, and a number may
differ by no more than what has moved between. Revenue is compared only where nothing has moved: the revenue of what
moved is not known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from insend_relay.operations.books import CODES, Counts, amount, app_books, read_codes, read_counts
from insend_relay.operations.dead_groups import Group, type_and_reason
from insend_relay.operations.recount import Recount, Sums, as_int64
from insend_relay.outbox.event_type import name_of
from insend_relay.outbox.store import Outbox

ATTEMPTS = 3  # to find the books of the apps and of the relay as they were at the same time
RISING = ("accepted", "delivered", "discarded", "replayed", "buried")

RelayBooks = dict[int, Counts]  # by type code
BooksOfApps = dict[tuple[str, int], Counts]  # by app and type code


class Reading(NamedTuple):
    """All books, read one after the other.

    Attributes:
        relay: Of the whole relay.
        apps: Of each app.
    """

    relay: RelayBooks
    apps: BooksOfApps


def read(outbox: Outbox) -> Reading:
    """Read all books."""
    apps = {(app, code): read_counts(outbox, f"{app}/{code}") for app, code in app_books(outbox)}
    return Reading(read_codes(outbox), apps)


def moved(before: Counts, after: Counts) -> int:
    """How many times an event of a book entered or left a lane or the dead letters between two readings."""
    return sum(abs(getattr(after, name) - getattr(before, name)) for name in RISING)


def unbalanced(books: Reading) -> Iterator[str]:
    """Books in which not every accepted event is delivered, waiting, dead or discarded."""
    for name, counts in _named(books):
        if not counts.balanced:
            yield (
                f"books, {name}: accepted {counts.accepted} is not delivered {counts.delivered} + waiting "
                f"{counts.waiting} + dead {counts.dead} + discarded {counts.discarded}"
            )


def miscounted(before: Reading, after: Reading, waiting: Recount, dead: Recount) -> Iterator[str]:
    """Books that say something else than the lanes and the dead letters hold."""
    for (app, code), counts in _with_missing(after.apps, waiting, dead).items():
        earlier = before.apps.get((app, code), Counts())
        found = waiting.books.get((app, code), Sums()), dead.books.get((app, code), Sums())
        yield from _compared(_of_app(app, code), earlier, counts, *found)
    for code, counts in after.relay.items():
        found = _of_type(waiting, code), _of_type(dead, code)
        yield from _compared(name_of(code), before.relay.get(code, Counts()), counts, *found)


def letters_differ(before: Reading, after: Reading, letters: int, dead: Recount) -> Iterator[str]:
    """Letters that no index names, and ids in an index whose letter is gone.

    Args:
        before: The books before all else was read.
        after: And afterwards.
        letters: How many letters there are.
        dead: The letters that the indexes of the apps name.
    """
    movement = _all_moved(before, after)
    if abs(letters - dead.number) > movement or abs(dead.names - dead.number) > movement:
        yield (
            f"dead: the key dead has {letters} letters, the indexes of the apps name {dead.names}, and "
            f"{dead.number} of these are there"
        )


def groups_differ(before: Reading, after: Reading, groups: Iterable[Group], dead: Recount) -> Iterator[str]:
    """Groups of dead letters that say something else than the letters; compared only when nothing has moved."""
    if _all_moved(before, after):
        return
    found = {type_and_reason(name): sums for name, sums in dead.groups.items()}
    booked = {(group.type, group.reason): Sums(group.count, group.unknown, group.revenue) for group in groups}
    for kind in sorted({*found, *booked}):
        has, says = found.get(kind, Sums()), booked.get(kind, Sums())
        if has != says:
            yield f"dead:groups, {' '.join(kind)}: says {_text(says)}, the dead letters are {_text(has)}"


def disagreeing(outbox: Outbox) -> list[str]:
    """Types for which the books of the apps do not add up to those of the relay, nor the ledger to them all."""
    found: list[str] = []
    for _ in range(ATTEMPTS):
        ledger = _ledger(outbox)
        before = read_codes(outbox)
        apps = read(outbox).apps
        after = read_codes(outbox)
        found = [*_sums_differ(before, apps, after), *_ledger_differs(ledger, after, _ledger(outbox))]
        if not found:
            return []
    return found


def _ledger(outbox: Outbox) -> dict[str, int]:
    accepted, burials = outbox.read("HMGET", outbox.keys.ledger, "accepted", "burials")
    return {"accepted": int(accepted or 0), "buried": int(burials or 0)}


def _sums_differ(before: RelayBooks, apps: BooksOfApps, after: RelayBooks) -> Iterator[str]:
    sums: defaultdict[int, Counts] = defaultdict(Counts)
    for (_, code), counts in apps.items():
        sums[code] += counts
    for code in CODES:
        for name in RISING:
            found = getattr(sums[code], name)
            low, high = sorted((getattr(before[code], name), getattr(after[code], name)))
            if not low <= found <= high:
                yield f"books, {name_of(code)}: {name} is {high} in the whole relay and {found} in all apps together"


def _ledger_differs(before: dict[str, int], books: RelayBooks, after: dict[str, int]) -> Iterator[str]:
    for name, low in before.items():
        found = sum(getattr(counts, name) for counts in books.values())
        if not low <= found <= after[name]:
            yield f"ledger: {name} is {after[name]} there and {found} in the books of all types together"


def _all_moved(before: Reading, after: Reading) -> int:
    return sum(moved(before.relay[code], after.relay[code]) for code in CODES)


def _compared(name: str, before: Counts, after: Counts, waiting: Sums, dead: Sums) -> Iterator[str]:
    """What one book says of waiting and dead events, against what was counted."""
    movement = moved(before, after)
    for what, place, found, booked in (
        ("waiting", "the lanes hold", waiting, Sums(after.waiting, after.unknown_waiting, after.revenue_waiting)),
        ("dead", "the dead letters are", dead, Sums(after.dead, after.unknown_dead, after.revenue_dead)),
    ):
        differs = found != booked if movement == 0 else abs(found.number - booked.number) > movement
        if differs:
            yield f"{what}, {name}: the books say {_text(booked)}, {place} {_text(found)}"


def _text(sums: Sums) -> str:
    """``6``, or ``6 (revenue 12.5)``, or ``6 (revenue 12.5, 2 unknown)``."""
    if not sums.revenue and not sums.unknown:
        return str(sums.number)
    revenue = amount(sums.revenue)
    written = "too large" if revenue is None else f"{revenue:.4f}".rstrip("0").rstrip(".")
    unknown = f", {sums.unknown} unknown" if sums.unknown else ""
    return f"{sums.number} (revenue {written}{unknown})"


def _with_missing(apps: BooksOfApps, *recounts: Recount) -> BooksOfApps:
    """The books, and empty ones for what was found without a book."""
    found = {book: Counts() for recount in recounts for book in recount.books}
    return {**found, **apps}


def _of_type(recount: Recount, code: int) -> Sums:
    of_apps = [sums for (_, found), sums in recount.books.items() if found == code]
    number, unknown = sum(sums.number for sums in of_apps), sum(sums.unknown for sums in of_apps)
    return Sums(number, unknown, as_int64(sum(sums.revenue for sums in of_apps)))


def _named(books: Reading) -> Iterator[tuple[str, Counts]]:
    yield from ((name_of(code), counts) for code, counts in books.relay.items())
    yield from ((_of_app(app, code), counts) for (app, code), counts in books.apps.items())


def _of_app(app: str, code: int) -> str:
    return f"{name_of(code)} of app {app}"
