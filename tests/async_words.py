"""Short words for tests of asyncio: waiting for something, a call that must fail, one that goes through at last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from waiting import PATIENCE_SECONDS

from insend_relay.producers import AsyncInSend, NotAccepted, Receipt

T = TypeVar("T")
GIVE_UP_SECONDS = PATIENCE_SECONDS


async def eventually(condition: Callable[[], T]) -> T:
    """The first truthy answer of ``condition``, while the loop runs on."""
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while not (answer := condition()):
        assert time.monotonic() < give_up, f"not within {GIVE_UP_SECONDS:g} s; the last answer was {answer!r}"
        await asyncio.sleep(0.002)
    return answer


async def refused_call(insend: AsyncInSend, **about: Any) -> NotAccepted:
    """What a call says that must fail, and soon."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        with pytest.raises(NotAccepted) as raised:
            await insend.link(visitor_uid="42", **about)
    return raised.value


async def accepted_again(insend: AsyncInSend, **about: Any) -> Receipt:
    """The receipt of the first call that goes through."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while True:
            with suppress(NotAccepted):
                return await insend.link(visitor_uid="42", **about)
            await asyncio.sleep(0.002)
