"""A producer process of a chaos run: sends one event after the other, and writes down what each call said.

    python chaos_producer.py LOG NUMBER PEOPLE PER_SECOND CLOCK_SECONDS

Before each call a line says what is tried, after it what became of it; a process that is killed between the two leaves
the outcome open. A person begins as a guest, logs in with the tenth event, goes on as a visitor, and after thirty is
followed by another. NUMBER tells apart the processes, each with people of its own; started again one goes on where its
log ends. With CHAOS_NEWER=1 this is a newer release, whose records have a version 2.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from chaos_resolver import use_resolver

LOGIN, LAST = 10, 30


def whose(person: str, number: int) -> dict[str, Any]:
    """The uids of a person's event."""
    guest, visitor = {"guest_uid": f"g.{person}"}, {"visitor_uid": person}
    return guest if number < LOGIN else guest | visitor if number == LOGIN else visitor


def newer(scripts: Any) -> None:
    """Make append write a version 2 of the record, laid out like the first."""
    load = scripts.load

    def loaded(name: str) -> Any:
        script = load(name)
        source = script.source.replace("struct.pack('>BI8I8', 1,", "struct.pack('>BI8I8', 2,")
        assert (source != script.source) == (name == "append")
        digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        return replace(script, source=source, sha=digest)

    scripts.load = loaded


def main() -> None:
    """Send until told to stop."""
    log, me, people, per_second, clock = Path(sys.argv[1]), *map(float, sys.argv[2:])
    real = time.time
    time.time = lambda: real() + clock
    time.time_ns = lambda: int((real() + clock) * 1e9)
    use_resolver(log.parent)
    from insend_relay.outbox import scripts  # noqa: PLC0415 - under the clock that was set
    from insend_relay.producers import InSend, NotAccepted  # noqa: PLC0415 - likewise

    if os.environ.get("CHAOS_NEWER"):
        newer(scripts)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    continued: list[int] = []  # a call in which the process itself was stopped says nothing about its time
    signal.signal(signal.SIGCONT, lambda *_: continued.append(1))
    before = log.read_text().count("try ") if log.exists() else 0
    with log.open("a") as told, InSend.from_env() as insend:
        for at in itertools.count(before):
            if stopped:
                break
            turn, seat = divmod(at, int(people))
            generation, number = divmod(turn, LAST)
            person = f"{me:.0f}-{seat}-{generation}"
            print("try", person, number, f"{time.monotonic():.2f}", file=told, flush=True)
            continued.clear()
            start = time.perf_counter()
            try:
                properties = {"person": person, "number": number}
                receipt = insend.custom(key="chaos", properties=properties, **whose(person, number))
                outcome = f"{receipt.where} {receipt.id.hex} {'sure' if receipt.confirmed else 'unsure'}"
            except NotAccepted as error:
                outcome = f"{'unknown' if error.unknown else 'refused'} - -"
            taken = 0.0 if continued else time.perf_counter() - start
            after = f"{taken * 1000:.2f} {time.monotonic():.2f}"
            print("got", person, number, outcome, after, file=told, flush=True)
            time.sleep(max(0.0, 1 / per_second - taken))


if __name__ == "__main__":
    main()
