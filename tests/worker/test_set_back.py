"""A Redis that is set back while a lane is worked on: what it gives out again is marked first."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from delivering import Append, ledger
from saved import Saved
from waiting import wait_until

from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.worker.delivery import Delivery
from insend_relay.worker.stop import Stop


class Tracker(ThreadingHTTPServer):
    """Answers 200, and calls a function with the number of the event before that."""

    def __init__(self, posted: Callable[[int], object]) -> None:
        self.posted = posted
        super().__init__(("127.0.0.1", 0), Post)


class Post(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Tracker

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.posted(json.loads(form["data"][0])["properties"]["number"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing to say."""


def test_after_a_failover_to_a_replica_that_knows_the_claim_and_not_the_settles(
    append: Append, outbox: Outbox, settings: Settings
) -> None:
    """The same token then holds an older head, and the worker has posted what stands behind it."""
    ids = [bytes.fromhex(append("1", number)) for number in range(4)]
    arrived: list[int] = []
    marked: list[set[bytes]] = []
    replica: list[Saved] = []

    def posted(number: int) -> None:
        arrived.append(number)
        if arrived == [0, 1]:
            replica.append(Saved(outbox))
        if arrived == [0, 1, 2]:
            replica[0].put_back()
        marked.append(set(outbox.read("ZRANGE", outbox.keys.doubtful, 0, -1)))

    with Tracker(posted) as tracker:
        threading.Thread(target=tracker.serve_forever).start()
        delivery = Delivery(outbox, replace(settings, tracker_url=f"http://127.0.0.1:{tracker.server_port}"), Stop(8))
        wait_until(lambda: delivery.run() or ledger(outbox)["waiting"] == 0)
        delivery.finish()
        tracker.shutdown()
    assert arrived == [0, 1, 2, 1, 2, 3]
    assert marked[3:] == [set(ids[1:3])] * 3, "before the second POST of the first of them"
    assert ledger(outbox)["duplicates_possible"] == 2
