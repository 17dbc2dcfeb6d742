"""What ``insend replay`` says about the risks of a replay before it asks."""

from __future__ import annotations

from collections.abc import Iterator

from insend_relay.operations.replay_risks import Risks


def warnings(risks: Risks) -> Iterator[str]:
    """A sentence for each kind of risk."""
    if risks.carts:
        yield (
            f"{risks.carts:,} update_cart: each carries a whole cart, so an old one may overwrite a newer state at the "
            "tracker"
        )
    if risks.purchases:
        yield (
            f"{risks.purchases:,} purchase: an order_update that was delivered after one of them died was void, "
            "because the tracker did not know the order yet; send it once more when the purchase has arrived"
        )
    if risks.orphans:
        yield (
            f"{risks.orphans:,} order_update without the purchase before it, which is dead too: the tracker ignores a "
            "change to an order that it does not know; replay that purchase first"
        )
    if risks.guests:
        yield (
            f"{risks.guests:,} of guests: when such a guest has logged in since, the visitor's events are not held "
            "back for them, so they may arrive after the login"
        )
    if risks.unknown:
        yield (
            f"{risks.unknown:,} of unknown outcome: the tracker may have them already, and would then count them twice"
        )
    if risks.crashed:
        yield (
            f"{risks.crashed:,} that died because they crashed their workers: they may do so again, and then what a "
            "worker sends at the same time may arrive twice"
        )
