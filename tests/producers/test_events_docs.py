"""The examples in docs/events.md run, and its table names every event type and property."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from insend_relay.outbox.record import Record
from insend_relay.producers import InSend
from insend_relay.producers.event_types import STRICT
from insend_relay.producers.oversize import DROPPABLE
from insend_relay.producers.plain_values import MAX_ITEMS

DOC = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")


def test_the_examples_run(redis_url: str, namespace: str, kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "APP_KEY": "test-app-key",
        "DOMAIN": "shop.example.com",
        "REDIS_URL": redis_url,
        "NAMESPACE": namespace,
        "ENQUEUE_TIMEOUT_MS": "10000",
    }.items():
        monkeypatch.setenv(f"INSEND_{name}", value)
    names: dict[str, Any] = {}
    for example in re.findall(r"```python\n(.*?)```", DOC, re.DOTALL):
        exec(example, names)  # noqa: S102 - our own documentation
    names["ship"](SimpleNamespace(id=5001, customer_id=None, guest_uid="a1B2", email="a@example.com"))
    insend: InSend = names["insend"]
    insend.close()
    visitor: list[Record] = kept("v/42")
    guest: list[Record] = kept("g/a1B2")
    assert [len(visitor), len(guest)] == [2, 3]
    assert b'"phone":""' in visitor[1].payload


def test_the_table_names_every_event_type_with_its_properties() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", DOC, re.MULTILINE))
    for name, shape in STRICT.items():
        assert set(re.findall(r"\*\*(\w+)\*\*", rows[name])) == set(shape.required)
        assert all(re.search(rf"\b{field}\b", rows[name]) for field in shape.names)


def test_the_page_says_how_large_carts_and_queries_are_handled_as_the_code_does_it() -> None:
    assert f"in this order: {', '.join(DROPPABLE)}" in DOC
    assert f"of at most {MAX_ITEMS:,} items" in DOC


def test_the_page_says_what_it_means_that_an_event_counts_when_it_arrives() -> None:
    section = DOC.partition("## An event counts when it arrives\n")[2].partition("\n## ")[0]
    cases = re.findall(r"^- \*\*(.*?)\.?\*\*", section, re.MULTILINE)
    assert cases == ["No import of history", "An outage shifts events", "A replay is a new arrival", "A paused app"]
