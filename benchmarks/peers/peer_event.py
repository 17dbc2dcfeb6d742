"""What the apps of this folder share: an event, its form, and a steady producer. Needs the standard library only.

An app reads ``REDIS_URL`` and ``TRACKER_URL``, has one task ``deliver(payload)`` which posts one event and raises
unless the answer is 200, and is its own producer: ``python APP.py enqueue EVENTS VISITORS PER_SECOND SEED [NAME]``.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

APP_KEY, DOMAIN, KEY = "bench", "shop.example.com", "seen"
RECOVERY_SECONDS = 5  # after which each peer gives a dead worker's messages to another
POST_SECONDS = 4.0  # less, or a slow answer would look like a dead worker


class Refused(Exception):
    """The tracker's answer was not 200; whoever runs the task tries again."""


def properties(person: str, number: int) -> dict[str, Any]:
    """An event's own fields: whose it is, and its number there."""
    return {"person": person, "number": number}


def write_payload(person: str, number: int) -> str:
    """The event as the tracker wants it in ``data``."""
    fields = {"key": KEY, **properties(person, number)}
    return json.dumps(
        {
            "app_key": APP_KEY,
            "visitor_uid": person,
            "type": "custom",
            "domain": DOMAIN,
            "host": DOMAIN,
            "properties": fields,
        }
    )


def form(payload: str) -> dict[str, str]:
    """The form of a payload."""
    return {"app_key": APP_KEY, "visitor_uid": json.loads(payload)["visitor_uid"], "data": payload}


def tracker_url() -> str:
    """Where to post."""
    return os.environ["TRACKER_URL"]


def check(status: int) -> None:
    """Raise Refused for any answer but 200."""
    if status != 200:  # noqa: PLR2004 - the tracker's contract
        raise Refused(status)


def produce(enqueue: Callable[[str, int], object]) -> None:
    """Enqueue as the command line says, and print each event once it is taken: person, number, and what came back.

    One event of every visitor, then the next of every visitor, each round in an order of chance; a call that took long
    is made up for. Visitors are called NAME-0, NAME-1, ...
    """
    command, events, visitors, per_second, seed, name = [*sys.argv[1:], "v"][:6]
    if command != "enqueue":
        raise SystemExit(f"usage: {sys.argv[0]} enqueue EVENTS VISITORS PER_SECOND SEED [NAME]")
    chances = random.Random(int(seed))  # noqa: S311 - an order needs no cryptography
    people = [f"{name}-{at}" for at in range(int(visitors))]
    start = time.monotonic()
    for at in range(int(events)):
        number, seat = divmod(at, len(people))
        if seat == 0:
            chances.shuffle(people)
        time.sleep(max(0.0, start + at / float(per_second) - time.monotonic()))
        print(people[seat], number, enqueue(people[seat], number), flush=True)
