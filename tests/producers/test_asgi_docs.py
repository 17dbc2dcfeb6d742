"""The examples in docs/fastapi.md run, one after the other, as one application."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from asgi_server import Answer, Browser, serving

from insend_relay.producers.testing import RecordedEvents

DOC = (Path(__file__).parents[2] / "docs" / "fastapi.md").read_text(encoding="utf-8")


class _Client(Browser):
    """A browser that the examples' own test may use as a TestClient."""

    def post(self, path: str) -> Answer:
        return self.open("POST", path, b"")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the examples define."""
    monkeypatch.setenv("INSEND_APP_KEY", "test-app-key")
    monkeypatch.setenv("INSEND_DOMAIN", "shop.example.com")
    names: dict[str, Any] = {}
    for example in re.findall(r"```python\n(.*?)```", DOC, re.DOTALL):
        exec(compile(example, "fastapi.md", "exec", dont_inherit=True), names)  # noqa: S102 - our own documentation
    return names


def test_the_examples_work_and_their_test_passes(names: dict[str, Any], insend_events: RecordedEvents) -> None:
    with serving(names["app"]) as port:
        client = _Client(port, convead_guest_uid="g")
        names["test_an_order_is_reported"](client, insend_events)
        assert [client.get(path).text for path in ("/about", "/p/7")] == ['"About us"', '"A product"']
    assert [(event.type, event.visitor_uid, event.guest_uid) for event in insend_events] == [
        ("update_info", "customer-42", "g"),
        ("purchase", "customer-42", None),
        ("add_to_cart", "customer-42", None),
        ("link", "customer-42", None),
        ("view_product", "customer-42", None),
    ]


def test_the_page_names_the_package_that_the_test_client_of_this_starlette_wants() -> None:
    spec = importlib.util.find_spec("starlette.testclient")
    assert spec is not None
    assert spec.origin is not None
    wanted = re.search(r"requires the (\w+) package", Path(spec.origin).read_text(encoding="utf-8"))
    assert wanted is not None
    assert f"pip install {wanted[1]}" in DOC
