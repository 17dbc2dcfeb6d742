"""Whether the tracker would take a request: CONTRACT.md's rules, as the sandbox enforces them.

Written from CONTRACT alone and apart from the producers' validation, so that each of the two checks the other. Pure:
no sockets, no clock. Where CONTRACT names a closed set (form fields, keys of the data object, event types, properties
of every type but ``custom``), anything outside it is a fault.

A reason names fields and what is wanted, never a value: reasons travel into dead letters and logs, where nobody's
personal data belongs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from insend_relay.console.sandbox.json_text import read_object
from insend_relay.console.sandbox.shapes import (
    PROPERTIES,
    Check,
    Fault,
    address,
    any_object,
    domain,
    host,
    missing,
    text,
    visitor_info,
)

FORM_FIELDS = ("app_key", "visitor_uid", "guest_uid", "data")
HOSTLESS = ("purchase", "order_update")  # the vendor's PHP client sends these two without url, host and path
PAGE_EVENTS = ("link",)  # the page view: without its page it says nothing
_FORM_TYPE = re.compile(r"application/x-www-form-urlencoded\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)
_VISITOR_UID = re.compile(r"[0-9a-z-]+")
_SAME_AS_FORM = ("app_key", "visitor_uid", "guest_uid")
_DATA: Mapping[str, Check] = {
    "domain": domain,
    "host": host,
    "url": address,
    "path": text,
    "title": text,
    "referrer": text,
    "visitor_info": visitor_info,
    "attributes": any_object,
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one request said, and what is wrong with it.

    Attributes:
        fields: The form fields, from the body and the query string.
        data: The decoded data object; empty when it could not be read.
        faults: A sentence for each broken rule; none means that the tracker answers 200.
    """

    fields: dict[str, str]
    data: dict[str, Any] = field(default_factory=dict)
    faults: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """The event type; ``""`` if it is none of the tracker's."""
        given = self.data.get("type")
        return given if isinstance(given, str) and given in PROPERTIES else ""

    @property
    def properties(self) -> dict[str, Any]:
        """The event's own fields."""
        given = self.data.get("properties")
        return given if isinstance(given, dict) else {}


def judge(query: str, content_type: str, body: bytes) -> Judgement:
    """Judge a POST to the tracker by its query string, its Content-Type and its body."""
    try:
        fields = _read_form(query, content_type, body)
    except ValueError as error:
        return Judgement({}, faults=(str(error),))
    faults = list(_form_faults(fields))
    data: dict[str, Any] = {}
    if fields.get("data"):
        try:
            data = read_object(fields["data"])
        except ValueError as error:
            faults.append(f"data: {error}")
        else:
            faults.extend(f"{path}: {problem}" for path, problem in _data_faults(fields, data))
    return Judgement(fields, data, tuple(faults))


def _read_form(query: str, content_type: str, body: bytes) -> dict[str, str]:
    """The fields of body and query string together; ValueError says what is wrong with the encoding."""
    if body and not _FORM_TYPE.fullmatch(content_type.strip()):
        raise ValueError("Content-Type: must be application/x-www-form-urlencoded; charset=utf-8")
    if not body.isascii() or not query.isascii():
        raise ValueError("form: bytes beyond ASCII must be percent-encoded")
    fields: dict[str, str] = {}
    for encoded in filter(None, (query, body.decode("ascii"))):
        try:
            pairs = parse_qsl(encoded, keep_blank_values=True, strict_parsing=True, errors="strict")
        except UnicodeDecodeError:
            raise ValueError("form: percent-encoded bytes that are not UTF-8") from None
        except ValueError:
            raise ValueError("form: must be name=value pairs joined by &") from None
        for name, value in pairs:
            if name in fields:
                raise ValueError(f"{name}: given twice")
            fields[name] = value
    return fields


def _form_faults(fields: Mapping[str, str]) -> Iterator[str]:
    for name, value in fields.items():
        if name not in FORM_FIELDS:
            yield f"{name}: not a form field of the tracker"
        elif not value:
            yield f"{name}: empty; leave an absent uid out" if name.endswith("_uid") else f"{name}: empty"
    for name in ("app_key", "data"):
        if name not in fields:
            yield f"{name}: missing"
    if "visitor_uid" not in fields and "guest_uid" not in fields:
        yield "visitor_uid, guest_uid: missing; one of them is required"
    if fields.get("visitor_uid") and not _VISITOR_UID.fullmatch(fields["visitor_uid"]):
        yield "visitor_uid: only 0-9, a-z and - are allowed"


def _data_faults(fields: Mapping[str, str], data: Mapping[str, Any]) -> Iterator[Fault]:
    kind = data.get("type")
    known = isinstance(kind, str) and kind in PROPERTIES
    if "type" in data and not known:
        yield "data.type", "not an event type of the tracker"
    yield from missing("data", _required(kind), data)
    for key in _SAME_AS_FORM:
        if key in fields and data.get(key) != fields[key]:
            yield f"data.{key}", "must be the same as in the form"
        elif key in data and key not in fields:
            yield f"data.{key}", "must be left out, as in the form"
    for key, value in data.items():
        if key in _DATA:
            yield from _DATA[key](f"data.{key}", value)
        elif key not in {*_SAME_AS_FORM, "type", "properties"}:
            yield f"data.{key}", "not a key of the data object"
    if known:
        yield from PROPERTIES[kind]("data.properties", data.get("properties", {}))  # type: ignore[index]  # known: a str
    elif "properties" in data:
        yield from any_object("data.properties", data["properties"])


def _required(kind: object) -> Iterator[str]:
    """The keys of the data object that an event of this type must have."""
    yield from ("type", "domain")
    if kind not in HOSTLESS:
        yield "host"
    if kind in PAGE_EVENTS:
        yield "url"
    if kind == "update_info":
        yield "visitor_info"
