"""What an event may say: every fault by its path, and nothing that keeps the rules refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insend_relay.producers import InvalidEvent
from insend_relay.producers.json_writer import MAX_BYTES, MAX_LEVELS
from insend_relay.producers.validation import Event, Validator
from insend_relay.producers.visitor import Visitor

VALIDATOR = Validator("key", "shop.example.com")
ITEM = {"product_id": "1", "qnt": 1, "price": 9.5}


def payload(type_: Any, properties: Any = None, *, strict: bool = True, **about: Any) -> dict[str, Any]:
    """The data object that an event would be sent as."""
    return dict(json.loads(text(type_, properties, strict=strict, **about)))


def text(type_: Any, properties: Any = None, *, strict: bool = True, **about: Any) -> str:
    info, attributes = about.pop("visitor_info", None), about.pop("attributes", None)
    key = about.pop("idempotency_key", None)
    event = Event(type_, properties, info, attributes, Visitor(**about), strict)
    return VALIDATOR.check(event, key).payload.decode()


def faults(type_: Any, properties: Any = None, *, strict: bool = True, **about: Any) -> dict[str, str]:
    """What is wrong with an event, by path."""
    with pytest.raises(InvalidEvent) as raised:
        text(type_, properties, strict=strict, **about)
    assert len(dict(raised.value.faults)) == len(raised.value.faults)
    return dict(raised.value.faults)


def test_every_fault_is_listed_by_its_path() -> None:
    items = [ITEM, {"product_id": True, "price": "9"}, "no item", {**ITEM, "product_nmae": "x"}]
    found = faults("purchase", {"order_id": 1.5, "items": items}, visitor_info={"gender": "m"}, url="shop/cart", path=1)
    assert found == {
        "properties.order_id": "must be a string or a whole number, not float",
        "properties.revenue": "missing",
        "properties.items[1].product_id": "must be a string or a whole number, not bool",
        "properties.items[1].price": 'must be a number, not str; give Decimal("12.50") for "12,50"',
        "properties.items[1].qnt": "missing",
        "properties.items[2]": "must be an object, not str",
        "properties.items[3].product_nmae": (
            "no such field; did you mean product_name? (strict=False sends it as it is)"
        ),
        "visitor_info.gender": 'must be "male" or "female"',
        "url": "must be a full address such as https://shop.example.com/cart",
        "path": "must be a string, not int",
    }


@pytest.mark.parametrize(
    ("type_", "properties", "path"),
    [
        ("add_to_cart", {"product_id": "1", "qnt": 1}, "properties.price"),
        ("remove_from_cart", {"product_id": "1"}, "properties.qnt"),
        ("update_cart", {}, "properties.items"),
        ("update_cart", {"items": None}, "properties.items"),
        ("view_product", {}, "properties.product_id"),
        ("purchase", {"revenue": 1}, "properties.order_id"),
        ("order_update", {"order_id": 1}, "properties.state"),
        ("order_update", {"order_id": 1, "state": ""}, "properties.state"),
        ("custom", {}, "properties.key"),
        ("custom", {"key": "no spaces"}, "properties.key"),
        ("custom", {"key": "ключ"}, "properties.key"),
        ("custom", {"key": "newline\n"}, "properties.key"),
        ("file", {"file_url": ""}, "properties.file_url"),
        ("mailto", {}, "properties.email"),
        ("link", {"key_page_id": True}, "properties.key_page_id"),
        ("mailto", {"email": "a@example.com", "anything": 1}, "properties.anything"),
        ("update_cart", {"items": {"0": ITEM}}, "properties.items"),
        ("update_cart", [], "properties"),
        ("view_product", {"product_id": ""}, "properties.product_id"),
        ("view_product", {"product_id": 1, "price": float("nan")}, "properties.price"),
        ("view_product", {"product_id": 1, "price": float("-inf")}, "properties.price"),
        ("view_product", {"product_id": 1, "price": Decimal("NaN")}, "properties.price"),
        ("view_product", {"product_id": 1, "price": Decimal("1E+999999")}, "properties.price"),
        ("view_product", {"product_id": 1, "price": Decimal("1E-999999")}, "properties.price"),
        ("view_product", {"product_id": 1, "price": 10**5000}, "properties.price"),
        ("view_product", {"product_id": 1, "product_name": "half \ud83d"}, "properties.product_name"),
        ("custom", {"key": "k", "a": {"b": [1, {2: 3}]}}, "properties.a.b[1].<key 1>"),
        ("custom", {"key": "k", "a": {"b\udc00": 1}}, "properties.a.<key 1>"),
        ("custom", {"key": "k", "a": {"b": object()}}, "properties.a.b"),
        ("custom", {"key": "k", "a": {"b": {1, 2}}}, "properties.a.b"),
    ],
)
def test_a_broken_rule_is_named_by_its_path(type_: str, properties: Any, path: str) -> None:
    assert list(faults(type_, properties)) == [path]


@pytest.mark.parametrize(
    ("about", "path"),
    [
        ({"visitor_uid": "Anna"}, "visitor_uid"),
        ({"visitor_uid": "a_b"}, "visitor_uid"),
        ({"visitor_uid": "a" * 129}, "visitor_uid"),
        ({"visitor_uid": "4\n2"}, "visitor_uid"),
        ({"visitor_uid": 4.2}, "visitor_uid"),
        ({"visitor_uid": True}, "visitor_uid"),
        ({"guest_uid": "a b"}, "guest_uid"),
        ({"guest_uid": 42}, "guest_uid"),
        ({"host": "https://shop.example.com"}, "host"),
        ({"url": "https:///cart"}, "url"),
        ({"url": "https://:8080/"}, "url"),
        ({"url": "https://[/"}, "url"),
        ({"url": "half \udc00"}, "url"),
        ({"title": 0}, "title"),
        ({"path": "half \udc00"}, "path"),
        ({"referrer": ["https://example.net/"]}, "referrer"),
        ({"attributes": ["a"]}, "attributes"),
        ({"attributes": {"a": float("inf")}}, "attributes.a"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": 7}, "idempotency_key"),
    ],
)
def test_who_and_where_have_rules_too(about: dict[str, Any], path: str) -> None:
    assert list(faults("link", **about)) == [path]


def test_capital_letters_in_a_visitor_uid_get_a_text_that_says_what_to_do() -> None:
    assert "small letters" in faults("link", visitor_uid="ANNA")["visitor_uid"]


def test_an_unknown_event_type_is_refused_with_the_nearest_known_name() -> None:
    assert "did you mean purchase?" in faults("purchse", {"a": 1})["type"]
    assert "known are add_to_cart" in faults("zzz")["type"]


@pytest.mark.parametrize("type_", ["", "two words", "x" * 65, "new\nline", None, 7, ["purchase"], "ä"])
def test_a_type_that_is_no_name_is_refused_even_when_not_strict(type_: Any) -> None:
    assert list(faults(type_, strict=False)) == ["type"]


def test_unknown_types_and_properties_go_out_as_they_are_when_not_strict() -> None:
    assert payload("call_back", {"a": [None, 1]}, strict=False)["properties"] == {"a": [None, 1]}
    item = {**ITEM, "vendor": "Acme"}
    assert payload("update_cart", {"items": [item], "x": None}, strict=False)["properties"] == {
        "items": [item],
        "x": None,
    }


def test_what_is_known_is_checked_even_when_not_strict() -> None:
    assert list(faults("purchase", {"order_id": 1, "extra": 1}, strict=False)) == ["properties.revenue"]


def test_ids_go_out_as_strings_and_a_page_key_as_given() -> None:
    properties = payload("view_product", {"product_id": 7, "category_id": 10**30})["properties"]
    assert properties == {"product_id": "7", "category_id": str(10**30)}
    assert payload("link", {"key_page_id": 123})["properties"] == {"key_page_id": 123}
    assert payload("link", {"key_page_id": "a"})["properties"] == {"key_page_id": "a"}


@pytest.mark.parametrize(
    ("number", "digits"),
    [
        (Decimal("1.10"), "1.10"),
        (Decimal("1E+2"), "100"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("12345678901234567890.123456789012345678901"), "12345678901234567890.123456789012345678901"),
        (Decimal("-0.50"), "-0.50"),
        (10**40, str(10**40)),
        (-(2**63) - 1, "-9223372036854775809"),
        (125.03, "125.03"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e22, "10000000000000000000000.0"),
        (1e-7, "0.0000001"),
        (-0.0, "-0.0"),
    ],
)
def test_numbers_are_exact_and_never_in_exponent_form(number: Any, digits: str) -> None:
    assert text("view_product", {"product_id": "1", "price": number}).endswith(f'"price":{digits}}}}}')


def test_none_in_an_optional_property_is_left_out_and_a_custom_event_keeps_it() -> None:
    assert payload("view_product", {"product_id": 1, "price": None})["properties"] == {"product_id": "1"}
    assert payload("custom", {"key": "k", "a": None})["properties"] == {"key": "k", "a": None}


def test_empty_parts_are_left_out_but_properties() -> None:
    nothing = {"url": "", "title": "", "visitor_uid": "", "guest_uid": "", "host": ""}
    data = payload("abandoned", {}, strict=False, visitor_info={"email": None}, attributes={}, **nothing)
    assert list(data) == ["app_key", "type", "domain", "host", "properties"]
    assert data["properties"] == payload("abandoned", strict=False)["properties"] == {}


@pytest.mark.parametrize("info", [None, {}, {"email": None}])
def test_an_update_info_without_anything_to_update_is_refused(info: Any) -> None:
    assert list(faults("update_info", visitor_info=info)) == ["visitor_info"]


@pytest.mark.parametrize(
    ("about", "url"),
    [
        ({}, "https://shop.example.com/"),
        ({"host": "www.example.com:81", "path": "/p/1"}, "https://www.example.com:81/p/1"),
        ({"url": "http://example.net/a", "path": "/b"}, "http://example.net/a"),
    ],
)
def test_a_page_view_always_names_its_page(about: dict[str, Any], url: str) -> None:
    assert payload("link", **about)["url"] == url


@pytest.mark.parametrize(
    ("about", "host"),
    [
        ({}, "shop.example.com"),
        ({"url": "https://www.Example.com:8443/a?b#c"}, "www.example.com:8443"),
        ({"url": "http://name:secret@example.net"}, "example.net"),
        ({"url": "https://[::1]:8080/"}, "[::1]:8080"),
        ({"url": "https://магазин.example/я"}, "магазин.example"),
        ({"url": "https://example.net/", "host": "other.example:81"}, "other.example:81"),
    ],
)
def test_the_host_is_the_urls_else_the_domain(about: dict[str, Any], host: str) -> None:
    assert payload("link", **about)["host"] == host


def test_a_visitor_uid_may_be_an_int() -> None:
    assert payload("link", visitor_uid=42)["visitor_uid"] == "42"


def test_any_mapping_and_any_tuple_will_do() -> None:
    properties: Mapping[str, Any] = MappingProxyType({"items": (MappingProxyType(ITEM),)})
    assert payload("update_cart", properties)["properties"] == {"items": [ITEM]}


def test_an_event_may_have_64_kb_and_no_more() -> None:
    empty = len(text("custom", {"key": "k", "a": ""}).encode())
    fits = "я" * ((MAX_BYTES - empty) // 2)
    assert len(text("custom", {"key": "k", "a": fits}).encode()) >= MAX_BYTES - 1
    assert list(faults("custom", {"key": "k", "a": fits + "яя"})) == ["event"]


def test_a_small_object_that_would_grow_without_end_is_refused_at_once() -> None:
    laughs: Any = ["ha"] * 10
    for _ in range(25):
        laughs = [laughs] * 10
    assert list(faults("custom", {"key": "k", "a": laughs})) == ["event"]
    assert list(faults("update_cart", {"items": [ITEM] * 1_000_000})) == ["event"]


def test_of_very_many_faults_the_first_is_named() -> None:
    found = faults("update_cart", {"items": [{"product_id": "1", "qnt": 1}] * 100_000})
    assert found == {"event": "has more than 1,000 faults, such as [0].price: missing"}


def nested(levels: int) -> Any:
    """Properties such that the data object has that many levels."""
    value: Any = []
    for _ in range(levels - 3):
        value = [value]
    return {"key": "k", "a": value}


def test_32_levels_are_allowed_and_a_33rd_is_not() -> None:
    assert payload("custom", nested(MAX_LEVELS))["properties"] == nested(MAX_LEVELS)
    (path,) = faults("custom", nested(MAX_LEVELS + 1))
    assert path == "properties.a" + "[0]" * (MAX_LEVELS - 2)


def test_a_structure_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    assert len(faults("custom", {"key": "k", "loop": loop})) == 1
    loop["many"] = [loop] * 10
    assert "more than 1,000 faults" in faults("custom", {"key": "k", "loop": loop})["event"]


def test_no_fault_names_a_value() -> None:
    secret = "anna@example.com"
    found = faults(
        "purchase",
        {"order_id": [secret], "revenue": secret, secret: secret, "items": [secret]},
        visitor_info={"gender": secret, "date_of_birth": secret, secret: [secret]},
        visitor_uid=secret,
        guest_uid=secret,
        host=f"{secret}/",
        url=secret,
    )
    assert len(found) == 11
    assert secret not in str(found)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**500), 2**500)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@MANY
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=5))
def test_any_further_property_of_a_custom_event_arrives_as_it_is(further: dict[str, Any]) -> None:
    properties = {**further, "key": "k"}
    written = text("custom", properties)
    assert json.loads(written)["properties"] == properties
    again = {"app_key": "key", "type": "custom", "domain": "shop.example.com", "host": "shop.example.com"}
    if not any(isinstance(token, float) for token in _leaves(further)):
        assert written == json.dumps({**again, "properties": properties}, ensure_ascii=False, separators=(",", ":"))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


@MANY
@given(st.text(st.characters(exclude_categories=[]), max_size=10))
def test_a_lone_surrogate_is_refused_and_all_other_unicode_goes_through(value: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in value):
        assert list(faults("mailto", {"email": f"a{value}"})) == ["properties.email"]
    else:
        assert payload("custom", {"key": "k", "a": value})["properties"]["a"] == value
