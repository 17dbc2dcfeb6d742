"""``CommandLine`` runs ``insend``; the other words put events into the outbox and let them die."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from click.testing import CliRunner, Result
from waiting import PATIENCE_SECONDS

from insend_relay.console.commands.main import cli
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.connection import connect
from insend_relay.outbox.heartbeat import Heartbeat
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.letter import letter_meta
from insend_relay.outbox.quarantine import CRASHED
from insend_relay.outbox.record import new_id
from insend_relay.outbox.store import Outbox

ALICE = Lane("shop", "v", "alice")
BOB = Lane("shop", "v", "bob")
PROGRAM = "from insend_relay.console.commands.main import main; main()"
LEASE_MS = 30_000


def program(*arguments: object) -> list[str]:
    """A command line of ``insend``; warnings are errors in it, but in Celery, which warns whoever is root."""
    strict = [] if arguments[0] == "worker" else ["-W", "error"]
    return [sys.executable, *strict, "-c", PROGRAM, *map(str, arguments)]


class CommandLine:
    """``insend`` with a Redis and a namespace; other settings by keyword, such as ``INSEND_POOL="threads"``."""

    def __init__(self, redis_url: str, namespace: str) -> None:
        self.settings = {
            "INSEND_REDIS_URL": redis_url,
            "INSEND_NAMESPACE": namespace,
            "INSEND_APP_KEY": "shop",
            "INSEND_DOMAIN": "shop.example.com",
            "INSEND_ENQUEUE_TIMEOUT_MS": "60000",  # a slow machine must not decide
        }

    def __call__(self, *arguments: object, stdin: str = "", **settings: str) -> Result:
        """Run it in this process."""
        result = CliRunner(env={**self.settings, **settings}).invoke(cli, [str(a) for a in arguments], input=stdin)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *arguments: object) -> Any:
        """The one JSON value that it prints."""
        return json.loads(self(*arguments, "--json").stdout)

    def environment(self, **settings: str) -> dict[str, str]:
        """The environment of a process of its own."""
        ours = {**self.settings, **settings}
        return {**{name: value for name, value in os.environ.items() if not name.startswith("INSEND_")}, **ours}

    def process(self, *arguments: object, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        """Run it as a process of its own, with no terminal."""
        return subprocess.run(
            program(*arguments),
            input=stdin,
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    @contextmanager
    def started(self, *arguments: object, **settings: str) -> Iterator[subprocess.Popen[str]]:
        """Start it as a process of its own, with no terminal; killed at the end if it still runs."""
        with subprocess.Popen(
            program(*arguments),
            env=self.environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def terminal(self, *arguments: object, **settings: str) -> Iterator[Terminal]:
        """Start it at a terminal of its own."""
        ours, theirs = pty.openpty()
        environment = self.environment(TERM="xterm-256color", COLUMNS="120", **settings)
        with subprocess.Popen(
            program(*arguments),
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            terminal = Terminal(ours, process)
            try:
                yield terminal
            finally:
                process.kill()
                terminal.close()


class Terminal:
    """Both ends of a terminal: what the command shows, and what a person types."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.shown = ""
        self._descriptor = descriptor
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return code

    def close(self) -> None:
        self._reader.join(PATIENCE_SECONDS)
        os.close(self._descriptor)

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._descriptor, 4096)
            except OSError:  # the other end has gone
                return
            if not chunk:
                return
            self.shown += chunk.decode(errors="replace")


def event(type: str = "purchase", **more: Any) -> bytes:
    """A payload."""
    return json.dumps({"type": type, "domain": "shop.example.com", **more}).encode()


def put(outbox: Outbox, lane: Lane = ALICE, payload: bytes = b"") -> uuid.UUID:
    """Append one event."""
    return outbox.append(lane, new_id(), payload or event()).id


def claim(outbox: Outbox, lane: Lane = ALICE) -> Claim:
    """Claim a lane that is due."""
    held = {one.lane: one for one in outbox.claim("worker-1", 100, lease_ms=LEASE_MS)}
    for name, other in held.items():
        if name != str(lane):
            outbox.release(other)
    return held[str(lane)]


def bury(
    outbox: Outbox, held: Claim, *, type: str = "purchase", answer: str = "", reason: str = "answered 400"
) -> None:
    """Make a claimed head a dead letter."""
    outcome = "unknown" if reason.startswith("unknown") or reason == CRASHED else "answered"
    meta = letter_meta(outcome=outcome, status=400 if outcome == "answered" else None, answer=answer, attempts=5)
    outbox.bury(held, type=type, reason=reason, meta=meta, lease_ms=0)


def letter(outbox: Outbox, lane: Lane = ALICE, payload: bytes = b"", **more: Any) -> uuid.UUID:
    """Append an event and let it die."""
    event_id = put(outbox, lane, payload or event(more.get("type", "purchase")))
    bury(outbox, claim(outbox, lane), **more)
    return event_id


@contextmanager
def a_worker(outbox: Outbox, url: str, decide: Callable[[Outbox, Claim], None]) -> Iterator[None]:
    """A worker in a thread that decides about each event that it claims."""
    done = threading.Event()

    def work() -> None:
        with connect(url) as client:
            own = Outbox(client, namespace=outbox.keys.namespace)
            while not done.is_set():
                for held in own.claim("worker-2", 10, lease_ms=LEASE_MS):
                    decide(own, held)
                time.sleep(0.005)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def alive(outbox: Outbox) -> None:
    """As if a worker had just sent its heartbeat."""
    Heartbeat(outbox, "web-1:4711").beat()


def settle(outbox: Outbox, held: Claim) -> None:
    """As if the tracker had answered 200."""
    outbox.settle(held, lease_ms=0)
