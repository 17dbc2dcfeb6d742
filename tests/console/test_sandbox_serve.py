"""``serve`` in a process of its own, as ``insend sandbox`` runs it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from waiting import PATIENCE_SECONDS

from insend_relay.console.sandbox.sandbox import CannotListen, Sandbox, serve

PROGRAM = """
from insend_relay.console.sandbox.sandbox import serve
serve(
    host="127.0.0.1",
    port=0,
    on_ready=lambda url: print(url, flush=True),
    on_event=lambda event: print(event.type, event.status, flush=True),
)
print("ended", flush=True)
"""


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def a_process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_listens_and_runs_until_a_signal(stop: signal.Signals) -> None:
    with a_process() as process:
        assert process.stdout is not None
        port = urlsplit(process.stdout.readline()).port
        assert port
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as wire:
            wire.sendall(b"POST /watch/event?app_key=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert wire.recv(100).startswith(b"HTTP/1.1 400 ")
            process.send_signal(stop)
            said, complaints = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, said, complaints) == (0, " 400\nended\n", "")
    assert not is_listening(port)


def test_a_port_in_use_is_a_relay_error_and_leaves_the_signals_as_they_were() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    ready: list[str] = []
    with Sandbox() as sandbox, pytest.raises(CannotListen, match="choose another port"):
        serve(host="127.0.0.1", port=sandbox.port, on_ready=ready.append, on_event=None)
    assert ready == []
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
