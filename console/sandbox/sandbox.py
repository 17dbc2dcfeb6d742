"""A tracker on this machine: enforces CONTRACT.md, shows what it received, misbehaves when told to.

As a command it is ``insend sandbox``; in Python::

    with Sandbox() as sandbox:
        sandbox.misbehave(status=503, retry_after=2, times=3)
        ...                                   # events posted to sandbox.url
        assert [event.type for event in sandbox.received] == ["purchase"]

Over HTTP, beside ``POST /watch/event`` itself::

    GET  /            what came, as a page       GET  /requests, /received     the same as JSON (all, answered 200)
    POST /misbehave   a JSON object with Sandbox.misbehave's options           POST /behave, /clear

It is for development: it keeps what it receives in memory only, and shows it to whoever can reach its port.
"""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from insend_relay.console.sandbox.door import Door
from insend_relay.console.sandbox.json_text import read_object
from insend_relay.console.sandbox.misbehaviour import read_misbehaviour
from insend_relay.console.sandbox.page import listing, page
from insend_relay.console.sandbox.server import Answer, Request
from insend_relay.console.sandbox.tracker import Received, Tracker
from insend_relay.outbox.errors import RelayError
from insend_relay.worker import descriptors

__all__ = ["CannotListen", "Received", "Sandbox", "serve"]

TRACKER_PATH = "/watch/event"
_CONNECTIONS = 8_192  # as many as a worker of four processes may open
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}
_HTML = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}


class CannotListen(RelayError):
    """The sandbox cannot have the address or the port that it was given."""


class Sandbox:
    """The tracker, from entering the ``with`` block to leaving it; then no thread and no socket remains.

    Args:
        port: Where to listen; 0 takes a free port.
        host: The address to listen on.
        keep: How many of the newest requests are remembered; the totals go on counting.
        on_event: Called with each event when it has been recorded and before it is answered, in the sandbox's thread:
            while it runs, no other request is served.

    Raises:
        CannotListen: On entering.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        keep: int = 10_000,
        on_event: Callable[[Received], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._tracker = tracker = Tracker(keep=keep, on_event=on_event)
        self._routes: dict[str, tuple[str, Callable[[Request], Answer]]] = {
            TRACKER_PATH: ("POST", tracker.take),
            "/": ("GET", lambda _: Answer(body=page(tracker), headers=_HTML)),
            "/requests": ("GET", lambda _: Answer(body=listing(tracker, self.requests), headers=_JSON)),
            "/received": ("GET", lambda _: Answer(body=listing(tracker, self.received), headers=_JSON)),
            "/misbehave": ("POST", self._post_misbehave),
            "/behave": ("POST", self._post_behave),
            "/clear": ("POST", self._post_clear),
        }

    def __enter__(self) -> Self:
        try:
            self._door = Door(self.host, self.port, self._respond)
        except (OSError, OverflowError) as error:
            raise CannotListen(f"cannot listen on {self.host} port {self.port}: {error}. {_remedy(error)}") from error
        self.port = self._door.port
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._door.close()

    @property
    def url(self) -> str:
        """The tracker's address, for INSEND_TRACKER_URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{TRACKER_PATH}"

    @property
    def received(self) -> list[Received]:
        """What was answered 200, in order of arrival: the newest ``keep``."""
        return self._tracker.received()

    @property
    def requests(self) -> list[Received]:
        """All that came, whatever it was answered, in order of arrival: the newest ``keep``."""
        return self._tracker.requests()

    @property
    def totals(self) -> dict[str, int]:
        """How many came: ``requests`` in all, and by status (``"closed"`` where none was sent)."""
        return self._tracker.totals()

    def misbehave(
        self,
        *,
        status: int | None = None,
        retry_after: int | str | None = None,
        delay: float = 0,
        close: bool = False,
        drip: float = 0,
        refuse_for: float | None = None,
        visitor_uid: str | None = None,
        type: str | None = None,
        times: int | None = None,
    ) -> None:
        """Misbehave from now on; ``misbehaviour.Misbehaviour`` explains the options.

        Told several things, the sandbox does for each event the latest that concerns it. ``refuse_for`` begins before
        this returns and goes alone; ``float("inf")`` refuses until ``behave``.

        Raises:
            ValueError: Options that are wrong or do not go together.
        """
        options = locals()
        del options["self"]
        self._misbehave(options)

    def behave(self) -> None:
        """Do as the contract says again, and listen again.

        Raises:
            CannotListen: Somebody else has taken the port while this refused.
        """
        self._tracker.behave()
        try:
            self._door.open()
        except OSError as error:
            raise CannotListen(f"cannot listen on port {self.port} again: {error}. {_remedy(error)}") from error

    def clear(self) -> None:
        """Forget what was received; what it was told stays."""
        self._tracker.clear()

    def _misbehave(self, options: dict[str, Any]) -> None:
        misbehaviour = read_misbehaviour(options)
        if misbehaviour.refuse_for is not None:
            self._door.shut(misbehaviour.refuse_for)
        else:
            self._tracker.misbehave(misbehaviour)

    def _respond(self, request: Request) -> Answer:
        method, respond = self._routes.get(request.path, ("", None))
        if respond is None:
            return _plain(f"events go to POST {TRACKER_PATH}", 404)
        if request.method != method:
            return _plain(f"{request.path} wants {method}", 405, Allow=method)
        return respond(request)

    def _post_misbehave(self, request: Request) -> Answer:
        try:
            self._misbehave(read_object(request.body.decode()))
        except ValueError as error:
            return _plain(str(error), 400)
        return _plain("OK")

    def _post_behave(self, _: Request) -> Answer:
        self.behave()
        return _plain("OK")

    def _post_clear(self, _: Request) -> Answer:
        self.clear()
        return _plain("OK")


def _remedy(error: OSError | OverflowError) -> str:
    if isinstance(error, socket.gaierror) or (isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL):
        return "Give an address of this machine, such as 127.0.0.1."
    return "Stop what listens there, or choose another port; 0 takes a free one."


def _plain(text: str, status: int = 200, **headers: str) -> Answer:
    return Answer(
        status=status, body=f"{text}\n".encode(), headers={"Content-Type": "text/plain; charset=utf-8", **headers}
    )


def serve(
    *, host: str, port: int, on_ready: Callable[[str], None], on_event: Callable[[Received], None] | None
) -> None:
    """Run a sandbox until SIGINT or SIGTERM arrives. To be called in the main thread, before others are started.

    Args:
        host: The address to listen on.
        port: Where to listen; 0 takes a free port.
        on_ready: Called with the tracker's address once it listens.
        on_event: As for ``Sandbox``.

    Raises:
        CannotListen: The port is taken, or the address is not this machine's; the text says what to do.
    """
    descriptors.enough_for(_CONNECTIONS)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)  # for our threads too: sigwait below takes them
    try:
        with Sandbox(port, host=host, on_event=on_event) as sandbox:
            on_ready(sandbox.url)
            signal.sigwait(_STOP_SIGNALS)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
