"""What every InSend does apart from the round trip to Redis: it decides what becomes of an event.

``InSend`` and ``AsyncInSend`` carry the decision out, each in its own way.
"""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal, NamedTuple, Protocol, Self, TypedDict, Unpack

from insend_relay.outbox.durability import Durability
from insend_relay.outbox.entry import Appended, Entry, InvalidEntry
from insend_relay.outbox.errors import (
    InvalidEvent,
    NotAccepted,
    OutboxError,
    OutboxUnreachable,
    SettingsError,
    SpoolError,
    forget_frames,
)
from insend_relay.outbox.idempotency import MISMATCH, identity
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.masked import masked
from insend_relay.outbox.record import new_id
from insend_relay.outbox.settings import Settings
from insend_relay.producers.account import app_key_problem, domain_problem
from insend_relay.producers.call_site import warn_once
from insend_relay.producers.calls import Asked, Calls
from insend_relay.producers.event_visitor import NO_ONE, is_opted_out, visitor_of
from insend_relay.producers.events import Id, R
from insend_relay.producers.left_out import log_left_out
from insend_relay.producers.receipt import Receipt, Where
from insend_relay.producers.request import Request
from insend_relay.producers.salvage import salvage
from insend_relay.producers.uids import guest_uid_for_order, usable_uids
from insend_relay.producers.validation import Event, Faulty, Validator, is_event_type

_MOST_OF_FAULTS = 2_000  # characters in a dead letter and a log line: thousands of items may each be wrong
_log = logging.getLogger("insend_relay.producers")


class ProducerSettings(TypedDict, total=False):
    """The settings that producers use; ``Settings`` has their meaning."""

    app_key: str
    domain: str
    redis_url: str
    namespace: str
    enabled: bool
    invalid: Literal["auto", "raise", "bury"]
    oversize: Literal["refuse", "trim"]
    guest_cookie: str
    opt_out_cookie: str
    enqueue_timeout_ms: int
    idempotency_seconds: int
    durability: Durability
    spool: str
    spool_most_megabytes: int


@masked("id", "where", "counted")
class Plan(NamedTuple):
    """What becomes of an event.

    Attributes:
        id: The event's id.
        where: What the receipt will say.
        event: The event with all that is known about its visitor.
        entry: What goes into the outbox; None when nothing does.
        counted: Under which name the books count it instead, if they do.
        payload: The event as it will be sent, when it keeps the rules.
        request: The web request whose visitor or guest the event is about.
        debug: Whether a mistake that is only found in Redis raises; else it is logged.
    """

    id: uuid.UUID
    where: Where
    event: Event
    entry: Entry | InvalidEntry | None = None
    counted: Literal["no_visitor", "opted_out"] | None = None
    payload: bytes = b""
    request: Request | None = None
    debug: bool = False

    @property
    def type(self) -> str:
        """The event's type; "?" when it is none."""
        return self.event.type if is_event_type(self.event.type) else "?"

    def kept(self, appended: Appended, where: Where | None = None, *, confirmed: bool = True) -> Receipt:
        """The receipt for an entry that the outbox has taken in, or the spool.

        Raises:
            InvalidEvent: In debug: the idempotency key was used before, for an event with other properties.
        """
        if appended.mismatch:
            if self.debug:
                raise InvalidEvent([("idempotency_key", MISMATCH)])
            _log.error("event %s (%s) is dropped as a duplicate of %s: %s", self.id, self.type, appended.id, MISMATCH)
        if isinstance(self.entry, InvalidEntry):
            self.log_faults("became a dead letter")
        elif self.request is not None and self.entry is not None and not appended.duplicate:
            # A duplicate says nothing: the first one may have come from a job that knew of no guest.
            visitor_uid = self.event.visitor.visitor_uid
            if self.entry.lane.kind == "g" or visitor_uid is None:
                self.request.forget(self.entry.lane.app)
            elif self.entry.guest_uid:
                self.request.tell(self.entry.lane.app, visitor_uid)
        return Receipt(appended.id, "duplicate" if appended.duplicate else where or self.where, confirmed)

    def spooled(self, durability: Durability) -> Receipt:
        """The receipt for an entry that the spool has taken: it is on a disk, and on no other machine."""
        where: Where | None = None if self.where == "invalid" else "spool"
        return self.kept(Appended(self.id, duplicate=False), where, confirmed=durability != "replicated")

    def not_kept(self) -> Receipt:
        """The receipt for an event that was not meant to be kept."""
        return Receipt(self.id, self.where)

    def disabled(self) -> Receipt:
        """The receipt where sending is switched off."""
        if self.where == "invalid":
            self.log_faults("would be a dead letter")
            return self.not_kept()
        return Receipt(self.id, "disabled")

    def log_faults(self, became: str) -> None:
        """The faults name fields and rules, never a value: a log is no place for personal data."""
        if isinstance(self.entry, InvalidEntry):
            words = "event %s (%s) breaks the tracker's rules and %s: %s"
            _log.error(words, self.id, self.entry.type, became, self.entry.faults)


class Recorder(Protocol):
    """What takes the events instead of Redis while an application's tests run; see ``testing``."""

    def record(self, plan: Plan, idempotency_key: str | None) -> Receipt:
        """Take one event."""


class Producer(Calls[R]):
    """The events of one account, from the call to the decision.

    Args:
        settings: All settings; the defaults when left out.
        given: Single settings that override these, such as ``app_key``, ``domain`` and ``redis_url``.
    """

    recorder: ClassVar[Recorder | None] = None

    def __init__(self, *, settings: Settings | None = None, **given: Unpack[ProducerSettings]) -> None:
        super().__init__()
        self.settings = dataclasses.replace(settings or Settings(), **given)
        self._app = self.settings.app_key
        self._domain = self.settings.domain.strip().lower()
        self._check_account()
        self._validator = Validator(self._app, self._domain, trim=self.settings.oversize == "trim")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the ``INSEND_*`` variables; SettingsError lists every fault."""
        return cls(settings=Settings.from_env(environ))

    def __reduce__(self) -> tuple[partial[Self], tuple[()]]:
        """A copy, and an unpickled one, has the same settings and makes its own connections."""
        return partial(type(self), settings=self.settings), ()

    def guest_uid_for(self, order_id: Id) -> str:
        """A stable guest uid for an order that is made without a visitor; see ``Calls.guest_uid_for``."""
        return guest_uid_for_order(self._app, order_id)

    def _check_account(self) -> None:
        if not self.settings.enabled or self.recorder is not None:
            return
        faults = []
        if not self._app:
            faults.append("INSEND_APP_KEY (app_key=) is not set: give the key that the account shows")
        elif problem := app_key_problem(self._app):
            faults.append(f"INSEND_APP_KEY (app_key=): {problem}")
        if not self._domain:
            faults.append("INSEND_DOMAIN (domain=) is not set: give the account's domain, such as shop.example.com")
        elif problem := domain_problem(self._domain):
            faults.append(f"INSEND_DOMAIN (domain=): {problem}")
        if faults:
            raise SettingsError(faults)

    def _plan(self, asked: Asked, logged_in: Id | None) -> Plan:
        """What is to become of an event.

        Args:
            asked: The call.
            logged_in: The visitor of ``asked.asks_who``; None for a guest.

        Raises:
            InvalidEvent: It breaks the rules, and its caller is to know.
        """
        event_id, request = new_id(), asked.request
        event = asked.event
        if request is not None:
            event = event._replace(visitor=visitor_of(asked, request, self._app, logged_in))
        opted_out = is_opted_out(asked, logged_in)
        del logged_in  # an error reporter records the local variables of this frame
        examined = self._validator.examine(event, asked.idempotency_key)
        event, checked = examined.event, examined.outcome
        if isinstance(checked, Faulty):
            if self._raises(asked):
                raise InvalidEvent(checked.faults)
            return self._burial(event_id, event, InvalidEvent(checked.faults), opted_out=opted_out)
        if opted_out:
            return Plan(event_id, "opted_out", event, counted="opted_out", payload=checked.payload)
        if not (checked.visitor_uid or checked.guest_uid):
            if asked.scope.names_visitor:
                self._tell_of_no_one(asked)
            return Plan(event_id, "no_visitor", event, counted="no_visitor", payload=checked.payload)
        log_left_out(event_id, examined)
        about = None if asked.scope.names_visitor else request
        once = identity(asked.idempotency_key, checked.payload)
        entry = Entry(
            _lane(self._app, checked.visitor_uid, checked.guest_uid),
            event_id,
            checked.payload,
            checked.guest_uid if checked.visitor_uid else "",
            once.key,
            self.settings.idempotency_seconds,
            once.digest,
            checked.facts,
        )
        debug = self._debug(asked)
        return Plan(event_id, "redis", event, entry, payload=checked.payload, request=about, debug=debug)

    def _once_told(self, plan: Plan) -> Plan:
        """The plan for when another event will have told the tracker who the guest is: that is said once."""
        if plan.request is None or not isinstance(plan.entry, Entry) or not plan.entry.guest_uid:
            return plan
        event = plan.event._replace(visitor=plan.event.visitor._replace(guest_uid=""))
        payload = self._validator.check(event).payload
        entry = plan.entry._replace(payload=payload, guest_uid="")
        return plan._replace(event=event, entry=entry, payload=payload)

    def _raises(self, asked: Asked) -> bool:
        """Whether the caller of a bad event gets an exception."""
        if self.recorder is not None:
            return True
        if self.settings.invalid == "auto":
            return asked.in_debug is not False
        return self.settings.invalid == "raise"

    def _debug(self, asked: Asked) -> bool:
        """Whether the application runs in debug or under test, so that its mistakes raise."""
        return self.recorder is not None or (self.settings.invalid != "bury" and asked.in_debug is True)

    def _tell_of_no_one(self, asked: Asked) -> None:
        """Tell the application that an event names its visitor by empty uids.

        An exception in debug, else a warning. Outside of a request it is a warning too: there is no request that the
        caller may have meant, and the data of a shop may have orders without any uid.
        """
        if self.settings.invalid == "raise" or (self.settings.invalid == "auto" and asked.in_debug):
            raise InvalidEvent([("visitor_uid", NO_ONE)])
        warn_once(asked.site, f"not kept (no_visitor): {NO_ONE}")

    def _burial(self, event_id: uuid.UUID, event: Event, error: InvalidEvent, *, opted_out: bool) -> Plan:
        """Keep an event that breaks the rules as a dead letter, and let the request go on."""
        if opted_out:
            return Plan(event_id, "opted_out", event, counted="opted_out")
        visitor_uid, guest_uid = usable_uids(event.visitor)
        entry = InvalidEntry(
            self._app,
            event_id,
            _lane(self._app, visitor_uid, guest_uid) if visitor_uid or guest_uid else None,
            event.type if is_event_type(event.type) else "?",
            salvage(event.as_given(self._app, self._domain)),
            str(error)[:_MOST_OF_FAULTS],
        )
        return Plan(event_id, "invalid", event, entry)


def _lane(app: str, visitor_uid: str, guest_uid: str) -> Lane:
    return Lane(app, "v", visitor_uid) if visitor_uid else Lane(app, "g", guest_uid)


def is_unknown(error: OutboxError) -> bool:
    """Whether the outbox may have taken an event although it did not say so."""
    return isinstance(error, OutboxUnreachable) and error.unknown


def not_accepted(error: OutboxError | None, spool: SpoolError | None = None, *, unknown: bool = False) -> NotAccepted:
    """What a caller is told when neither the outbox nor the spool took an event.

    Args:
        error: What the outbox said; None when it was not asked.
        spool: What the spool said; None when there is none.
        unknown: Whether the spool may have taken it.
    """
    unknown = unknown or (error is not None and is_unknown(error))
    outcome = (
        "the event may or may not be kept: call again with the same idempotency_key, or drop it"
        if unknown
        else "the event was not kept: call again later, or drop it"
    )
    said = "; ".join(str(each) for each in (error, spool) if each is not None)
    for each in (error, spool):
        forget_frames(each)
    return NotAccepted(f"{said}; {outcome}", unknown=unknown)
