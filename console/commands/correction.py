"""A dead letter's event as a person has corrected it: read from its data object, and checked by the producers' rules.

The account is the data object's own (``app_key``, ``domain``), not the environment's: a letter may belong to another
app, and a wrong key or domain may be what has to be corrected. What the data object leaves out of them is the letter's.

What erases a field of ``visitor_info`` depends on the form in which the letter holds it. A valid event is stored in the
form that goes over the wire: an empty string erases the field, and it still does. An event that broke the rules is
stored as the application gave it: an empty string is a blank field, and ``ERASE`` is stored as that text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from insend_relay.operations.dead import INVALID, Letter
from insend_relay.operations.repair import Corrected
from insend_relay.outbox.errors import InvalidEvent
from insend_relay.outbox.keys import Lane
from insend_relay.producers.account import app_key_problem, domain_problem
from insend_relay.producers.json_reader import read_object
from insend_relay.producers.json_writer import Fault, place_of
from insend_relay.producers.validation import Event, Validator
from insend_relay.producers.visitor import Visitor
from insend_relay.producers.visitor_info import ERASE

_ERASE_ON_THE_WIRE = ""
_ERASE_AS_GIVEN = str(ERASE)  # as salvage writes it
_NAMES = frozenset(("app_key", "domain", "type", *Visitor._fields, "visitor_info", "properties", "attributes"))


def correct(letter: Letter, data: Mapping[str, Any], *, strict: bool | None = None) -> Corrected:
    """The event that takes the place of the letter's event.

    Args:
        letter: The letter.
        data: The corrected data object, its fractions as Decimal (``json_reader.read_object``).
        strict: False lets unknown event types and properties pass. None: as strict as the letter's own event was.

    Raises:
        InvalidEvent: It breaks the rules, or names neither a visitor nor a guest; lists every fault.
    """
    if strict is None:
        strict = not _was_lenient(letter)
    return _check(letter, data, strict=strict)


def stored_event(letter: Letter) -> dict[str, Any]:
    """The letter's data object; empty when its payload is no JSON object."""
    try:
        return read_object(letter.payload)
    except ValueError:
        return {}


def _was_lenient(letter: Letter) -> bool:
    """Whether the letter's event kept the rules only with ``strict=False``."""
    if letter.reason == INVALID:
        return False
    data = stored_event(letter)
    return not _passes(letter, data, strict=True) and _passes(letter, data, strict=False)


def _passes(letter: Letter, data: Mapping[str, Any], *, strict: bool) -> bool:
    try:
        _check(letter, data, strict=strict)
    except InvalidEvent:
        return False
    return True


def _check(letter: Letter, data: Mapping[str, Any], *, strict: bool) -> Corrected:
    faults = [
        (place_of(name, at), "no such field of an event") for at, name in enumerate(data, 1) if name not in _NAMES
    ]
    app_key, domain = _account(letter, data, faults)
    event = Event(
        data.get("type"),
        data.get("properties"),
        _with_erase(data.get("visitor_info"), _ERASE_AS_GIVEN if letter.reason == INVALID else _ERASE_ON_THE_WIRE),
        data.get("attributes"),
        Visitor(**{name: data.get(name) for name in Visitor._fields}),
        strict,
        tuple(faults),
    )
    checked = Validator(app_key, domain).check(event)
    if not (checked.visitor_uid or checked.guest_uid):
        raise InvalidEvent([("visitor_uid", "missing; so is guest_uid, and an event needs one of them")])
    lane = Lane(app_key, "v", checked.visitor_uid) if checked.visitor_uid else Lane(app_key, "g", checked.guest_uid)
    return Corrected(lane, checked.guest_uid if checked.visitor_uid else "", checked.payload)


def _account(letter: Letter, data: Mapping[str, Any], faults: list[Fault]) -> tuple[str, str]:
    """App key and domain: the data object's, else the letter's; adds what is wrong with them to ``faults``."""
    app_key: object = data.get("app_key", letter.app)
    domain: object = data["domain"] if "domain" in data else stored_event(letter).get("domain")
    return (
        _checked_name("app_key", app_key, app_key_problem, faults),
        _checked_name("domain", domain.strip().lower() if isinstance(domain, str) else domain, domain_problem, faults),
    )


def _checked_name(name: str, value: object, problem: Callable[[str], str], faults: list[Fault]) -> str:
    """The value; "" when there is something wrong with it, which is added to ``faults``."""
    if not isinstance(value, str) or not value:
        faults.append((name, "missing" if value in (None, "") else "must be a string"))
        return ""
    if fault := problem(value):
        faults.append((name, fault))
        return ""
    return value


def _with_erase(visitor_info: object, written: str) -> object:
    """The visitor's fields, with ``ERASE`` where the letter has it as ``written``."""
    if not isinstance(visitor_info, Mapping):
        return visitor_info
    return {name: ERASE if value == written else value for name, value in visitor_info.items()}
