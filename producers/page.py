"""The rules of the page on which an event happened: its address, and the site's host.

What a program gives is checked. What a browser sends with a request, however odd, must not make an event invalid:
``usable_page`` leaves out what no event may carry.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from insend_relay.producers.json_writer import Fault, attempt, refused, text
from insend_relay.producers.visitor import Visitor

_URL = re.compile(
    r"https?://(?:[^/?#@\s]*@)?((?:\[[0-9a-f:.]+\]|[^/?#@\s:\[\]\\]+)(?::\d+)?)(?=[/?#]|\Z)", re.IGNORECASE
)
_EMPTY = '""'
_HOST = re.compile(r"[^/?#@\s]+\Z")
_MAX_ADDRESS_BYTES = 2_048  # bytes of a request's url, path, host or referrer in JSON; an event has its limit, too


def page_url(value: object, faults: list[Fault]) -> tuple[str, str]:
    """The page's address as JSON, and the host that it names."""
    written = "" if value is None else attempt(text, value, "url", faults)
    if written in ("", _EMPTY):
        return "", ""
    found = _URL.match(str(value))
    if not found:
        faults.append(("url", "must be a full address such as https://shop.example.com/cart"))
        return "", ""
    return written, f',"host":{text(found[1].lower())}'


def host_text(value: object) -> str:
    """A site's host as JSON; "" when there is none."""
    written = _EMPTY if value is None else text(value)
    if written == _EMPTY:
        return ""
    if not _HOST.match(str(value)):
        raise refused("must be a host such as shop.example.com or shop.example.com:8443")
    return written


def usable_page(url: str, path: str, host: str, referrer: str) -> Visitor:
    """A request's page without what no event may carry: what a client sends must not make an event invalid."""
    faults: list[Fault] = []

    def usable(write: Callable[[Any], str], value: str) -> str | None:
        if len(value) > _MAX_ADDRESS_BYTES:
            return None
        written = attempt(write, value, "", faults)
        return value if written and len(written.encode()) <= _MAX_ADDRESS_BYTES else None

    def address(value: str) -> str | None:
        return usable(text, value) or usable(text, value.partition("?")[0])

    page = address(url)
    if page is not None and not _URL.match(page):
        page = None
    return Visitor(None, None, page, address(path), None, address(referrer), usable(host_text, host))
