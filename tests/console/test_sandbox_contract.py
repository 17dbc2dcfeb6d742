"""The sandbox's own reading of CONTRACT.md: what is right passes, and each wrong thing is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pytest

from insend_relay.console.sandbox.contract import Judgement, judge

FORM = "application/x-www-form-urlencoded; charset=utf-8"
PRODUCT = {"product_id": "1", "qnt": 2.5, "price": 125.03}
RIGHT: dict[str, dict[str, Any]] = {
    "add_to_cart": {**PRODUCT, "product_name": "Чай", "product_url": "https://shop.example.com/1"},
    "remove_from_cart": {"product_id": "1", "qnt": 2},
    "update_cart": {"items": [PRODUCT, {**PRODUCT, "product_image_url": "https://shop.example.com/1.jpg"}]},
    "view_product": {"product_id": "123", "category_id": "7", "price": 10},
    "purchase": {"order_id": "12345", "revenue": 99.99, "items": [PRODUCT], "state": "new"},
    "order_update": {"order_id": "12345", "state": "packed by hand"},
    "custom": {"key": "Newsletter_2", "anything": [1, {"deep": None}]},
    "file": {"file_url": "https://shop.example.com/terms.pdf", "file_title": "Terms"},
    "link": {"key_page_id": 123},
    "mailto": {"email": "help@example.com"},
    "update_info": {},
}


def an_event(kind: str = "custom", **changes: Any) -> dict[str, Any]:
    """A right data object of this type; a change to None leaves the key out."""
    event = {
        "app_key": "key1",
        "visitor_uid": "42",
        "type": kind,
        "domain": "shop.example.com",
        "host": "shop.example.com:8080",
        "url": "https://shop.example.com/cart",
        "visitor_info": {"email": "ann@example.com"},
        "properties": RIGHT.get(kind, {}),
    }
    return {key: value for key, value in {**event, **changes}.items() if value is not None}


def sent(data: Mapping[str, Any] | str, /, **changes: str | None) -> Judgement:
    """Judge a form with this data; a change to None leaves the field out."""
    text = data if isinstance(data, str) else json.dumps(data)
    fields = {"app_key": "key1", "visitor_uid": "42", "data": text, **changes}
    return judge("", FORM, urlencode({key: value for key, value in fields.items() if value is not None}).encode())


@pytest.mark.parametrize("kind", RIGHT)
def test_a_right_event_of_each_type_has_no_faults(kind: str) -> None:
    judged = sent(an_event(kind))
    assert judged.faults == ()
    assert judged.type == kind
    assert judged.properties == RIGHT[kind]


@pytest.mark.parametrize("kind", ["purchase", "order_update"])
def test_orders_may_come_without_host_and_url_as_the_vendors_php_client_sends_them(kind: str) -> None:
    assert sent(an_event(kind, host=None, url=None)).faults == ()


def test_both_uids_at_once_are_a_login_and_right() -> None:
    assert sent(an_event(guest_uid="Gx_1.2"), guest_uid="Gx_1.2").faults == ()


def test_a_guest_alone_is_right() -> None:
    assert sent(an_event(visitor_uid=None, guest_uid="g1"), visitor_uid=None, guest_uid="g1").faults == ()


def test_fields_in_the_query_string_are_as_good_as_in_the_body() -> None:
    text = json.dumps(an_event())
    assert judge(urlencode({"app_key": "key1", "visitor_uid": "42", "data": text}), "", b"").faults == ()
    assert judge("app_key=key1&visitor_uid=42", FORM, urlencode({"data": text}).encode()).faults == ()


def test_an_empty_string_in_visitor_info_is_right_because_it_erases_the_field() -> None:
    erased = dict.fromkeys(["email", "phone", "gender", "date_of_birth", "loyalty"], "")
    assert sent(an_event("update_info", visitor_info=erased)).faults == ()


def test_custom_fields_of_visitor_info_may_be_numbers_strings_dates_and_booleans() -> None:
    custom = {"points": 12.5, "card": "gold", "since": "2024-01-31", "wholesale": True}
    assert sent(an_event(visitor_info=custom)).faults == ()


def test_an_international_domain_in_its_own_letters_is_right() -> None:
    assert sent(an_event(domain="магазин.example", host="магазин.example")).faults == ()


@pytest.mark.parametrize(
    ("query", "content_type", "body", "fault"),
    [
        ("", "application/json", b"{}", "Content-Type: must be"),
        ("", "", b"app_key=1", "Content-Type: must be"),
        ("", "application/x-www-form-urlencoded; charset=windows-1251", b"app_key=1", "Content-Type: must be"),
        ("", FORM, "app_key=\N{SNOWMAN}".encode(), "form: bytes beyond ASCII"),
        ("", FORM, b"app_key=%ff", "form: percent-encoded bytes that are not UTF-8"),
        ("", FORM, b"app_key", "form: must be name=value pairs"),
        ("", FORM, b"app_key=1&app_key=1", "app_key: given twice"),
        ("app_key=1", FORM, b"app_key=1", "app_key: given twice"),
        ("", FORM, b"", "data: missing"),
    ],
)
def test_a_wrong_encoding_is_named(query: str, content_type: str, body: bytes, fault: str) -> None:
    assert any(found.startswith(fault) for found in judge(query, content_type, body).faults)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"app_key": None}, "app_key: missing"),
        ({"app_key": ""}, "app_key: empty"),
        ({"data": None}, "data: missing"),
        ({"data": ""}, "data: empty"),
        ({"visitor_uid": None}, "visitor_uid, guest_uid: missing; one of them is required"),
        ({"guest_uid": ""}, "guest_uid: empty; leave an absent uid out"),
        ({"visitor_uid": "Ann"}, "visitor_uid: only 0-9, a-z and - are allowed"),
        ({"visitor_uid": "42\n"}, "visitor_uid: only 0-9, a-z and - are allowed"),
        ({"visitor_uid": "43"}, "data.visitor_uid: must be the same as in the form"),
        ({"app_key": "key2"}, "data.app_key: must be the same as in the form"),
        ({"guest_uid": "g1"}, "data.guest_uid: must be the same as in the form"),
        ({"time": "1"}, "time: not a form field of the tracker"),
    ],
)
def test_a_wrong_form_field_is_named(changes: dict[str, str | None], fault: str) -> None:
    assert fault in sent(an_event(), **changes).faults


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ("{", "data: not JSON: "),
        ("[]", "data: must be a JSON object"),
        ('{"a": NaN}', "data: not JSON: NaN and Infinity"),
        ('{"a": -Infinity}', "data: not JSON: NaN and Infinity"),
        ('{"a": 1e999}', "data: not JSON: a number too large"),
        ('{"a": ' + "9" * 5000 + "}", "data: not JSON: a number too large"),
        ('{"a": 1, "a": 2}', "data: not JSON: a key stands twice"),
        ('{"a": "\\ud83d"}', "data: not Unicode: half of a surrogate pair"),
        ('{"a": ' + "[" * 200 + "]" * 200 + "}", "data: nested too deeply"),
        ('{"a": ' + "[" * 200_000 + "]" * 200_000 + "}", "data: nested too deeply"),
    ],
)
def test_what_is_not_a_strict_json_object_is_named_and_not_kept(data: str, fault: str) -> None:
    judged = sent(data)
    assert judged.faults[0].startswith(fault)
    assert judged.data == {}


def test_a_whole_surrogate_pair_is_right() -> None:
    assert sent(an_event(title="\N{GRINNING FACE}")).faults == ()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"type": None}, "data.type: missing"),
        ({"type": "purchased"}, "data.type: not an event type of the tracker"),
        ({"type": ["custom"]}, "data.type: not an event type of the tracker"),
        ({"type": "purchased", "properties": []}, "data.properties: must be an object"),
        ({"domain": None}, "data.domain: missing"),
        ({"domain": "Shop.example.com"}, "data.domain: must be in lower case"),
        ({"domain": "https://shop.example.com"}, "data.domain: must be a domain"),
        ({"domain": "xn--80aaxitdbjk.example"}, "data.domain: an international domain"),
        ({"host": None}, "data.host: missing"),
        ({"host": "https://shop.example.com/"}, "data.host: must be a host"),
        ({"url": "/cart"}, "data.url: must be a full address"),
        ({"url": "http://[::1"}, "data.url: must be a full address"),
        ({"url": 7}, "data.url: must be a full address"),
        ({"path": 7}, "data.path: must be a string"),
        ({"title": 7}, "data.title: must be a string"),
        ({"referrer": False}, "data.referrer: must be a string"),
        ({"attributes": []}, "data.attributes: must be an object"),
        ({"properties": []}, "data.properties: must be an object"),
        ({"visitor_info": []}, "data.visitor_info: must be an object"),
        ({"visitor_info": {"first_name": 7}}, "data.visitor_info.first_name: must be a string"),
        ({"visitor_info": {"phone": None}}, "data.visitor_info.phone: must be left out, not null"),
        ({"visitor_info": {"points": [1]}}, "data.visitor_info.points: must be a string, a number or a boolean"),
        ({"visitor_info": {"gender": "f"}}, "data.visitor_info.gender: must be male or female"),
        ({"visitor_info": {"date_of_birth": "1.2.1990"}}, "data.visitor_info.date_of_birth: must be a date"),
        ({"visitor_info": {"date_of_birth": "1990-02-30"}}, "data.visitor_info.date_of_birth: must be a date"),
        ({"event_time": 1}, "data.event_time: not a key of the data object"),
        ({"guest_uid": "g1"}, "data.guest_uid: must be left out, as in the form"),
        ({"visitor_uid": None}, "data.visitor_uid: must be the same as in the form"),
    ],
)
def test_a_wrong_key_of_the_data_object_is_named(changes: dict[str, Any], fault: str) -> None:
    assert any(found.startswith(fault) for found in sent(an_event(**changes)).faults)


def test_a_page_view_without_its_page_and_an_update_of_no_info_are_wrong() -> None:
    assert sent(an_event("link", url=None)).faults == ("data.url: missing",)
    assert sent(an_event("update_info", visitor_info=None)).faults == ("data.visitor_info: missing",)


@pytest.mark.parametrize(
    ("kind", "required"),
    [
        ("add_to_cart", ["product_id", "qnt", "price"]),
        ("remove_from_cart", ["product_id", "qnt"]),
        ("update_cart", ["items"]),
        ("view_product", ["product_id"]),
        ("purchase", ["order_id", "revenue"]),
        ("order_update", ["order_id", "state"]),
        ("custom", ["key"]),
        ("file", ["file_url"]),
        ("link", []),
        ("mailto", ["email"]),
        ("update_info", []),
    ],
)
def test_every_required_property_is_missed(kind: str, required: list[str]) -> None:
    event = an_event(kind)
    del event["properties"]
    assert sent(event).faults == tuple(f"data.properties.{name}: missing" for name in required)


@pytest.mark.parametrize("kind", [kind for kind in RIGHT if kind != "custom"])
def test_only_custom_events_have_further_properties(kind: str) -> None:
    event = an_event(kind, properties={**RIGHT[kind], "colour": "red"})
    assert sent(event).faults == ("data.properties.colour: not a property of this event type",)


@pytest.mark.parametrize(
    ("kind", "name", "value", "problem"),
    [
        ("add_to_cart", "product_id", 1, "must be a string that is not empty"),
        ("add_to_cart", "product_id", "", "must be a string that is not empty"),
        ("add_to_cart", "qnt", "2", "must be a number"),
        ("add_to_cart", "qnt", True, "must be a number"),
        ("add_to_cart", "price", None, "must be a number"),
        ("add_to_cart", "product_name", 7, "must be a string"),
        ("view_product", "category_id", 7, "must be a string"),
        ("purchase", "revenue", "99.99", "must be a number"),
        ("purchase", "order_id", 12345, "must be a string that is not empty"),
        ("purchase", "state", 1, "must be a string"),
        ("purchase", "items", {}, "must be a list"),
        ("custom", "key", "with space", "must be letters, digits and _ only"),
        ("custom", "key", "event_key\n", "must be letters, digits and _ only"),
        ("link", "key_page_id", True, "must be a string or a number"),
        ("mailto", "email", "", "must be a string that is not empty"),
        ("file", "file_url", None, "must be a string that is not empty"),
    ],
)
def test_a_wrong_property_is_named(kind: str, name: str, value: object, problem: str) -> None:
    event = an_event(kind, properties={**RIGHT[kind], name: value})
    assert sent(event).faults == (f"data.properties.{name}: {problem}",)


def test_a_fault_in_a_list_has_its_index() -> None:
    items = [PRODUCT, {"product_id": "2", "price": "1"}, "x"]
    assert sent(an_event("update_cart", properties={"items": items})).faults == (
        "data.properties.items[1].qnt: missing",
        "data.properties.items[1].price: must be a number",
        "data.properties.items[2]: must be an object",
    )


@pytest.mark.parametrize("written", ["1e2", "1.5E3", "15E-1"])
def test_a_price_in_exponent_form_is_wrong(written: str) -> None:
    text = json.dumps(an_event("purchase")).replace("99.99", written)
    assert sent(text).faults == ("data.properties.revenue: must not be written in exponent form",)


def test_a_reason_never_quotes_what_it_complains_about() -> None:
    personal = "Zaphod"
    event = an_event(
        "purchase", visitor_info={"gender": personal, "date_of_birth": personal}, domain=personal, host=f"{personal}/"
    )
    judged = sent({**event, "type": personal, "url": personal}, visitor_uid=personal)
    assert len(judged.faults) >= 7
    assert personal not in " ".join(judged.faults)
