"""A name server that does not answer: getaddrinfo takes half a minute, and nothing of ours waits for it so long."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from two_addresses import HOST
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.outbox.lookup import Lookups
from insend_relay.outbox.store import Outbox
from insend_relay.producers import AsyncInSend, InSend, NotAccepted

URL = f"redis://{HOST}:6379/0"


class NameServer:
    """Stands in for the system's resolver of ``HOST``.

    Attributes:
        answers: Set when it answers.
        asked: How often it was asked.
    """

    def __init__(self, port: int) -> None:
        self.answers = threading.Event()
        self.asked = 0
        self._port = port
        self._really = socket.getaddrinfo

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **more: Any) -> list[Any]:
        """socket.getaddrinfo."""
        if host != HOST:
            return self._really(host, port, *args, **more)
        self.asked += 1
        self.answers.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", self._port))]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """Where the name leads in the end."""
    with EmbeddedRedis(tmp_path_factory.mktemp("named"), server="redis", config={"appendonly": "no"}) as server:
        yield server


@pytest.fixture
def names(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """A name server that does not answer until the test says so."""
    names = NameServer(server.port)
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    yield names
    names.answers.set()
    wait_until(lambda: not [each for each in threading.enumerate() if each.name == "insend-resolve"])


def ends(work: Callable[[], None]) -> None:
    """Run it in a thread, and see that it ends while the name server does not answer."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS / 3)
    assert not thread.is_alive()


def test_a_producers_call_ends_and_its_event_is_in_the_spool(names: NameServer, tmp_path: Path) -> None:
    kept: list[str] = []

    def work() -> None:
        with InSend(app_key="shop", domain="example.com", redis_url=URL, spool=str(tmp_path / "spool.db")) as insend:
            kept.extend(insend.purchase(order_id="1", revenue=1, visitor_uid="42").where for _ in range(3))

    ends(work)
    assert kept == ["spool"] * 3
    assert names.asked <= 2, "the lookup of the calls, and that of the flush"


def test_a_program_in_asyncio_ends_and_its_event_is_in_the_spool(names: NameServer, tmp_path: Path) -> None:
    kept: list[str] = []

    async def main() -> None:
        async with AsyncInSend(
            app_key="shop", domain="example.com", redis_url=URL, spool=str(tmp_path / "spool.db")
        ) as insend:
            kept.extend([(await insend.purchase(order_id="1", revenue=1, visitor_uid="42")).where for _ in range(3)])

    ends(lambda: asyncio.run(main()))
    assert kept == ["spool"] * 3
    assert names.asked <= 2, "the lookup of the calls, and that of the flush"


def test_without_a_spool_the_call_says_that_the_event_was_not_accepted(names: NameServer) -> None:
    refused: list[NotAccepted] = []

    async def main() -> None:
        async with AsyncInSend(app_key="shop", domain="example.com", redis_url=URL) as insend:
            try:
                await insend.purchase(order_id="1", revenue=1, visitor_uid="42")
            except NotAccepted as error:
                refused.append(error)

    ends(lambda: asyncio.run(main()))
    assert len(refused) == 1
    assert names.asked == 1


def test_a_worker_or_a_command_is_told_in_time_and_its_next_try_waits_for_the_same_lookup(names: NameServer) -> None:
    told: list[str] = []
    with connect(URL, timeout_seconds=0.1) as client:

        def work() -> None:
            for _ in range(3):
                with suppress(OutboxUnreachable):
                    Outbox(client).apps()
                    return
                told.append("away")

        ends(work)
        assert told == ["away"] * 3
        assert names.asked == 1
        names.answers.set()
        wait_until(lambda: _answers(client))


def _answers(client: Any) -> bool:
    with suppress(OutboxUnreachable):
        Outbox(client).apps()
        return True
    return False


def test_the_name_stands_in_the_message(names: NameServer) -> None:
    with (
        connect(URL, timeout_seconds=0.1) as client,
        pytest.raises(OutboxUnreachable, match=f"{HOST} was not resolved"),
    ):
        Outbox(client).apps()
    assert names.asked == 1


def test_a_forked_child_does_not_wait_for_its_parents_lookup(
    names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups = Lookups(HOST, 6379)
    with pytest.raises(Exception, match="not resolved"):
        lookups.resolve(0.01)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(Exception, match="not resolved"):
        lookups.resolve(0.01)
    assert names.asked == 2


def test_a_name_that_does_not_exist_is_an_error_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with connect(URL) as client, pytest.raises(OutboxUnreachable, match="not known"):
        Outbox(client).apps()
