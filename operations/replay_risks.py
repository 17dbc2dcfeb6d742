"""What the late arrival of dead letters may break at the tracker, counted before they are replayed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from insend_relay.operations.dead import ALL, DeadLetters, Filter
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.quarantine import CRASHED
from insend_relay.outbox.store import Outbox

MAX_LETTERS = 10_000  # that are read


@dataclass(frozen=True, slots=True)
class Risks:
    """How many of the letters that are meant bring a risk.

    Attributes:
        carts: ``update_cart``: each carries a whole cart, so an old one may overwrite a newer state.
        purchases: ``purchase``: the tracker ignored an ``order_update`` that arrived before its purchase.
        orphans: ``order_update`` after a dead purchase of the same visitor that is not meant.
        guests: Events of guests: when the guest has logged in since, the visitor's events do not wait for them.
        unknown: Of unknown outcome: the tracker may have the event already.
        crashed: Of those, the ones that died because they crashed their workers.
    """

    carts: int = 0
    purchases: int = 0
    orphans: int = 0
    guests: int = 0
    unknown: int = 0
    crashed: int = 0


def find_risks(outbox: Outbox, filter: Filter = ALL) -> Risks:
    """Count the risks of a replay.

    Args:
        outbox: The outbox.
        filter: The letters that are meant. The oldest 10,000 dead letters of its app and visitor are looked at.
    """
    carts = purchases = orphans = guests = unknown = crashed = 0
    bought: dict[Lane | None, bool] = {}  # lanes with a dead purchase: whether all of those are meant
    around = Filter(app=filter.app, visitor=filter.visitor)
    for letter in islice(DeadLetters(outbox).scan(around), MAX_LETTERS):
        meant = filter.matches(letter) and letter.replayable
        guests += meant and letter.lane is not None and letter.lane.kind == "g"
        unknown += meant and letter.outcome == "unknown"
        crashed += meant and letter.reason == CRASHED
        if letter.type == "purchase":
            purchases += meant
            bought[letter.lane] = meant and bought.get(letter.lane, True)
        elif meant:
            carts += letter.type == "update_cart"
            orphans += letter.type == "order_update" and not bought.get(letter.lane, True)
    return Risks(carts, purchases, orphans, guests, unknown, crashed)
