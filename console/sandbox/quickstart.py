"""``make run``: everything at once on this machine, and the ten example events sent through the real path.

Starts what production has elsewhere (a durable Redis, kept under var/; a sandbox tracker) unless the environment names
them, runs the Procfile's processes, sends one event of each type through a producer, shows each arrive, and runs on
until Ctrl-C, SIGTERM or the end of the terminal. Then nothing of it is left but var/'s data.

It never mixes what is real with what is not: the events of a Redis that you name do not go to the sandbox, and the
examples do not go to a real tracker.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.resources
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from insend_relay.console.sandbox.child import start_child
from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.console.sandbox.sandbox import CannotListen, Received, Sandbox
from insend_relay.operations.status import read_status
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import OutboxError, RelayError
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InSend

SANDBOX_PORT, REDIS_PORT = 8080, 63790  # if they are free: what a second terminal was told stays true
ARRIVE_SECONDS = 60.0
STOP_SECONDS = 30.0
PATIENCE_MS = 5_000  # no web page waits for the examples, and a slow machine has just started everything
SHOP = {"INSEND_APP_KEY": "demo-key", "INSEND_DOMAIN": "shop.example.com"}
SHOWN = ("INSEND_REDIS_URL", "INSEND_TRACKER_URL", "INSEND_APP_KEY", "INSEND_DOMAIN", "INSEND_SPOOL")

console = Console()


class Elsewhere(RelayError):
    """``make run`` cannot run, or cannot go on; the text says why."""


@dataclass
class Arrivals:
    """When each event type reached the sandbox."""

    at: dict[str, float] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def note(self, event: Received) -> None:
        """The sandbox has received an event."""
        with self.changed:
            self.at[event.type] = time.monotonic()
            self.changed.notify_all()

    def wait(self, event_type: str, give_up: Callable[[], bool]) -> float | None:
        """When an event of this type arrived, on the monotonic clock; None when it was given up."""
        with self.changed:
            while event_type not in self.at and not give_up():
                self.changed.wait(0.2)
            return self.at.get(event_type)


@dataclass
class Surroundings:
    """What the rest runs in.

    Attributes:
        environ: The environment of every process.
        arrivals: What the sandbox sees; None when another tracker is named.
        alive: Whether what was started for it still runs.
    """

    environ: dict[str, str]
    arrivals: Arrivals | None
    alive: Callable[[], bool]


def examples() -> list[dict[str, Any]]:
    """The ten examples of the tracker's page."""
    text = (
        importlib.resources.files("insend_relay.console.sandbox").joinpath("examples.json").read_text(encoding="utf-8")
    )
    found: list[dict[str, Any]] = json.loads(text)
    return found


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[int]:
    """Nobody else runs in this folder: two servers on one append-only file would spoil it. Yields the lock's number."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # customers' data will lie in it
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Elsewhere(
                "`make run`, or an example shop, is running in this folder already: end that one first"
            ) from None
        yield lock.fileno()


@contextlib.contextmanager
def surroundings(folder: Path, lock: int) -> Iterator[Surroundings]:
    """Start what the environment does not name."""
    environ = dict(os.environ)
    own_redis = not environ.get("INSEND_REDIS_URL")
    own_tracker = not environ.get("INSEND_APP_KEY") and not environ.get("INSEND_TRACKER_URL")
    if own_tracker and not own_redis:
        raise Elsewhere(
            "INSEND_REDIS_URL is set in this shell, and no tracker: the sandbox would swallow the events that wait "
            "there. Unset it, or set INSEND_TRACKER_URL, INSEND_APP_KEY and INSEND_DOMAIN too."
        )
    if not own_redis:
        _must_be_there(environ["INSEND_REDIS_URL"])
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}"
    around = Surroundings(environ, None, alive=lambda: True)
    with contextlib.ExitStack() as stack:
        if own_redis:
            redis = stack.enter_context(EmbeddedRedis(folder / "redis", port=REDIS_PORT, keep_open=[lock]))
            environ["INSEND_REDIS_URL"] = redis.url
            environ["INSEND_SPOOL"] = str(folder.resolve() / "spool" / "spool.db")
            around.alive = lambda: redis.alive
        if own_tracker:
            around.arrivals = Arrivals()
            sandbox = _sandbox(stack, around.arrivals)
            environ |= SHOP
            environ["INSEND_TRACKER_URL"] = sandbox.url
        named = [name for name in SHOWN if os.environ.get(name)]
        if named:
            console.print(f"from this shell: {', '.join(named)}", highlight=False)
        yield around


def _must_be_there(redis_url: str) -> None:
    with connect(redis_url) as client:
        try:
            Outbox(client).read("PING")
        except OutboxError as error:
            named = " ".join(name for name in SHOWN if os.environ.get(name))
            raise Elsewhere(
                f"INSEND_REDIS_URL is set in this shell, and that Redis cannot be used: {error}. "
                f"Start it, or let this bring its own; type: unset {named}"
            ) from None


def _sandbox(stack: contextlib.ExitStack, arrivals: Arrivals) -> Sandbox:
    try:
        return stack.enter_context(Sandbox(SANDBOX_PORT, on_event=arrivals.note))
    except CannotListen:
        return stack.enter_context(Sandbox(0, on_event=arrivals.note))


@contextlib.contextmanager
def procfile(environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The Procfile's processes, under honcho; ended with the block.

    Their lines pass through us: a terminal that has gone must not stop honcho in the middle of stopping them.
    """
    honcho = start_child([sys.executable, "-m", "honcho", "--no-colour", "start"], subprocess.PIPE, environ=environ)
    lines = threading.Thread(target=_pass_on, args=(honcho,), daemon=True)
    lines.start()
    try:
        yield honcho
    finally:
        honcho.terminate()
        try:
            honcho.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(honcho.pid, signal.SIGKILL)
            honcho.wait()
        lines.join()


def _pass_on(honcho: subprocess.Popen[bytes]) -> None:
    if honcho.stdout is not None:
        with honcho.stdout as lines, contextlib.suppress(ValueError):
            for line in lines:
                with contextlib.suppress(OSError):
                    sys.stdout.buffer.write(line)
                    sys.stdout.buffer.flush()


def send_examples(settings: Settings, arrivals: Arrivals | None, give_up: Callable[[], bool]) -> Table:
    """Send the ten examples as one guest's visit and show how each arrived; without ``arrivals`` nobody can tell."""
    table = Table("event", "accepted as", "arrived after")
    visit = {"guest_uid": "quickstart-guest", "url": "https://shop.example.com/", "title": "A shop"}
    timeout_ms = max(settings.enqueue_timeout_ms, PATIENCE_MS)
    with InSend(settings=settings, enqueue_timeout_ms=timeout_ms) as insend, insend.visitor(**visit):
        for example in examples():
            sent_at = time.monotonic()
            receipt = insend("event", example["type"], example["properties"], example.get("visitor_info"))
            arrived_at = arrivals.wait(example["type"], give_up) if arrivals else None
            after = f"{(arrived_at - sent_at) * 1000:.1f} ms" if arrived_at else "see insend status"
            table.add_row(example["type"], str(receipt.id), after)
            if arrivals and arrived_at is None:
                break
    return table


def books(settings: Settings, give_up: Callable[[], bool]) -> str:
    """The books, once the last answer is written down."""
    with connect(settings.redis_url) as client:
        outbox = Outbox(client, namespace=settings.namespace)
        while (status := read_status(outbox)).waiting and not give_up():
            time.sleep(0.02)
    return f"accepted {status.accepted}, delivered {status.delivered}, waiting {status.waiting}, dead {status.dead}"


def exports(environ: Mapping[str, str]) -> list[str]:
    """What leads the commands of another terminal here, as one types it."""
    lines = [f"  export PATH={Path(sys.executable).parent}:$PATH"]
    return lines + [f"  export {name}={environ[name]}" for name in SHOWN if name in environ]


def next_steps(around: Surroundings) -> str:
    """What to try in another terminal."""
    environ = around.environ
    page = environ.get("INSEND_TRACKER_URL", "").removesuffix("watch/event")
    lines = [
        "Everything runs. In another terminal:",
        *exports(environ),
        "  insend status --watch",
        '  insend send purchase --visitor-uid 42 --properties \'{"order_id": "1", "revenue": 9.99}\'',
        "  insend dead list",
    ]
    if around.arrivals:
        lines += [
            f"What arrived, as a page: {page}",
            "Let the tracker fail, look, and let it recover:",
            f"  curl {page}misbehave -d '{{\"status\": 503}}'",
            f"  curl -X POST {page}behave",
        ]
    return "\n".join([*lines, "Ctrl-C ends it; what was accepted stays in var/ for the next time."])


def run(folder: Path) -> None:
    """Start everything, show it, and run on until told to stop."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())
    with only_one(folder) as lock, surroundings(folder, lock) as around, procfile(around.environ) as processes:
        settings = Settings.from_env(around.environ)
        give_up_at = time.monotonic() + ARRIVE_SECONDS

        def give_up() -> bool:
            return over.is_set() or processes.poll() is not None or time.monotonic() > give_up_at

        if around.environ.get("INSEND_TRACKER_URL"):
            console.print(send_examples(settings, around.arrivals, give_up))
            console.print(books(settings, give_up))
        else:
            console.print("This is your own account: no examples are sent.")
        console.print(next_steps(around), highlight=False, soft_wrap=True)
        while not over.wait(0.2):
            if processes.poll() is not None:
                raise Elsewhere("the worker has ended: see its lines above")
            if not around.alive():
                raise Elsewhere(f"the embedded Redis has ended: see {folder / 'redis' / 'redis.log'}")


def main() -> None:
    """Run in var/ below the current folder."""
    try:
        run(Path("var"))
    except RelayError as error:
        console.print(f"[red]{error}[/red]")
        sys.exit(1)
    except BrokenPipeError:  # nobody reads on: everything has been ended on the way here
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
