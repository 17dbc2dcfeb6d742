"""AsyncInSend: what a web application under asyncio calls."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, Unpack

from insend_relay.outbox.async_store import AsyncOutbox
from insend_relay.outbox.entry import Entry, InvalidEntry, Way
from insend_relay.outbox.errors import OutboxError, SpoolError
from insend_relay.outbox.settings import Settings
from insend_relay.producers.async_link import AsyncLink
from insend_relay.producers.awaited import awaited
from insend_relay.producers.calls import Asked
from insend_relay.producers.producer import Plan, Producer, ProducerSettings, is_unknown, not_accepted
from insend_relay.producers.receipt import Receipt
from insend_relay.producers.slots import slots_of_processes
from insend_relay.producers.spooling import Spooling, SpoolUnknown


@awaited
class AsyncInSend(Producer[Coroutine[Any, Any, Receipt]]):
    """``InSend`` for asyncio: the same calls, awaited: ``await insend.purchase(...)``.

    One object serves a whole process and any number of event loops and tasks; each loop has a connection of its own,
    which ``aclose`` ends. A call never blocks the loop, takes at most ``INSEND_ENQUEUE_TIMEOUT_MS`` and an fsync of the
    spool whatever is broken, and raises InvalidEvent or NotAccepted, nothing else. A call that is cancelled may or may
    not have kept its event.

    Args:
        settings: All settings; the defaults when left out.
        given: Single settings that override these, such as ``app_key``, ``domain`` and ``redis_url``.
    """

    def __init__(self, *, settings: Settings | None = None, **given: Unpack[ProducerSettings]) -> None:
        super().__init__(settings=settings, **given)
        seconds = self.settings.enqueue_timeout_ms / 1000
        self._link = AsyncLink(
            self.settings.redis_url,
            timeout_seconds=seconds,
            scripts=("append",),
            durability=self.settings.durability,
        )
        self._outbox = AsyncOutbox(self._link, namespace=self.settings.namespace)
        self._slots = slots_of_processes()
        self._spooling = Spooling(self.settings)

    async def take(self, asked: Asked) -> Receipt:
        """Keep a call's event in Redis, or in the spool."""
        who = asked.asks_who
        plan = self._plan(asked, None if who is None else await who.visitor_uid_async())
        if self.recorder is not None:
            return self.recorder.record(plan, asked.idempotency_key)
        return await self._carry_out(plan) if self.settings.enabled else plan.disabled()

    async def _carry_out(self, plan: Plan) -> Receipt:
        if (
            plan.entry is not None
            and self._spooling.may_take()
            and await asyncio.to_thread(self._spooling.must_take, plan.entry)
        ):
            return await self._spool(plan, plan.entry)
        if plan.entry is None:
            if plan.counted:
                with suppress(OutboxError):  # nothing is lost but a count
                    await self._outbox.count(plan.counted)
            return plan.not_kept()
        call = self._link.call()
        slots = self._slots.get()
        slot = slots.take()
        try:
            appended = await self._outbox.enter(plan.entry, Way(slot), redis=call)
        except OutboxError as error:
            if is_unknown(error):
                return await self._spool(plan, plan.entry, error, slot)
            slots.give_back(slot)
            return await self._spool(plan, plan.entry, error)
        slots.give_back(slot)
        return plan.kept(appended, confirmed=call.confirmed)

    async def _spool(
        self, plan: Plan, entry: Entry | InvalidEntry, refusal: OutboxError | None = None, slot: str = ""
    ) -> Receipt:
        if self._spooling.spool is None:
            raise not_accepted(refusal) from refusal
        try:
            await self._spooling.keep_async(entry, slot)
        except SpoolError as error:
            raise not_accepted(refusal, error, unknown=isinstance(error, SpoolUnknown)) from error
        return plan.spooled(self.settings.durability)

    async def connect(self) -> None:
        """Connect now, so that this event loop's first call need not wait: at the application's start.

        A Redis that is away raises nothing: calls say so, and go through once it is back.
        """
        if self.settings.enabled and self.recorder is None:
            with suppress(OutboxError):
                await self._link.connect()

    async def aclose(self) -> None:
        """End this event loop's connections to Redis, and the threads of the spool; a later call begins anew."""
        await self._link.close()
        await asyncio.to_thread(self._spooling.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncInSend(domain={self._domain!r}, redis={str(self._link.address)!r})"
