"""An event's data object: checked by CONTRACT.md and written as JSON in one pass.

The writers know the rules (``event_types``, ``visitor_info``), so an event that breaks none is walked once; every fault
is collected on the way, and InvalidEvent lists them by path. Nothing that the caller gave is changed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from insend_relay.outbox.errors import InvalidEvent
from insend_relay.outbox.facts import Facts, facts_of
from insend_relay.outbox.masked import masked
from insend_relay.producers.event_types import ANY, LENIENT, NAME, STRICT
from insend_relay.producers.json_writer import (
    MAX_BYTES,
    Fault,
    GivenUp,
    TooLarge,
    anything,
    attempt,
    not_a,
    note,
    text,
)
from insend_relay.producers.oversize import DROPPABLE, MAX_ITEMS, Dropped, advice, has_too_many_items, without
from insend_relay.producers.page import host_text, page_url
from insend_relay.producers.plain_values import plain
from insend_relay.producers.shape import Shape, nearest
from insend_relay.producers.uids import guest_uid_text, visitor_uid_text
from insend_relay.producers.visitor import Visitor
from insend_relay.producers.visitor_info import VISITOR_INFO, without_blanks

_ATTRIBUTES = Shape(further=anything, level=2)
_TYPES = tuple(STRICT)


@masked()
class Event(NamedTuple):
    """What a caller gave: anything at all, not yet checked; ``faults`` are those of the call itself."""

    type: Any
    properties: Any
    visitor_info: Any
    attributes: Any
    visitor: Visitor
    strict: bool = True
    faults: tuple[Fault, ...] = ()

    def as_given(self, app_key: str, domain: str) -> dict[str, object]:
        """All that the caller gave, by the names of the data object."""
        given = {"app_key": app_key, "domain": domain, "type": self.type, **self.visitor._asdict()}
        given |= {"visitor_info": self.visitor_info, "properties": self.properties, "attributes": self.attributes}
        return {name: value for name, value in given.items() if value is not None}


@masked()
class Checked(NamedTuple):
    """An event that keeps the rules.

    Attributes:
        visitor_uid: "" when the event has none; likewise the guest's.
        guest_uid: See ``visitor_uid``.
        payload: The data object, compact JSON in UTF-8.
        facts: What the header of its record says of it.
    """

    visitor_uid: str
    guest_uid: str
    payload: bytes
    facts: Facts


class Faulty(NamedTuple):
    """What is wrong with an event that breaks the rules.

    Attributes:
        faults: Paths and problems, see ``InvalidEvent``.
        too_large: Whether its size alone is at fault.
        size: Of an event that is too large, bytes; None when it is too large to be measured.
    """

    faults: tuple[Fault, ...]
    too_large: bool = False
    size: int | None = None


@masked("dropped")
class Examined(NamedTuple):
    """An event and what became of its check.

    Attributes:
        event: The event as it was checked. Where a value was of another type, in plain values: an iterator is read
            only once.
        outcome: The event as it will be sent, or what is wrong with it.
        blank: The fields of ``visitor_info`` that were left out because they were blank.
        dropped: The fields that were left out because the event was too large (``INSEND_OVERSIZE=trim``).
    """

    event: Event
    outcome: Checked | Faulty
    blank: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()


class Validator:
    """Checks and writes the events of one account.

    Args:
        app_key: The application's key.
        domain: The account's domain, lower case.
        trim: Whether an event that is too large is sent without optional fields; else it breaks the rules.
    """

    def __init__(self, app_key: str, domain: str, *, trim: bool = False) -> None:
        self.domain = domain
        self._trim = trim
        self._head = f'{{"app_key":{text(app_key)}'
        self._domain = f',"domain":{text(domain)}'
        self._default_host = f',"host":{text(domain)}'

    def check(self, event: Event, idempotency_key: object = None) -> Checked:
        """The event as it will be sent; InvalidEvent with every fault."""
        outcome = self.examine(event, idempotency_key).outcome
        if isinstance(outcome, Faulty):
            raise InvalidEvent(outcome.faults)
        return outcome

    def examine(self, event: Event, idempotency_key: object = None) -> Examined:
        """Check an event; never raises.

        An event that keeps the rules as it is given, as nearly all do, is walked once. Any other is made plain first:
        only then it is known what is wrong.
        """
        try:
            outcome = self._written(event, idempotency_key)
        except Exception:  # noqa: BLE001 - an object of the application raised; made plain, it is a fault with a path
            outcome = None
        if isinstance(outcome, Checked):
            return Examined(event, outcome)
        event, blank = _made_plain(event)
        if outcome is None or not outcome.too_large:
            outcome = self._written(event, idempotency_key)
        if isinstance(outcome, Faulty) and outcome.too_large:
            return self._shortened(event, outcome, blank)
        return Examined(event, outcome, blank)

    def _shortened(self, event: Event, too_large: Faulty, blank: tuple[str, ...]) -> Examined:
        """The event without the optional fields that make it too large, or the fault that names them."""
        ((path, problem),) = too_large.faults
        if has_too_many_items(event.type, event.properties):
            problem += f"; at most {MAX_ITEMS:,} of the shortest items fit: send fewer items"
            return Examined(event, Faulty(((path, problem),)), blank)
        shorter = event
        dropped: list[Dropped] = []
        found: Checked | Faulty = too_large
        for field in DROPPABLE:
            properties, count = without(event.type, shorter.properties, field)
            if not count:
                continue
            shorter = shorter._replace(properties=properties)
            dropped.append(Dropped(field, count))
            found = self._written(shorter, None)
            if isinstance(found, Checked) or not found.too_large:
                break
        if isinstance(found, Checked) and self._trim:
            return Examined(shorter, found, blank, tuple(dropped))
        if isinstance(found, Faulty) and not found.too_large:  # its other faults came after the size was exceeded
            return Examined(event, Faulty((*too_large.faults, *found.faults)), blank)
        fits = isinstance(found, Checked)
        size = len(found.payload) if isinstance(found, Checked) else found.size
        return Examined(event, Faulty(((path, problem + advice(dropped, size, fits=fits)),)), blank)

    def _written(self, event: Event, idempotency_key: object) -> Checked | Faulty:
        """The event as it will be sent, or every fault."""
        faults = [*event.faults]
        if idempotency_key is not None and not (isinstance(idempotency_key, str) and idempotency_key):
            faults.append(("idempotency_key", "must be a string that says something"))
        visitor = event.visitor
        visitor_uid = attempt(visitor_uid_text, visitor.visitor_uid, "visitor_uid", faults)
        guest_uid = attempt(guest_uid_text, visitor.guest_uid, "guest_uid", faults)
        parts = [self._head]
        if visitor_uid:
            parts.append(f',"visitor_uid":"{visitor_uid}"')
        if guest_uid:
            parts.append(f',"guest_uid":"{guest_uid}"')
        try:
            self._write_event(event, parts, faults)
        except GivenUp as error:
            too_large = isinstance(error, TooLarge) and not faults
            return Faulty((*faults, ("event", str(error))), too_large=too_large)
        if faults:
            return Faulty(tuple(faults))
        parts.append("}")
        payload = "".join(parts).encode()
        size = len(payload)
        if size > MAX_BYTES:
            problem = f"is {size:,} bytes; at most {MAX_BYTES:,} are allowed"
            return Faulty((("event", problem),), too_large=True, size=size)
        return Checked(visitor_uid, guest_uid, payload, facts_of(event.type, event.properties or {}))

    def _write_event(self, event: Event, parts: list[str], faults: list[Fault]) -> None:
        written_type, shape = _known_type(event, faults)
        parts += (f',"type":{written_type}', self._domain)
        self._write_page(event.visitor, written_type, parts, faults)
        info = "{}"
        if event.visitor_info is not None:
            info = attempt(VISITOR_INFO.write, event.visitor_info, "visitor_info", faults)
        if info != "{}":
            parts.append(f',"visitor_info":{info}')
        elif written_type == '"update_info"':
            faults.append(("visitor_info", "missing or blank; it is all that update_info carries"))
        properties = {} if event.properties is None else event.properties
        parts.append(f',"properties":{attempt(shape.write, properties, "properties", faults)}')
        if event.attributes is not None:
            attributes = attempt(_ATTRIBUTES.write, event.attributes, "attributes", faults)
            if attributes != "{}":
                parts.append(f',"attributes":{attributes}')

    def _write_page(self, visitor: Visitor, written_type: str, parts: list[str], faults: list[Fault]) -> None:
        url, url_host = page_url(visitor.url, faults)
        host = attempt(host_text, visitor.host, "host", faults)
        parts.append(f',"host":{host}' if host else url_host or self._default_host)
        if not url and written_type == '"link"':
            url = self._page_address(visitor)
        if url:
            parts.append(f',"url":{url}')
        for name in ("path", "title", "referrer"):
            value = getattr(visitor, name)
            if value is not None:
                written = attempt(text, value, name, faults)
                if written != '""':
                    parts.append(f',"{name}":{written}')

    def _page_address(self, visitor: Visitor) -> str:
        """The url of a page view that names none (the tracker requires one): host and path, as far as known."""
        host, path = (each if type(each) is str else "" for each in (visitor.host, visitor.path))
        address = f"https://{host or self.domain}/{path.lstrip('/')}"
        return attempt(text, address, "url", [])  # what is wrong with host or path is told under their own names


def _known_type(event: Event, faults: list[Fault]) -> tuple[str, Shape]:
    """The event type as JSON, and its rules; a type that nobody knows is a fault, unless it is meant."""
    if type(event.type) is not str:
        note(not_a("a string", event.type), "type", faults)
        return "", ANY
    shape = (STRICT if event.strict else LENIENT).get(event.type)
    if shape is not None:
        return text(event.type), shape
    if not NAME.match(event.type):
        faults.append(("type", "must be 1 to 64 of letters a-z, digits, '.', '_' and -"))
        return "", ANY
    if event.strict:
        near = nearest(event.type, _TYPES)
        hint = f"; did you mean {near}?" if near else f"; known are {', '.join(_TYPES)}"
        faults.append(("type", f"no such event type{hint} (strict=False sends it as it is)"))
    return text(event.type), ANY


def _made_plain(event: Event) -> tuple[Event, tuple[str, ...]]:
    """The event in plain values and without blank fields of ``visitor_info``, and the names of these."""
    info = plain(event.visitor_info)
    blank: tuple[str, ...] = ()
    if isinstance(info, dict):
        info, blank = without_blanks(info)
    made = event._replace(
        type=plain(event.type),
        properties=plain(event.properties),
        visitor_info=info,
        attributes=plain(event.attributes),
        visitor=Visitor._make(map(plain, event.visitor)),
    )
    return made, blank


def is_event_type(value: object) -> bool:
    """Whether an event type is fit to be counted and logged."""
    return isinstance(value, str) and NAME.match(value) is not None
