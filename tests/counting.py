"""All counts of an outbox in one dict: those of the ledger, and the sums of the books."""

from __future__ import annotations

from insend_relay.operations.books import read_relay, total
from insend_relay.outbox.replies import pairs
from insend_relay.outbox.store import Outbox

COLUMNS = ("waiting", "delivered", "dead", "discarded", "replayed")


def counts(outbox: Outbox) -> dict[str, int]:
    """What is counted, 0 included; empty before anything was."""
    found = {name.decode(): int(number) for name, number in pairs(outbox.read("HGETALL", outbox.keys.ledger))}
    books = read_relay(outbox)
    whole = total(books.values())
    return {**found, **{name: getattr(whole, name) for name in COLUMNS}} if books else found


def counted(outbox: Outbox) -> dict[str, int]:
    """What is counted and not 0, but for the order of burials."""
    return {name: number for name, number in counts(outbox).items() if number and name != "burials"}
