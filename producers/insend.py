"""InSend: what a web application calls."""

from __future__ import annotations

import dataclasses
import logging
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, Unpack

from insend_relay.outbox.errors import InvalidEvent, NotAccepted, OutboxError, OutboxUnreachable, SettingsError
from insend_relay.outbox.keys import APP_KEY, Lane
from insend_relay.outbox.record import new_id
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.producers.events import Events, Id
from insend_relay.producers.link import Link
from insend_relay.producers.receipt import Receipt
from insend_relay.producers.salvage import salvage
from insend_relay.producers.validation import Checked, Event, Validator, is_event_type, usable_uids
from insend_relay.producers.visitor import Visitor

_NOBODY = Visitor()
_DOMAIN = re.compile(r"[^\s/:@?#]+\Z")
_MOST_OF_FAULTS = 2_000  # characters in a dead letter and a log line: thousands of items may each be wrong
_log = logging.getLogger("insend_relay.producers")


class ProducerSettings(TypedDict, total=False):
    """The settings that producers use; ``Settings`` has their meaning."""

    app_key: str
    domain: str
    redis_url: str
    namespace: str
    enabled: bool
    invalid: Literal["raise", "bury"]
    enqueue_timeout_ms: int
    idempotency_seconds: int


class InSend(Events):
    """Takes the events of one account and keeps them in Redis, from where a worker delivers them.

    One object serves a whole process: it may be made at import time (it connects at the first event), used by any
    number of threads, tasks or greenlets, and carried into forked children. A call takes at most
    ``INSEND_ENQUEUE_TIMEOUT_MS`` whatever is broken, typically one round trip to Redis, and raises InvalidEvent or
    NotAccepted, nothing else.

    Args:
        settings: All settings; the defaults when left out.
        given: Single settings that override these, such as ``app_key``, ``domain`` and ``redis_url``.
    """

    def __init__(self, *, settings: Settings | None = None, **given: Unpack[ProducerSettings]) -> None:
        self.settings = dataclasses.replace(settings or Settings(), **given)
        self._app = self.settings.app_key
        self._domain = self.settings.domain.strip().lower()
        self._check_account()
        self._validator = Validator(self._app, self._domain)
        self._link = Link(self.settings.redis_url, timeout_seconds=self.settings.enqueue_timeout_ms / 1000)
        self._outbox = Outbox(self._link, namespace=self.settings.namespace)
        self._visitor: ContextVar[Visitor] = ContextVar("insend_visitor", default=_NOBODY)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the ``INSEND_*`` variables; SettingsError lists every fault."""
        return cls(settings=Settings.from_env(environ))

    def _check_account(self) -> None:
        if not self.settings.enabled:
            return
        faults = []
        if not self._app:
            faults.append("INSEND_APP_KEY (app_key=) is not set: give the key that the account shows")
        elif not APP_KEY.match(self._app):
            faults.append("INSEND_APP_KEY (app_key=): use the key as the account shows it")
        if not self._domain:
            faults.append("INSEND_DOMAIN (domain=) is not set: give the account's domain, such as shop.example.com")
        elif self._domain.startswith("xn--") or ".xn--" in self._domain:
            faults.append("INSEND_DOMAIN (domain=): give an international domain in its own letters, not as xn--")
        elif not _DOMAIN.match(self._domain):
            faults.append("INSEND_DOMAIN (domain=): give the domain alone, such as shop.example.com")
        if faults:
            raise SettingsError(faults)

    def event(
        self,
        type: str,
        properties: Mapping[str, Any] | None = None,
        visitor_info: Mapping[str, Any] | None = None,
        *,
        visitor_uid: Id | None = None,
        guest_uid: str | None = None,
        url: str | None = None,
        path: str | None = None,
        title: str | None = None,
        referrer: str | None = None,
        host: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        strict: bool = True,
    ) -> Receipt:
        """Take one event; when this returns, it is kept.

        Args:
            type: The event type, such as ``purchase``.
            properties: The event's own fields; ``event_types`` lists them.
            visitor_info: What is known about the visitor. None is left out; ``ERASE`` erases a field.
            visitor_uid: The registered visitor, ``[0-9a-z-]``. Naming either uid replaces both of ``with visitor()``.
            guest_uid: The guest. Both uids at once mean: this guest has become this visitor.
            url: The page's full address; likewise path, title and referrer.
            path: See ``url``.
            title: See ``url``.
            referrer: See ``url``.
            host: The site's host with its port; by default the url's, else the account's domain.
            attributes: Free.
            idempotency_key: Your name for this event: a second one of that name within a day is a duplicate.
            strict: False sends unknown event types and properties as they are.

        Raises:
            InvalidEvent: It breaks the tracker's rules (not with ``INSEND_INVALID=bury``).
            NotAccepted: Redis could not take it; the text says why.
        """
        said = Visitor(visitor_uid, guest_uid, url, path, title, referrer, host)
        outer = self._visitor.get()
        visitor = said if outer is _NOBODY else said.within(outer)
        event = Event(type, properties, visitor_info, attributes, visitor, strict)
        event_id = new_id()
        try:
            checked = self._validator.check(event, idempotency_key)
        except InvalidEvent as error:
            if self.settings.invalid == "raise":
                raise
            return self._bury(event_id, event, error)
        if not self.settings.enabled:
            return Receipt(event_id, "disabled")
        if not (checked.visitor_uid or checked.guest_uid):
            self._count_no_visitor()
            return Receipt(event_id, "no_visitor")
        return self._append(event_id, checked, idempotency_key or "")

    def __call__(self, command: str, type: str, *arguments: Any, **about: Any) -> Receipt:
        """The vendor's JavaScript call, for pasting: ``insend("event", "purchase", {...}, {...})``."""
        if command != "event":
            raise InvalidEvent([("command", 'only insend("event", TYPE, {...}, {...}) is known')])
        return self.event(type, *arguments, **about)

    @contextmanager
    def visitor(
        self,
        *,
        visitor_uid: Id | None = None,
        guest_uid: str | None = None,
        url: str | None = None,
        path: str | None = None,
        title: str | None = None,
        referrer: str | None = None,
        host: str | None = None,
    ) -> Iterator[None]:
        """Events inside the ``with`` are about this visitor and page; a call's own arguments go first.

        It holds for this thread, asyncio task or greenlet. One inside another adds to it; see ``Visitor.within``.
        """
        outer = self._visitor.get()
        inner = Visitor(visitor_uid, guest_uid, url, path, title, referrer, host).within(outer)
        self._visitor.set(inner)
        try:
            yield
        finally:
            self._visitor.set(outer)  # not reset(token): a framework may end a request in another context

    def _append(self, event_id: uuid.UUID, checked: Checked, idempotency_key: str) -> Receipt:
        self._link.start_call()
        try:
            appended = self._outbox.append(
                _lane(self._app, checked.visitor_uid, checked.guest_uid),
                event_id,
                checked.payload,
                guest_uid=checked.guest_uid if checked.visitor_uid else "",
                idempotency_key=idempotency_key,
                idempotency_seconds=self.settings.idempotency_seconds,
            )
        except OutboxError as error:
            raise _not_accepted(error) from error
        return Receipt(appended.id, "duplicate" if appended.duplicate else "redis")

    def _bury(self, event_id: uuid.UUID, event: Event, error: InvalidEvent) -> Receipt:
        """Keep an event that breaks the rules as a dead letter, and let the request go on."""
        kind = event.type if is_event_type(event.type) else "?"
        faults = str(error)[:_MOST_OF_FAULTS]
        uids = usable_uids(event.visitor)
        if self.settings.enabled:
            self._link.start_call()
            try:
                self._outbox.bury_invalid(
                    self._app,
                    event_id,
                    lane=_lane(self._app, *uids) if any(uids) else None,
                    type=kind,
                    payload=salvage(event.as_given(self._app, self._domain)),
                    faults=faults,
                )
            except OutboxError as trouble:
                raise _not_accepted(trouble) from trouble
        # The faults name fields and rules, never a value: a log is no place for personal data.
        _log.error("event %s (%s) breaks the tracker's rules and became a dead letter: %s", event_id, kind, faults)
        return Receipt(event_id, "invalid")

    def _count_no_visitor(self) -> None:
        self._link.start_call()
        with suppress(OutboxError):  # nothing is lost but a count
            self._outbox.count("no_visitor")

    def close(self) -> None:
        """End the connections to Redis and the thread that keeps them; later calls raise NotAccepted."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"InSend(domain={self._domain!r}, redis={str(self._link.address)!r})"


def _lane(app: str, visitor_uid: str, guest_uid: str) -> Lane:
    return Lane(app, "v", visitor_uid) if visitor_uid else Lane(app, "g", guest_uid)


def _not_accepted(error: OutboxError) -> NotAccepted:
    unknown = isinstance(error, OutboxUnreachable) and error.unknown
    outcome = (
        "the event may or may not be kept: call again with the same idempotency_key, or drop it"
        if unknown
        else "the event was not kept: call again later, or drop it"
    )
    return NotAccepted(f"{error}; {outcome}", unknown=unknown)
