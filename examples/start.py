"""``make shop-django``, ``shop-flask``, ``shop-fastapi``: what ``make run`` starts, and a shop to click through.

The shop runs as it would in production, under gunicorn or uvicorn with two worker processes; its events go through
Redis and the relay's worker to the sandbox, whose page shows them arrive. Ctrl-C ends everything; var/ keeps its data.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from insend_relay.console.sandbox.child import start_child
from insend_relay.console.sandbox.quickstart import SHOWN, Elsewhere, console, exports, only_one, procfile, surroundings
from insend_relay.outbox.errors import RelayError

HERE = Path(__file__).resolve().parent
PORT = 8000  # if it is free
START_SECONDS = 120.0
STOP_SECONDS = 15.0

# {fd} is the number of the socket that the server is to listen on
_GUNICORN = ["-m", "gunicorn", "--no-control-socket", "--workers", "2", "--threads", "8", "--bind", "fd://{fd}"]
_UVICORN = ["-m", "uvicorn", "--workers", "2", "--fd", "{fd}"]
SERVERS = {
    "django": [*_GUNICORN, "--chdir", "{here}/django", "shop.wsgi"],
    "flask": [*_GUNICORN, "--chdir", "{here}/flask", "shop:app"],
    "fastapi": [*_UVICORN, "--app-dir", "{here}/fastapi", "shop:app"],
}


def listen() -> socket.socket:
    """A socket on our port, or on a free one. The server inherits it, so nobody can take the port in between."""
    try:
        return socket.create_server(("127.0.0.1", PORT), backlog=128)
    except OSError:
        return socket.create_server(("127.0.0.1", 0), backlog=128)


@contextlib.contextmanager
def server(
    shop: str, environ: Mapping[str, str], listener: socket.socket, output: int
) -> Iterator[subprocess.Popen[bytes]]:
    """The shop under its production server; ended with the block."""
    if shop == "django":
        migrate = [sys.executable, str(HERE / "django" / "manage.py"), "migrate", "--verbosity", "0"]
        subprocess.run(migrate, env=dict(environ), check=True)  # noqa: S603 - our own example
    fd = listener.fileno()
    arguments = [argument.format(fd=fd, here=HERE) for argument in SERVERS[shop]]
    process = start_child([sys.executable, *arguments], output, environ=environ, keep_open=[fd])
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(address: str, give_up: Callable[[], bool]) -> bool:
    """Wait until the shop answers; False when it was given up."""
    while not give_up():
        try:
            with urllib.request.urlopen(address, timeout=10):  # noqa: S310 - our own address
                return True
        except (urllib.error.URLError, OSError):
            threading.Event().wait(0.1)
    return False


def run(shop: str, folder: Path) -> None:
    """Start everything, say where the shop is, and run on until told to stop."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())
    named = [name for name in SHOWN if os.environ.get(name)]
    if named:
        raise Elsewhere(f"an example shop brings its own Redis and tracker; first type: unset {' '.join(named)}")
    with only_one(folder) as lock, surroundings(folder, lock) as around, procfile(around.environ) as processes:
        environ = {**around.environ, "SHOP_DATABASE": str(folder.resolve() / "shop.sqlite3")}
        with listen() as listener, server(shop, environ, listener, sys.stdout.fileno()) as web:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            ended = threading.Event()

            def give_up() -> bool:
                return over.is_set() or web.poll() is not None or ended.wait(0)

            stop_waiting = threading.Timer(START_SECONDS, ended.set)
            stop_waiting.start()
            try:
                up = answers(address, give_up)
            finally:
                stop_waiting.cancel()
            if up:
                page = around.environ["INSEND_TRACKER_URL"].removesuffix("watch/event")
                console.print(f"The shop: {address}", highlight=False)
                console.print(f"What the tracker received, as a page: {page}", highlight=False)
                console.print("In another terminal, for insend status and the like:")
                console.print("\n".join(exports(around.environ)), highlight=False, soft_wrap=True)
                console.print("Ctrl-C ends it.")
            while up and not over.wait(0.2):
                if web.poll() is not None or processes.poll() is not None or not around.alive():
                    raise Elsewhere("a process has ended: see its lines above")
            if not up and not over.is_set():
                raise Elsewhere("the shop did not start: see its lines above")


def main() -> None:
    """Run the shop that is named, in var/ below the current folder."""
    if len(sys.argv) != 2 or sys.argv[1] not in SERVERS:  # noqa: PLR2004 - the program and the shop
        console.print(f"usage: python examples/start.py {{{'|'.join(SERVERS)}}}", markup=False)
        sys.exit(2)
    try:
        run(sys.argv[1], Path("var"))
    except RelayError as error:
        console.print(f"[red]{error}[/red]", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
