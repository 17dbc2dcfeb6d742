"""No queue at all: processes that post carts for ever, to see what a queue costs.

    python bare_loop.py requests PROCESSES               one ``requests.post`` after the other
    python bare_loop.py lean PROCESSES GREENLETS         our own client, ``Tracker.post``, as a worker uses it

The first is what a web application does without a queue. The second is the most that our workers could ever deliver.
"""

from __future__ import annotations

import itertools
import multiprocessing
import sys

from peer_event import APP_KEY, POST_SECONDS, cart_payload, check, form, people, tracker_url

PERSONS = 1_000


def post_plainly(_: int) -> None:
    """Post by ``requests.post``."""
    import requests  # noqa: PLC0415 - the other loop is to import it as the worker does

    for person, payload in itertools.cycle(_carts()):
        data = form(person, payload)
        answer = requests.post(tracker_url(), data=data, timeout=POST_SECONDS, allow_redirects=False)
        check(answer.status_code)


def post_leanly(greenlets: int) -> None:
    """Post by ``Tracker.post``, in so many greenlets."""
    import gevent  # noqa: PLC0415 - after the fork

    from insend_relay.outbox.record import Record, new_id  # noqa: PLC0415 - likewise
    from insend_relay.worker import descriptors  # noqa: PLC0415 - likewise
    from insend_relay.worker.form import form as lean_form  # noqa: PLC0415 - likewise
    from insend_relay.worker.tracker import Tracker  # noqa: PLC0415 - likewise

    descriptors.enough_for(greenlets + 64)
    tracker = Tracker(tracker_url(), timeout_seconds=POST_SECONDS, connections=greenlets)
    records = [
        (f"{APP_KEY}/v/{person}", Record(new_id().bytes, 1, 1, 0, "", payload.encode())) for person, payload in _carts()
    ]

    def post() -> None:
        for lane, record in itertools.cycle(records):
            check(tracker.post(lean_form(lane, record)).status or 0)

    gevent.joinall([gevent.spawn(post) for _ in range(greenlets)], raise_error=True)


def _carts() -> list[tuple[str, str]]:
    return [(person, cart_payload(person)) for person in people(PERSONS, 1)]


def main() -> None:
    """Do what the command line says, until killed."""
    kind, processes, *greenlets = sys.argv[1:]
    loop = {"requests": post_plainly, "lean": post_leanly}[kind]
    forks = multiprocessing.get_context("fork")
    group = [forks.Process(target=loop, args=(int(*greenlets or "1"),), daemon=True) for _ in range(int(processes))]
    for process in group:
        process.start()
    for process in group:
        process.join()
    raise SystemExit("a loop has ended")


if __name__ == "__main__":
    main()
