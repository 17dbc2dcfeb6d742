"""Whatever a client's headers say, an event of its request is not invalid for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insend_relay.console.sandbox.quickstart import examples
from insend_relay.outbox.settings import Settings
from insend_relay.producers import InSend, known_cookie
from insend_relay.producers.page import usable_page
from insend_relay.producers.request import Request, serving
from insend_relay.producers.testing import RecordedEvents, recording

EXAMPLES = examples()
SETTINGS = Settings()
SHOP = InSend(app_key="test-app-key", domain="shop.example.com")
MOST = 2048  # bytes

characters = st.one_of(
    st.characters(exclude_categories=()),  # with halves of surrogate pairs
    st.sampled_from("/:?#@[]%&=. \t\n\x00\x7f\u00a0\u2028\ud83d\udc00"),
)
words = st.text(characters, max_size=40)
addresses = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "https", "HTTPS", "ftp", ""]), words, words, words)
anything = st.one_of(
    words,
    addresses,
    st.sampled_from(["https://shop.example.com", "shop.example.com:8443", "[::1]:80", "/", "//", "магазин.example"]),
    st.builds(lambda word, times: word * times, words, st.integers(0, 400)),
)


def sent(event: dict[str, Any], request: Request) -> RecordedEvents:
    with recording() as events, serving(request):
        receipt = SHOP.event(event["type"], event["properties"], event.get("visitor_info"))
    assert receipt.where in {"redis", "no_visitor", "opted_out"}
    return events


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a slow machine must not decide
@given(
    event=st.sampled_from(EXAMPLES),
    page=st.fixed_dictionaries(dict.fromkeys(("url", "path", "host", "referrer"), anything)),
    cookies=st.dictionaries(
        st.sampled_from(["convead_guest_uid", "convead_track_disable", known_cookie.NAME, "other"]), anything
    ),
    user=st.sampled_from([None, "42", 42, ""]),
)
def test_any_text_in_any_header_leaves_the_event_acceptable(
    event: dict[str, Any], page: dict[str, Any], cookies: dict[str, str], user: Any
) -> None:
    events = sent(event, Request(settings=SETTINGS, cookies=cookies, visitor_uid=lambda: user, **page))
    for found in (*events.sent, *events.not_sent):
        alone = sum(len(json.dumps(value, ensure_ascii=False)) for value in event.values())
        assert len(json.dumps(found.data, ensure_ascii=False).encode()) < 5 * MOST + 4 * alone + 500


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example.com",
        "https://shop.example.com/p/1?a=1#b",
        "HTTP://SHOP.EXAMPLE.COM:8080/",
        "https://user:word@shop.example.com/",
        "https://[2001:db8::1]:8443/cart",
        "https://магазин.example/корзина",
        "https://xn--80aaxitdbjk.example/",
        "http://localhost:8000/\u2028",
    ],
)
def test_a_good_address_stays_as_it_is(url: str) -> None:
    assert usable_page(url, "", "", url).url == url
    assert usable_page(url, "", "", url).referrer == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/cart",
        "shop.example.com/cart",
        "//shop.example.com/cart",
        "ftp://shop.example.com/",
        "javascript:alert(1)",
        "https://",
        "https:///cart",
        "https://a b/",
        "https://shop.example.com:port/",
        "https://[::1/",
        "https://shop\\evil.example.com/",
        "https://shop.example.com/\ud800",
        "https://shop.example.com/" + "x" * MOST,
        "https://shop.example.com/" + "\x00" * 400,  # six bytes each in JSON
    ],
)
def test_an_address_that_is_none_counts_as_none(url: str) -> None:
    assert usable_page(url, "", "", "").url is None


@pytest.mark.parametrize("query", ["?a=\ud800", "?a=" + "x" * 10_000, "?" + "я" * 1_500])
def test_a_query_that_cannot_be_sent_is_cut_off_and_the_page_stays(query: str) -> None:
    page = "https://shop.example.com/p/1"
    found = usable_page(page + query, "/p/1" + query, "", page + query)
    assert (found.url, found.path, found.referrer) == (page, "/p/1", page)


@pytest.mark.parametrize("host", ["shop.example.com", "SHOP.example.com:8443", "[::1]:80", "магазин.example", "a"])
def test_a_good_host_stays_as_it_is(host: str) -> None:
    assert usable_page("", "", host, "").host == host


@pytest.mark.parametrize("host", ["", "a b", "a/b", "u@shop.example.com", "a?b", "a#b", "\ud800", "x" * 10_000, "a\n"])
def test_a_host_that_is_none_counts_as_none(host: str) -> None:
    assert usable_page("", "", host, "").host is None


def test_what_is_left_out_leaves_the_accounts_own_domain() -> None:
    cookies = {"convead_guest_uid": "g"}
    page: dict[str, Any] = {"url": "junk", "host": "a b", "path": "/p"}
    request = Request(settings=SETTINGS, cookies=cookies, visitor_uid=lambda: None, **page)
    (event,) = sent({"type": "link", "properties": {}}, request)
    assert (event.host, event.url, event.path) == ("shop.example.com", "https://shop.example.com/p", "/p")


def test_a_link_without_an_address_is_told_by_host_and_path() -> None:
    request = Request(
        settings=SETTINGS,
        cookies={"convead_guest_uid": "g"},
        visitor_uid=lambda: None,
        path="/p" + "\x00" * 300,
        host="h" * 2_000,
    )
    (event,) = sent({"type": "link", "properties": {}}, request)
    assert event.url is not None
    assert event.url.startswith("https://hhh")
