"""An event's data object: checked by CONTRACT.md and written as JSON in one pass.

The writers know the rules (``event_types``, ``visitor_info``), so an event that breaks none is walked once; every fault
is collected on the way, and InvalidEvent lists them by path. Nothing that the caller gave is changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from insend_relay.outbox.errors import InvalidEvent
from insend_relay.outbox.keys import GUEST_UID, VISITOR_UID
from insend_relay.producers.event_types import ANY, LENIENT, NAME, STRICT
from insend_relay.producers.json_writer import (
    MOST_BYTES,
    Fault,
    GivenUp,
    Refused,
    anything,
    note,
    number,
    refused,
    text,
    type_name,
)
from insend_relay.producers.shape import Shape, nearest
from insend_relay.producers.visitor import Visitor
from insend_relay.producers.visitor_info import VISITOR_INFO

_URL = re.compile(
    r"https?://(?:[^/?#@\s]*@)?((?:\[[0-9a-f:.]+\]|[^/?#@\s:\[\]\\]+)(?::\d+)?)(?=[/?#]|\Z)", re.IGNORECASE
)
_HOST = re.compile(r"[^/?#@\s]+\Z")
_MOST_OF_AN_ADDRESS = 2_048  # bytes of a request's url, path, host or referrer in JSON; an event has its limit, too
_ATTRIBUTES = Shape(further=anything, level=2)
_TYPES = tuple(STRICT)


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


class Checked(NamedTuple):
    """An event that keeps the rules.

    Attributes:
        visitor_uid: "" when the event has none; likewise the guest's.
        guest_uid: See ``visitor_uid``.
        payload: The data object, compact JSON in UTF-8.
    """

    visitor_uid: str
    guest_uid: str
    payload: bytes


class Validator:
    """Checks and writes the events of one account.

    Args:
        app_key: The application's key.
        domain: The account's domain, lower case.
    """

    def __init__(self, app_key: str, domain: str) -> None:
        self.domain = domain
        self._head = f'{{"app_key":{text(app_key)}'
        self._domain = f',"domain":{text(domain)}'
        self._default_host = f',"host":{text(domain)}'

    def check(self, event: Event, idempotency_key: object = None) -> Checked:
        """The event as it will be sent; InvalidEvent with every fault."""
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
            faults.append(("event", str(error)))
        if faults:
            raise InvalidEvent(faults)
        parts.append("}")
        payload = "".join(parts).encode()
        if len(payload) > MOST_BYTES:
            raise InvalidEvent([("event", f"is {len(payload):,} bytes; at most {MOST_BYTES:,} are allowed")])
        return Checked(visitor_uid, guest_uid, payload)

    def _write_event(self, event: Event, parts: list[str], faults: list[Fault]) -> None:
        written_type, shape = _known_type(event, faults)
        parts += (f',"type":{written_type}', self._domain)
        self._write_page(event, parts, faults)
        info = "{}"
        if event.visitor_info is not None:
            info = attempt(VISITOR_INFO.write, event.visitor_info, "visitor_info", faults)
        if info != "{}":
            parts.append(f',"visitor_info":{info}')
        elif event.type == "update_info":
            faults.append(("visitor_info", "missing; it is all that update_info carries"))
        properties = {} if event.properties is None else event.properties
        parts.append(f',"properties":{attempt(shape.write, properties, "properties", faults)}')
        if event.attributes is not None:
            attributes = attempt(_ATTRIBUTES.write, event.attributes, "attributes", faults)
            if attributes != "{}":
                parts.append(f',"attributes":{attributes}')

    def _write_page(self, event: Event, parts: list[str], faults: list[Fault]) -> None:
        visitor = event.visitor
        url, url_host = _page_url(visitor.url, faults)
        host = attempt(_host, visitor.host, "host", faults)
        parts.append(f',"host":{host}' if host else url_host or self._default_host)
        if not url and event.type == "link":
            url = self._page_address(visitor)
        if url:
            parts.append(f',"url":{url}')
        for name in ("path", "title", "referrer"):
            value = getattr(visitor, name)
            if value is not None and value != "":
                parts.append(f',"{name}":{attempt(text, value, name, faults)}')

    def _page_address(self, visitor: Visitor) -> str:
        """The url of a page view that names none (the tracker requires one): host and path, as far as known."""
        path = visitor.path if isinstance(visitor.path, str) else ""
        address = f"https://{visitor.host or self.domain}/{path.lstrip('/')}"
        return attempt(text, address, "url", [])  # what is wrong with host or path is told under their own names


def attempt(write: Callable[[Any], str], value: Any, path: str, faults: list[Fault]) -> str:
    """``write(value)``; when it is refused, "" and its faults under ``path``."""
    try:
        return write(value)
    except Refused as error:
        note(error, path, faults)
        return ""


def visitor_uid_text(value: object) -> str:
    """A registered visitor's uid as it is sent; "" when there is none."""
    if value is None or value == "":
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = number(value)
    if not isinstance(value, str):
        raise refused(f"must be a string or a whole number, not {type_name(value)}")
    if not VISITOR_UID.match(value):
        if VISITOR_UID.match(value.lower()):
            raise refused("capital letters are not allowed (0-9, a-z, -): write it in small letters, everywhere alike")
        raise refused("must be 1 to 128 of 0-9, a-z and -; derive such an id from yours (a hash does)")
    return value


def guest_uid_text(value: object) -> str:
    """A guest's uid as it is sent; "" when there is none."""
    if value is None or value == "":
        return ""
    if not isinstance(value, str):
        raise refused(f"must be a string, not {type_name(value)}")
    if not GUEST_UID.match(value):
        raise refused("must be 1 to 128 of 0-9, A-Z, a-z, '.', '_' and -, as in the cookie convead_guest_uid")
    return value


def _known_type(event: Event, faults: list[Fault]) -> tuple[str, Shape]:
    """The event type as JSON, and its rules; a type that nobody knows is a fault, unless it is meant."""
    if not isinstance(event.type, str):
        faults.append(("type", f"must be a string, not {type_name(event.type)}"))
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


def _page_url(value: object, faults: list[Fault]) -> tuple[str, str]:
    """The page's address as JSON, and the host that it names."""
    if value is None or value == "":
        return "", ""
    written = attempt(text, value, "url", faults)
    if not written:
        return "", ""
    found = _URL.match(str(value))
    if not found:
        faults.append(("url", "must be a full address such as https://shop.example.com/cart"))
        return "", ""
    return written, f',"host":{text(found[1].lower())}'


def _host(value: object) -> str:
    if value is None or value == "":
        return ""
    written = text(value)
    if not _HOST.match(str(value)):
        raise refused("must be a host such as shop.example.com or shop.example.com:8443")
    return written


def usable_uids(visitor: Visitor) -> tuple[str, str]:
    """The uids of an event that breaks the rules, each "" unless it keeps them itself."""
    faults: list[Fault] = []
    return (
        attempt(visitor_uid_text, visitor.visitor_uid, "visitor_uid", faults),
        attempt(guest_uid_text, visitor.guest_uid, "guest_uid", faults),
    )


def usable_page(url: str, path: str, host: str, referrer: str) -> Visitor:
    """A request's page without what no event may carry: what a client sends must not make an event invalid."""
    faults: list[Fault] = []

    def usable(write: Callable[[Any], str], value: str) -> str | None:
        if len(value) > _MOST_OF_AN_ADDRESS:
            return None
        written = attempt(write, value, "", faults)
        return value if written and len(written.encode()) <= _MOST_OF_AN_ADDRESS else None

    def address(value: str) -> str | None:
        return usable(text, value) or usable(text, value.partition("?")[0])

    page = address(url)
    if page is not None and not _URL.match(page):
        page = None
    return Visitor(None, None, page, address(path), None, address(referrer), usable(_host, host))


def is_event_type(value: object) -> bool:
    """Whether an event type is fit to be counted and logged."""
    return isinstance(value, str) and NAME.match(value) is not None
