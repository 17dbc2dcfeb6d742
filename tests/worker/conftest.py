"""Fixtures for the worker's tests: a sandbox tracker, settings without long waits, deliveries and worker processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from delivering import APP, Append, Arrived, WorkerProcess, payload

from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import new_id
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.worker.delivery import Delivery
from insend_relay.worker.stop import Stop


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A tracker that enforces the contract."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def settings(redis_url: str, namespace: str, sandbox: Sandbox) -> Settings:
    """Settings with waits of milliseconds instead of seconds."""
    return Settings(
        redis_url=redis_url,
        namespace=namespace,
        tracker_url=sandbox.url,
        concurrency=16,
        retry_first_seconds=0.02,
        retry_max_seconds=0.2,
        outage_first_seconds=0.05,
        outage_max_seconds=0.5,
        unreachable_seconds=0,
        server_error_seconds=0,
        stop_seconds=100,  # a slow machine must not decide whether a POST or a process ends by itself
    )


@pytest.fixture
def independent() -> Iterator[tuple[str, Arrived]]:
    """An HTTP server that writes down every request and says 200."""
    arrived: Arrived = []

    class Recorder(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived.append((f"{self.command} {self.path}", {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/watch/event", arrived
        server.shutdown()
        thread.join()


@pytest.fixture
def append(outbox: Outbox) -> Append:
    """Append an event: ``append("42", 1)``; returns its id in hex."""

    def append(uid: str, number: int = 0, *, app: str = APP, **more: Any) -> str:
        event_id = new_id()
        data = payload(uid, number, **more).replace(f'"{APP}"'.encode(), f'"{app}"'.encode())
        outbox.append(Lane(app, "v", uid), event_id, data)
        return event_id.hex

    return append


@pytest.fixture
def delivering(outbox: Outbox, settings: Settings) -> Callable[..., Any]:
    """A context in which a delivery goes on: ``with delivering(retry_first_seconds=1):``."""

    @contextmanager
    def delivering(**changes: Any) -> Iterator[Delivery]:
        stop = Stop(8)
        delivery = Delivery(outbox, replace(settings, **changes), stop)

        def again_and_again() -> None:
            while not stop.asked:
                delivery.run()

        thread = threading.Thread(target=again_and_again)
        thread.start()
        try:
            yield delivery
        finally:
            stop.ask()
            thread.join()
            delivery.finish()

    return delivering


@pytest.fixture
def start_worker(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start a worker process; it is ended after the test."""
    workers: list[WorkerProcess] = []

    def start(**changes: Any) -> WorkerProcess:
        worker = WorkerProcess(replace(settings, **changes), tmp_path / f"worker-{len(workers)}.log")
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.end()
