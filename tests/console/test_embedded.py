"""The embedded Redis is ready when it says so, and is its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from insend_relay.console.sandbox.embedded import EmbeddedRedis, NoServer
from insend_relay.outbox.connection import connect

SLOWLY = {"key-load-delay": "50", "appendfsync": "no"}  # microseconds a command; it answers after each thousandth


def test_it_has_loaded_its_data_when_it_has_started(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path, server="redis", config=SLOWLY) as server, connect(server.url) as client:
        with client.pipeline(transaction=False) as many:
            for number in range(12_000):
                many.set(f"key-{number}", 1)
            many.execute()
        server.kill()
        server.start()
        assert client.dbsize() == 12_000


def test_of_two_that_want_the_same_port_the_later_takes_another(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "first", server="redis") as first:
        second = EmbeddedRedis(tmp_path / "second", server="redis")
        second.port = first.port  # as if both had found it free in the same moment
        with second, connect(first.url) as client:
            assert second.port != first.port
            assert client.info("server")["process_id"] == first.pid


def test_one_whose_port_was_taken_while_it_was_down_says_so(tmp_path: Path) -> None:
    first = EmbeddedRedis(tmp_path / "first", server="redis").start()
    first.stop()
    other = EmbeddedRedis(tmp_path / "other", server="redis", port=first.port)
    with other, pytest.raises(NoServer, match="did not start"):
        first.start()
    assert not first.alive


def test_a_frozen_server_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insend_relay.console.sandbox.embedded._STOP_SECONDS", 0.1)
    server = EmbeddedRedis(tmp_path, server="redis").start()
    os.kill(server.pid, signal.SIGSTOP)
    server.stop()
    assert not server.alive
