"""A shop for servers that fork: it connects, or sends an event, when it is imported, so before the fork.

``SHOP_AT_IMPORT`` says which: ``connect`` or ``event``. ``/send/NUMBER`` sends ten events of one visitor, and answers
what became of them; ``/nothing`` sends none.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from waiting import PATIENCE_SECONDS

from insend_relay.producers import AsyncInSend, InSend

EVENTS = 10  # of a request
GUNICORN = ["-m", "gunicorn", "--workers", "2", "--no-control-socket", "--bind", "fd://{fd}"]
UWSGI = [
    "{bin}/pyuwsgi",
    "--http-socket",
    "fd://{fd}",
    "--module",
    "prefork_shop:wsgi()",
    "--die-on-term",
    "--need-app",
]
SERVERS = {
    "gthread": [*GUNICORN, "--threads", "4", "prefork_shop:wsgi()"],
    "gthread --preload": [*GUNICORN, "--threads", "4", "--preload", "prefork_shop:wsgi()"],
    "gevent": [*GUNICORN, "--worker-class", "gevent", "prefork_shop:wsgi()"],
    "gevent --preload": [*GUNICORN, "--worker-class", "gevent", "--preload", "prefork_shop:wsgi()"],
    "asgi --preload": [*GUNICORN, "--worker-class", "asgi", "--preload", "prefork_shop:asgi()"],
    "uwsgi": [*UWSGI, "--master", "--processes", "2", "--enable-threads"],
    "uwsgi --threads": [*UWSGI, "--master", "--processes", "2", "--threads", "4"],
    "uwsgi without a master": [*UWSGI, "--processes", "2", "--enable-threads"],
    "uwsgi --py-call-osafterfork": [*UWSGI, "--master", "--processes", "2", "--py-call-osafterfork"],
    "uwsgi --lazy-apps": [*UWSGI, "--master", "--processes", "2", "--enable-threads", "--lazy-apps"],
    "uvicorn": ["-m", "uvicorn", "--workers", "2", "--fd", "{fd}", "--factory", "prefork_shop:asgi"],
}


def wsgi() -> Any:
    """What gunicorn and uWSGI serve."""
    insend = InSend.from_env()
    if os.environ["SHOP_AT_IMPORT"] == "event":
        insend.link(visitor_uid="import")
    else:
        insend.connect()

    def application(environ: Mapping[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        page, _, number = environ["PATH_INFO"].removeprefix("/").partition("/")
        calls = range(EVENTS if page == "send" else 0)
        sent = [insend.link(key_page_id=f"{number}-{each}", visitor_uid=int(number) % 10).where for each in calls]
        return [" ".join([f"{os.getpid()}", *sent]).encode()]

    return application


def asgi() -> Any:
    """What uvicorn serves."""
    insend = AsyncInSend.from_env()

    async def at_import() -> None:
        if os.environ["SHOP_AT_IMPORT"] == "event":
            await insend.link(visitor_uid="import")
        else:
            await insend.connect()

    # The loop is left open: its connection crosses the fork.
    _loops.append(asyncio.new_event_loop())
    _in_a_thread(lambda: _loops[0].run_until_complete(at_import()))

    async def application(
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        page, _, number = scope["path"].removeprefix("/").partition("/")
        calls = range(EVENTS if page == "send" else 0)
        sent = [
            (await insend.link(key_page_id=f"{number}-{each}", visitor_uid=int(number) % 10)).where for each in calls
        ]
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": " ".join([f"{os.getpid()}", *sent]).encode()})

    return application


_loops: list[asyncio.AbstractEventLoop] = []


def _in_a_thread(run: Callable[[], None]) -> None:
    import threading  # noqa: PLC0415 - gevent's worker has patched it by now

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@contextmanager
def served(server: str, at_import: str, log: Path, environ: Mapping[str, str], *options: str) -> Iterator[int]:
    """The shop under one of ``SERVERS``, with further options of its command line; yields its port on loopback."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener, log.open("wb") as output:
        fd, port = listener.fileno(), listener.getsockname()[1]
        words = [word.format(fd=fd, bin=Path(sys.executable).parent) for word in [*SERVERS[server], *options]]
        process = subprocess.Popen(
            words if words[0].startswith("/") else [sys.executable, *words],
            env={**os.environ, **environ, "SHOP_AT_IMPORT": at_import, "PYTHONPATH": _path()},
            stdout=output,
            stderr=output,
            pass_fds=[fd],
            start_new_session=True,
        )
    try:
        yield port  # a visitor waits in the listener's queue until the server is there
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            with suppress(ProcessLookupError):  # without a master, uWSGI's other workers outlive the first
                os.killpg(process.pid, signal.SIGKILL)


def _path() -> str:
    return os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
