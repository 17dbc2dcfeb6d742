"""What the apps of this folder share: their events, a form, and a producer. Needs the standard library only.

An app reads ``REDIS_URL`` and ``TRACKER_URL``, has one task ``deliver(person, payload)`` which posts one event and
raises unless the answer is 200, and is its own producer:

    python APP.py enqueue EVENTS VISITORS PER_SECOND SEED [NAME]   small events at a steady rate; prints each one taken
    python APP.py fill EVENTS LANE                                 carts of 733 bytes, LANE a visitor, as fast as may be
    python APP.py measure EVENTS                                   a cart a visitor; prints the ms that each call took
    python APP.py drip EVENTS                                      a cart about every half second; prints, for each, the
                                                                   ms that the call took and when it returned

With ``RECOVER_SECONDS`` a peer gives a dead worker's messages to another after that long, as far as it can; without, it
has its library's own time-outs, which cost less.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

APP_KEY, DOMAIN, KEY = "bench", "shop.example.com", "seen"
URL = "https://shop.example.com/cart"
POST_SECONDS = 4.0  # less than the recovery, or a slow answer would look like a dead worker
ITEMS: list[Any] = [
    {
        "product_id": str(number),
        "qnt": number,
        "price": 125.15,
        "product_name": "A thing of joy",
        "product_url": f"https://shop.example.com/product/{number}",
        "product_image_url": f"https://shop.example.com/image/{number}.jpg",
    }
    for number in (1, 2, 3)
]


class Refused(Exception):
    """The tracker's answer was not 200; whoever runs the task tries again."""


def recover_seconds() -> int | None:
    """After how many seconds a dead worker's messages go to another; None for the library's default."""
    return int(os.environ["RECOVER_SECONDS"]) if "RECOVER_SECONDS" in os.environ else None


def properties(person: str, number: int) -> dict[str, Any]:
    """A small event's own fields: whose it is, and its number there."""
    return {"person": person, "number": number}


def seen_payload(person: str, number: int) -> str:
    """The small event as the tracker wants it in ``data``."""
    return _data(person, "custom", {"key": KEY, **properties(person, number)})


def cart_payload(person: str) -> str:
    """A cart likewise."""
    return _data(person, "update_cart", {"items": ITEMS})


def _data(person: str, type: str, properties: dict[str, Any]) -> str:
    head = {"app_key": APP_KEY, "visitor_uid": person, "type": type, "domain": DOMAIN, "host": DOMAIN, "url": URL}
    return json.dumps({**head, "properties": properties}, separators=(",", ":"))


def form(person: str, payload: str) -> dict[str, str]:
    """The form of a person's payload."""
    return {"app_key": APP_KEY, "visitor_uid": person, "data": payload}


def tracker_url() -> str:
    """Where to post."""
    return os.environ["TRACKER_URL"]


def check(status: int) -> None:
    """Raise Refused for any answer but 200."""
    if status != 200:  # noqa: PLR2004 - the tracker's contract
        raise Refused(status)


def produce(enqueue: Callable[[str, str], object]) -> None:
    """Do what the command line says, with an ``enqueue`` that takes person and payload and returns the message's id."""
    run(
        lambda person, number: enqueue(person, seen_payload(person, number)),
        lambda person: partial(enqueue, person, cart_payload(person)),
    )


def run(seen: Callable[[str, int], object], cart: Callable[[str], Callable[[], object]]) -> None:
    """Do what the command line says.

    Args:
        seen: Enqueues a small event of a person, by its number there.
        cart: Makes a person's cart, and returns what enqueues it: that is what is measured.
    """
    match sys.argv[1:]:
        case ["enqueue", events, visitors, per_second, seed, *name]:
            _steadily(seen, int(events), int(visitors), float(per_second), int(seed), *name)
        case ["fill", events, lane]:
            for person in people(int(events), int(lane)):
                cart(person)()
        case ["measure", events]:
            tell([timed(cart(person)) for person in people(int(events), 1)])
        case ["drip", events]:
            tell(_drip(cart, int(events)))
        case _:
            raise SystemExit(f"usage: {sys.argv[0]} enqueue|fill|measure|drip ...")


def people(events: int, lane: int) -> Iterator[str]:
    """Whose each event is: one event of every visitor, then the next of every visitor, ``lane`` of each in all."""
    visitors = max(1, events // lane)
    return (f"v{at % visitors:06}" for at in range(events))


def timed(call: Callable[[], object]) -> float:
    """The milliseconds that a call takes."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000


def tell(figures: object) -> None:
    """Print what was measured."""
    print(json.dumps(figures))


def _drip(cart: Callable[[str], Callable[[], object]], events: int) -> list[tuple[float, float]]:
    taken = []
    for person in people(events, 1):
        call = cart(person)
        time.sleep(drip_seconds())
        taken.append((timed(call), time.monotonic()))
    return taken


def drip_seconds() -> float:
    """The pause before the next event: longer than a worker looks about, and in no rhythm that meets one of its own."""
    return random.uniform(0.4, 0.8)  # noqa: S311 - needs no cryptography


def _steadily(
    seen: Callable[[str, int], object], events: int, visitors: int, per_second: float, seed: int, name: str = "v"
) -> None:
    """Enqueue, and print each event once it is taken: person, number, and what came back.

    One event of every visitor, then the next of every visitor, each round in an order of chance; a call that took long
    is made up for. Visitors are called NAME-0, NAME-1, ...
    """
    chances = random.Random(seed)  # noqa: S311 - an order needs no cryptography
    persons = [f"{name}-{at}" for at in range(visitors)]
    start = time.monotonic()
    for at in range(events):
        number, seat = divmod(at, len(persons))
        if seat == 0:
            chances.shuffle(persons)
        time.sleep(max(0.0, start + at / per_second - time.monotonic()))
        print(persons[seat], number, seen(persons[seat], number), flush=True)
