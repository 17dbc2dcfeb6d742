"""Events that the run itself sends, past all proxies, beside those of its producer processes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos_tracker import Event
from chaos_worker import POISON

from insend_relay.producers import InSend, NotAccepted


class Sender:
    """Sends events as a producer would, and writes down what each call said as ``chaos_producer`` does.

    Args:
        log: Where.
        url: Redis's, by now.

    Attributes:
        deadly: The events that kill the worker that sends them.
    """

    def __init__(self, log: Path, url: Callable[[], str]) -> None:
        self.deadly: list[Event] = []
        self._log = log
        self._url = url
        self._numbers = itertools.count()

    def new_visitors(self, number: int = 1) -> list[Event]:
        """Send one event for each of so many new visitors; those that were kept."""
        return self.send([f"new-{next(self._numbers)}" for _ in range(number)], 1)

    def send(self, people: list[str], number: int, *, deadly_from: int | None = None) -> list[Event]:
        """Send so many events for each of these people; those that were kept.

        Args:
            people: Visitors of this run.
            number: How many events for each.
            deadly_from: Which event of each kills the worker that sends it; none.
        """
        account: Any = {"app_key": "chaos", "domain": "shop.example.com", "enqueue_timeout_ms": 5_000}
        kept = []
        with self._log.open("a") as told, InSend(**account, redis_url=self._url()) as insend:
            for person, at in itertools.product(people, range(number)):
                event = Event(person, at)
                print("try", person, at, f"{time.monotonic():.2f}", file=told)
                properties: dict[str, Any] = {"person": person, "number": at}
                if at == deadly_from:
                    properties[POISON] = True
                    self.deadly.append(event)
                try:
                    receipt = insend.custom(key="chaos", properties=properties, visitor_uid=person)
                    outcome = f"{receipt.where} {receipt.id.hex} {'sure' if receipt.confirmed else 'unsure'}"
                    kept.append(event)
                except NotAccepted as error:
                    outcome = f"{'unknown' if error.unknown else 'refused'} - -"
                print("got", person, at, outcome, f"0 {time.monotonic():.2f}", file=told)
        return kept
