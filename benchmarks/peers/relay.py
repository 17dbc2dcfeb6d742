"""Insend Relay among its peers: the producer. Its worker is ``insend worker``, its settings are ``INSEND_*``."""

from __future__ import annotations

from functools import partial

from peer_event import ITEMS, KEY, URL, properties, run

from insend_relay.producers import InSend, Receipt


def main() -> None:
    """Do what the command line says; an event that Redis has not taken ends it."""
    with InSend.from_env() as insend:

        def in_redis(receipt: Receipt) -> str:
            if receipt.where != "redis":
                raise SystemExit(f"an event went to {receipt.where}")
            return receipt.id.hex

        run(
            lambda person, number: in_redis(
                insend.custom(key=KEY, properties=properties(person, number), visitor_uid=person, url=URL)
            ),
            lambda person: partial(insend.update_cart, items=ITEMS, visitor_uid=person, url=URL),
        )


if __name__ == "__main__":
    main()
