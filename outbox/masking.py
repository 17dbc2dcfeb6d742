"""Personal data, masked: what ``insend`` shows of events and answers unless it is asked to ``--show-personal``. Pure.

Keys and structure stay, so that an operator sees what an event is made of. Masked are: every value of visitor_info;
values whose key names something personal (``email``, ``customer_phone``); e-mail addresses inside any text; and, in a
tracker's answer, whatever it echoes of the event's masked values. Uids stay: they are how an operator finds a visitor.

This guards against a glance, a screenshot and a pasted ticket. It is no anonymisation: a name in a page's title stays.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "•••"
_SHORT = 4  # shorter values are searched as whole words only: masking every "ru" would leave no answer readable
# Bounded repeats: a page title is the visitor's to choose, and must not make us search for minutes.
_EMAIL = re.compile(r"[\w.%+!#$*^~'-]{1,64}(?:@|%40)[\w.-]{1,255}", re.IGNORECASE)
_PHONE = re.compile(r"(?<![\w.-])(?!\d{4}-\d\d-\d\d)\+?\d(?:[ ().-]{0,2}\d){6,14}")  # but no date
_QUERY = re.compile(r"(?<=[?&#;])([\w.%\[\]-]{1,64})=([^&#;\s]+)")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_PERSONAL = frozenset(
    {"email", "mail", "phone", "telephone", "tel", "mobile", "fax", "address", "street", "postcode", "zip", "ip"}
    | {"firstname", "lastname", "fullname", "surname", "patronymic", "username", "password", "passport"}
    | {"birth", "birthday", "dob", "gender", "card", "iban"}
)
_WHOSE_NAME = frozenset(
    {"first", "last", "full", "middle", "family", "given", "user", "customer", "client", "contact", "recipient"}
)


def mask_event(data: Any) -> Any:
    """An event's data object with its personal values masked; anything but an object is masked whole."""
    if not isinstance(data, dict):
        return MASK
    return {key: _hide(value) if key == "visitor_info" else _mask(key, value) for key, value in data.items()}


def mask_text(text: str) -> str:
    """A text with e-mail addresses, and the personal parts of addresses with a query, masked."""
    text = _QUERY.sub(lambda found: f"{found[1]}={MASK}" if _is_personal(found[1]) else found[0], text)
    return _EMAIL.sub(MASK, text)


def mask_answer(answer: str, data: Any = None) -> str:
    """A tracker's answer, with whatever it echoes of the event ``data`` masked, and what looks like a phone number."""
    echoes = {form for value in _personal_values(data) for form in _written(value)}
    for echo in sorted(echoes, key=len, reverse=True):
        pattern = re.escape(echo)
        if len(echo) < _SHORT:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        answer = re.sub(pattern, MASK, answer, flags=re.IGNORECASE)
        answer = _mask_cut_off(answer, echo)
    return _PHONE.sub(MASK, mask_text(answer))


def _mask(key: str, value: Any) -> Any:
    if _is_personal(key):
        return _hide(value)
    if isinstance(value, dict):
        return {mask_text(inner): _mask(inner, child) for inner, child in value.items()}
    if isinstance(value, list):
        return [_mask("", child) for child in value]
    return mask_text(value) if isinstance(value, str) else value


def _hide(value: Any) -> Any:
    """Keys and structure without a value; what is empty stays visible: an empty string erases at the tracker."""
    if isinstance(value, dict):
        return {mask_text(key): _hide(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_hide(child) for child in value]
    return value if value is None or value == "" else MASK


def _is_personal(key: str) -> bool:
    words = {word.lower() for word in _WORD.findall(key)}
    return bool(words & _PERSONAL) or words == {"name"} or ("name" in words and bool(words & _WHOSE_NAME))


def _personal_values(data: Any, *, hidden: bool = False) -> Iterator[str]:
    """Every value that ``mask_event`` hides, as text."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _personal_values(value, hidden=hidden or key == "visitor_info" or _is_personal(key))
    elif isinstance(data, list):
        for value in data:
            yield from _personal_values(value, hidden=hidden)
    elif hidden and isinstance(data, str | int | float) and not isinstance(data, bool) and len(str(data)) > 1:
        yield str(data)


def _written(value: str) -> Iterator[str]:
    """The forms in which an answer may echo a value: as it is, in JSON, in a form, in HTML."""
    yield value
    yield json.dumps(value)[1:-1]
    yield quote(value)
    yield quote_plus(value)
    yield html.escape(value)


def _mask_cut_off(answer: str, echo: str) -> str:
    """Mask the beginning of ``echo`` at the end of an answer: a dead letter keeps its first 500 characters only."""
    for length in range(min(len(echo) - 1, len(answer)), _SHORT - 1, -1):
        if answer.lower().endswith(echo[:length].lower()):
            return answer[:-length] + MASK
    return answer
