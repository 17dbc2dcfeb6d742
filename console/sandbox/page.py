"""What the sandbox shows of itself: one plain page for a person, one JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from html import escape
from http import HTTPStatus
from importlib.resources import files
from string import Template
from typing import Any

from insend_relay.console.sandbox.tracker import Received, Tracker

_ROWS = 100  # on the page; the JSON has everything that is kept
_PAGE = Template(files("insend_relay.console.sandbox").joinpath("sandbox.html").read_text(encoding="utf-8"))


def page(tracker: Tracker) -> bytes:
    """The newest requests as HTML, newest first; it refreshes itself."""
    requests = tracker.requests()[: -_ROWS - 1 : -1]
    text = _PAGE.substitute(
        totals=escape(", ".join(f"{count} {name}" for name, count in tracker.totals().items())),
        misbehaving="".join(f"<li>{_code(order)}</li>" for order in tracker.misbehaving())
        or "<li>as the contract says</li>",
        rows="".join(map(_row, requests)) or '<tr><td colspan="7">Nothing has come yet.</td></tr>',
    )
    return text.encode()


def listing(tracker: Tracker, received: Iterable[Received]) -> bytes:
    """Requests in order of arrival as JSON, with the totals and what the sandbox has been told."""
    return json.dumps(
        {
            "totals": tracker.totals(),
            "misbehaving": tracker.misbehaving(),
            "requests": [request.as_dict() for request in received],
        },
        ensure_ascii=False,
    ).encode()


def _row(request: Received) -> str:
    answer = "closed" if request.status is None else str(request.status)
    said = {key: request.data[key] for key in ("properties", "visitor_info", "url") if request.data.get(key)}
    faults = "".join(f"<p>{escape(fault)}</p>" for fault in request.faults)
    cells = (
        str(request.ordinal),
        f"{datetime.fromtimestamp(request.arrived_at).astimezone():%H:%M:%S.%f}"[:-3],
        answer,
        escape(request.type or "?"),
        escape(request.visitor_uid),
        escape(request.guest_uid),
        faults + _code(said),
    )
    kind = "ok" if request.status == HTTPStatus.OK else "bad"
    return f'<tr class="{kind}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"


def _code(value: Mapping[str, Any]) -> str:
    return f"<code>{escape(json.dumps(value, ensure_ascii=False))}</code>"
