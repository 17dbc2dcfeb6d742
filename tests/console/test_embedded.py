"""The embedded Redis is ready when it says so, and is its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from insend_relay.console.embedded import EmbeddedRedis, NoServer
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


def test_a_second_one_on_its_port_does_not_take_it_for_its_own(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "first", server="redis") as first:
        second = EmbeddedRedis(tmp_path / "second", server="redis")
        second.port = first.port  # as if both had found it free in the same moment
        with pytest.raises(NoServer, match="did not start"):
            second.start()
        assert not second.alive


def test_a_frozen_server_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insend_relay.console.embedded._STOP_SECONDS", 0.1)
    server = EmbeddedRedis(tmp_path, server="redis").start()
    os.kill(server.pid, signal.SIGSTOP)
    server.stop()
    assert not server.alive
