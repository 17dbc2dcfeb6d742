"""The whole path, from a producer's call to an HTTP server that knows nothing of us: the golden files arrive."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from delivering import Arrived, drained

from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InSend

GOLDEN = sorted((Path(__file__).parent.parent / "producers" / "golden").glob("*.json"))
WHERE = ("visitor_uid", "guest_uid", "url", "path", "title", "referrer", "attributes")


def test_there_is_a_golden_file_for_each_event_type() -> None:
    assert len(GOLDEN) == 11


def test_each_event_type_arrives_as_the_contract_says(
    independent: tuple[str, Arrived], settings: Settings, outbox: Outbox, delivering: Callable[..., Any]
) -> None:
    url, arrived = independent
    expected = {}
    with (
        InSend(
            app_key="test-app-key",
            domain="Shop.Example.com",
            redis_url=settings.redis_url,
            namespace=settings.namespace,
            enqueue_timeout_ms=10_000,
        ) as insend,
        delivering(tracker_url=url),
    ):
        for path in GOLDEN:
            text = path.read_text(encoding="utf-8")
            event = json.loads(text)
            said = {name: event[name] for name in WHERE if name in event}
            assert insend.event(event["type"], event["properties"], event.get("visitor_info"), **said).where == "redis"
            whose = {name: event[name] for name in ("visitor_uid", "guest_uid") if name in event}
            expected[event["type"]] = {"app_key": "test-app-key", **whose, "data": text}
        drained(outbox)
    assert {line for line, _, _ in arrived} == {"POST /watch/event"}
    kinds = {headers["content-type"] for _, headers, _ in arrived}
    assert kinds == {"application/x-www-form-urlencoded; charset=utf-8"}
    forms = [dict(parse_qsl(body.decode("ascii"), strict_parsing=True)) for _, _, body in arrived]
    assert {json.loads(form["data"])["type"]: form for form in forms} == expected
    assert len(forms) == len(GOLDEN)
