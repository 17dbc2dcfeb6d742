"""One question serves all appends of a round of the event loop, and no trouble with it becomes trouble of an append."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest
from async_words import eventually
from waiting import PATIENCE_SECONDS

from insend_relay.outbox.durability import Asking
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.producers.async_confirm import Confirming

LONG_SECONDS = PATIENCE_SECONDS


@pytest.fixture(autouse=True)
def a_slow_machine_is_not_a_busy_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that stands still for a moment asks all the same."""
    monkeypatch.setattr("insend_relay.producers.async_confirm.BUSY_SECONDS", LONG_SECONDS)


class Connection:
    """Runs commands as a wire would; a question is answered when ``answer`` is set."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def run(self, command: tuple[Any, ...], deadline: float) -> Any:
        self.sent.append(command[0])
        return await self.answer if command[0] == "WAIT" else f"{command[0]} done at {deadline:.0f}"[:8]


def confirming(connection: Connection) -> tuple[Confirming, Asking]:
    asking = Asking.about("replicated")
    assert asking
    return Confirming(asking, connection.run), asking


async def appended(confirming: Confirming, *, seconds: float = LONG_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while await confirming.turn(deadline):
        pass
    _, confirmed = await confirming.run(("EVALSHA",), deadline)
    return confirmed


def test_those_of_a_round_share_a_question_and_those_that_come_later_wait_for_the_next() -> None:
    async def main() -> None:
        connection = Connection()
        subject, _ = confirming(connection)
        first = [asyncio.create_task(appended(subject)) for _ in range(3)]
        await eventually(lambda: "WAIT" in connection.sent)
        later = [asyncio.create_task(appended(subject)) for _ in range(2)]
        await asyncio.sleep(0)
        assert connection.sent == ["EVALSHA"] * 3 + ["WAIT"]
        connection.answer.set_result(1)
        assert await asyncio.gather(*first, *later) == [True] * 5
        assert connection.sent == ["EVALSHA"] * 3 + ["WAIT"] + ["EVALSHA"] * 2 + ["WAIT"]

    asyncio.run(main())


@pytest.mark.parametrize("trouble", [OutboxUnreachable("gone"), ValueError("whatever a library may raise")])
def test_a_question_that_fails_is_a_no(trouble: Exception) -> None:
    async def main() -> None:
        connection = Connection()
        subject, asking = confirming(connection)
        connection.answer.set_exception(trouble)
        assert not await appended(subject)
        assert not asking.may_ask()

    asyncio.run(main())


def test_who_waits_too_long_for_the_turn_has_sent_nothing() -> None:
    async def main() -> None:
        connection = Connection()
        subject, _ = confirming(connection)
        first = asyncio.create_task(appended(subject))
        await eventually(lambda: "WAIT" in connection.sent)
        with pytest.raises(OutboxUnreachable, match="busy confirming") as raised:
            await appended(subject, seconds=0.001)
        assert not raised.value.unknown
        assert connection.sent == ["EVALSHA", "WAIT"]
        connection.answer.set_result(1)
        assert await first

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [-1.0, LONG_SECONDS])
def test_a_busy_loop_is_not_held_against_the_replica(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insend_relay.producers.async_confirm.BUSY_SECONDS", -1.0)

    async def main() -> None:
        connection = Connection()
        subject, asking = confirming(connection)
        assert not await appended(subject, seconds=seconds)
        assert connection.sent == ["EVALSHA"]
        assert asking.may_ask()

    asyncio.run(main())


def test_a_question_that_somebody_cancels_leaves_the_next_one_alone() -> None:
    async def main() -> None:
        connection = Connection()
        connection.answer.set_result(1)
        subject, _ = confirming(connection)
        call = asyncio.create_task(appended(subject))
        await asyncio.sleep(0)
        assert subject._gathering, "it has not begun yet"
        subject._gathering.cancel()
        assert not await call
        assert await appended(subject)

    asyncio.run(main())


def test_a_loop_may_be_closed_while_a_question_is_open(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        connection = Connection()
        subject, _ = confirming(connection)
        call = asyncio.create_task(appended(subject))
        await eventually(lambda: "WAIT" in connection.sent)
        call._log_destroy_pending = False  # type: ignore[attr-defined]  # the test's own

    loop.run_until_complete(begin())
    loop.close()
    gc.collect()
    assert caplog.messages == []
