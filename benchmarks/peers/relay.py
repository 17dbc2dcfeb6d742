"""Insend Relay among its peers: the producer. Its worker is ``insend worker``, its settings are ``INSEND_*``."""

from __future__ import annotations

from peer_event import KEY, produce, properties

from insend_relay.producers import InSend


def main() -> None:
    """Enqueue as the command line says; an event that Redis has not taken ends it."""
    with InSend.from_env() as insend:

        def enqueue(person: str, number: int) -> str:
            receipt = insend.custom(key=KEY, properties=properties(person, number), visitor_uid=person)
            if receipt.where != "redis":
                raise SystemExit(f"an event went to {receipt.where}")
            return receipt.id.hex

        produce(enqueue)


if __name__ == "__main__":
    main()
