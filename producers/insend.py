"""InSend: what a web application calls."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self, Unpack

from insend_relay.outbox.entry import Entry, InvalidEntry, Way
from insend_relay.outbox.errors import OutboxError, SpoolError
from insend_relay.outbox.masked import masked
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.producers.calls import Asked
from insend_relay.producers.link import Link
from insend_relay.producers.producer import Plan, Producer, ProducerSettings, is_unknown, not_accepted
from insend_relay.producers.receipt import Receipt
from insend_relay.producers.slots import slots_of_processes
from insend_relay.producers.spooling import Spooling, SpoolUnknown


@masked("id", "type")
class Prepared(NamedTuple):
    """An event that is checked, and not kept yet.

    Attributes:
        id: The event's id; a duplicate's receipt has the first one's.
        type: Its type, "?" when it is none.
        keep: Keeps it: returns and raises what the call would have, but InvalidEvent.
    """

    id: uuid.UUID
    type: str
    keep: Callable[[], Receipt]


class InSend(Producer[Receipt]):
    """Takes the events of one account and keeps them in Redis, from where a worker delivers them.

    One object serves a whole process: it may be made at import time (it connects at the first event), used by any
    number of threads, tasks or greenlets, and carried into forked children, before and after gevent's
    ``monkey.patch_all()``. A call may come from a signal handler or ``__del__``, in the middle of another one. It takes
    at most ``INSEND_ENQUEUE_TIMEOUT_MS`` and an fsync of the spool whatever is broken, typically one round trip to
    Redis, and raises InvalidEvent or NotAccepted, nothing else.

    Args:
        settings: All settings; the defaults when left out.
        given: Single settings that override these, such as ``app_key``, ``domain`` and ``redis_url``.
    """

    def __init__(self, *, settings: Settings | None = None, **given: Unpack[ProducerSettings]) -> None:
        super().__init__(settings=settings, **given)
        seconds = self.settings.enqueue_timeout_ms / 1000
        self._link = Link(self.settings.redis_url, timeout_seconds=seconds, durability=self.settings.durability)
        self._outbox = Outbox(self._link, namespace=self.settings.namespace)
        self._slots = slots_of_processes()
        self._spooling = Spooling(self.settings)

    def take(self, asked: Asked) -> Receipt:
        """Keep a call's event in Redis, or in the spool."""
        return self._end(self._plan_for(asked), asked)

    def prepare(self, asked: Asked) -> Prepared:
        """Check an event, find its visitor and write it down now, but keep it later: a transaction may undo it.

        Raises:
            InvalidEvent: As a call does.
        """
        plan = self._plan_for(asked)
        request, told = plan.request, self._once_told(plan)

        def keep() -> Receipt:
            known = request is not None and not request.uids(self._app, plan.event.visitor.visitor_uid)[1]
            return self._end(told if known else plan, asked)

        return Prepared(plan.id, plan.type, keep)

    def _plan_for(self, asked: Asked) -> Plan:
        who = asked.asks_who
        return self._plan(asked, None if who is None else who.visitor_uid())

    def _end(self, plan: Plan, asked: Asked) -> Receipt:
        if self.recorder is not None:
            return self.recorder.record(plan, asked.idempotency_key)
        return self._carry_out(plan) if self.settings.enabled else plan.disabled()

    def _carry_out(self, plan: Plan) -> Receipt:
        if plan.entry is not None and self._spooling.may_take() and self._spooling.must_take(plan.entry):
            return self._spool(plan, plan.entry)
        if plan.entry is None:
            if plan.counted:
                with suppress(OutboxError):  # nothing is lost but a count
                    self._outbox.count(plan.counted)
            return plan.not_kept()
        call = self._link.call()
        slots = self._slots.get()
        slot = slots.take()
        try:
            appended = self._outbox.enter(plan.entry, Way(slot), redis=call)
        except OutboxError as error:
            if is_unknown(error):
                return self._spool(plan, plan.entry, error, slot)
            slots.give_back(slot)
            return self._spool(plan, plan.entry, error)
        slots.give_back(slot)
        return plan.kept(appended, confirmed=call.confirmed)

    def _spool(
        self, plan: Plan, entry: Entry | InvalidEntry, refusal: OutboxError | None = None, slot: str = ""
    ) -> Receipt:
        if self._spooling.spool is None:
            raise not_accepted(refusal) from refusal
        try:
            self._spooling.keep(entry, slot)
        except SpoolError as error:
            raise not_accepted(refusal, error, unknown=isinstance(error, SpoolUnknown)) from error
        return plan.spooled(self.settings.durability)

    def connect(self) -> None:
        """Connect now, so that this process's first call need not wait: when a server's process has been forked.

        A Redis that is away raises nothing: calls say so, and go through once it is back.
        """
        if self.settings.enabled and self.recorder is None:
            with suppress(OutboxError):
                self._link.connect()

    def close(self) -> None:
        """End the connections to Redis and the threads; later calls find no Redis."""
        self._link.close()
        self._spooling.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"InSend(domain={self._domain!r}, redis={str(self._link.address)!r})"
