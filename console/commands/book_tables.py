"""How the books are shown: revenue, what waits and is dead by type and by app, and how long deliveries take."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table

from insend_relay.console.terminal import table
from insend_relay.operations.books import AppBooks, Counts, amount, whole
from insend_relay.operations.latency import Histogram
from insend_relay.operations.status import Status, span

_APPS_SHOWN = 10


def revenue_text(units: int, unknown: int = 0) -> str:
    """A sum of revenues: ``1,234.50``, or ``1,234.50 (2 unknown)`` with two that cannot be counted."""
    known = amount(units)
    text = "more than can be counted" if known is None else f"{known:,.2f}"
    return f"{text} ({unknown:,} unknown)" if unknown else text


def revenue_rows(status: Status) -> list[tuple[str, str]]:
    """The revenue of purchases that wait or are dead, where there is any."""
    counts = whole(status.types)
    found = [
        ("revenue waiting", counts.revenue_waiting, counts.unknown_waiting),
        ("revenue in dead letters", counts.revenue_dead, counts.unknown_dead),
    ]
    return [(name, revenue_text(units, unknown)) for name, units, unknown in found if units or unknown]


def book_tables(status: Status) -> list[RenderableType]:
    """What waits and is dead by type and by app, each where there is more than one; how long deliveries take."""
    types = [(name, counts) for name, counts in status.types.items() if _any(counts)]
    apps = sorted((app for app in status.apps if _any(app.whole)), key=lambda app: (-_stock(app), app.app))
    tables: list[RenderableType] = []
    if len(types) > 1:
        rows = [(name, counts.waiting, counts.dead) for name, counts in types]
        tables.append(table("TYPE", "WAITING", "DEAD LETTERS", rows=rows))
    if len(apps) > 1:
        tables.append(_app_table(apps))
    latency = _latency_table(status)
    return [*tables, latency] if latency else tables


def _app_table(apps: list[AppBooks]) -> RenderableType:
    rows = []
    for app in apps[:_APPS_SHOWN]:
        counts = app.whole
        revenue = revenue_text(counts.revenue_waiting, counts.unknown_waiting)
        dead = revenue_text(counts.revenue_dead, counts.unknown_dead)
        rows.append((app.app, counts.waiting, counts.dead, revenue, dead))
    title = None if len(apps) <= _APPS_SHOWN else f"the first {_APPS_SHOWN} of {len(apps):,} apps; --json has all"
    found = table("APP", "WAITING", "DEAD LETTERS", "REVENUE WAITING", "REVENUE DEAD", rows=rows)
    found.caption = title
    _numbers_to_the_right(found)
    return found


def _latency_table(status: Status) -> RenderableType | None:
    """How long deliveries have taken since the beginning; None before any."""
    histograms = [
        ("accepted to delivered", sum((app.latency.delivered for app in status.apps), Histogram())),
        ("answer of the tracker", sum((app.latency.post for app in status.apps), Histogram())),
    ]
    rows = [(name, _bound(found, 0.5), _bound(found, 0.99)) for name, found in histograms if found.count]
    if not rows:
        return None
    found = table("SINCE THE BEGINNING", "HALF WITHIN", "99% WITHIN", rows=rows)
    _numbers_to_the_right(found)
    return found


def _numbers_to_the_right(found: Table) -> None:
    for column in found.columns[1:]:
        column.justify = "right"


def _any(counts: Counts) -> bool:
    return bool(counts.waiting or counts.dead)


def _stock(app: AppBooks) -> int:
    return app.whole.waiting + app.whole.dead


def _bound(histogram: Histogram, share: float) -> str:
    seconds = histogram.within_seconds(share)
    if seconds is None:
        return "more than a day"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else span(seconds)
