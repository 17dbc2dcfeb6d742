from __future__ import annotations

from typing import Any

import pytest

from insend_relay.outbox.masking import MASK, mask_answer, mask_event, mask_text


def test_visitor_info_keeps_its_keys_and_loses_its_values() -> None:
    data = {"visitor_info": {"first_name": "Zoë", "age": 30, "erased": "", "tags": ["a"], "more": {"x": 1}}}
    assert mask_event(data)["visitor_info"] == {
        "first_name": MASK,
        "age": MASK,
        "erased": "",
        "tags": [MASK],
        "more": {"x": MASK},
    }


@pytest.mark.parametrize(
    "key",
    ["email", "Phone", "customerPhone", "billing_address", "first_name", "customer-name", "name", "userName", "ZIP"],
)
def test_a_property_with_a_personal_name_is_masked(key: str) -> None:
    assert mask_event({"properties": {key: "x"}}) == {"properties": {key: MASK}}
    assert mask_event({"properties": {"items": [{key: {"of": [7, None]}}]}}) == {
        "properties": {"items": [{key: {"of": [MASK, None]}}]}
    }


@pytest.mark.parametrize("key", ["product_name", "order_id", "product_url", "key", "telescope", "description"])
def test_other_properties_stay(key: str) -> None:
    assert mask_event({"properties": {key: "x", "price": 1.5}}) == {"properties": {key: "x", "price": 1.5}}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to zoe.o+x@example.com now", f"write to {MASK} now"),
        ("https://shop.example.com/?to=zoe%40example.com&page=2", f"https://shop.example.com/?to={MASK}&page=2"),
        ("https://shop.example.com/?phone=555&page=2", f"https://shop.example.com/?phone={MASK}&page=2"),
        ("https://shop.example.com/?user[email]=555#x", f"https://shop.example.com/?user[email]={MASK}#x"),
        ("зоя@пример.example", MASK),
        ("a plain text", "a plain text"),
    ],
)
def test_addresses_in_any_text_are_masked(text: str, masked: str) -> None:
    assert mask_text(text) == masked
    assert mask_event({"url": text, "properties": {"list": [text]}}) == {
        "url": masked,
        "properties": {"list": [masked]},
    }


def test_uids_stay_and_an_address_as_a_key_does_not() -> None:
    data = {"visitor_uid": "42", "guest_uid": "g-1", "attributes": {"zoe@example.com": True}}
    assert mask_event(data) == {"visitor_uid": "42", "guest_uid": "g-1", "attributes": {MASK: True}}


@pytest.mark.parametrize("data", [None, "zoe", ["zoe"], 7])
def test_what_is_no_object_is_masked_whole(data: Any) -> None:
    assert mask_event(data) == MASK


INFO = {"first_name": "Zoë", "last_name": "O'Hara Lind", "language": "ru", "phone": 555123}


@pytest.mark.parametrize(
    ("answer", "masked"),
    [
        ("Zoë is no name", f"{MASK} is no name"),
        ('"zo\\u00eb" is no name', f'"{MASK}" is no name'),
        ("?n=O%27Hara%20Lind", f"?n={MASK}"),
        ("?n=O%27Hara+Lind", f"?n={MASK}"),
        ("<b>O&#x27;Hara Lind</b>", f"<b>{MASK}</b>"),
        ("language 'ru' is not true", f"language '{MASK}' is not true"),
        ("call 555123", f"call {MASK}"),
        ("call +1 (555) 123-45-67 please", f"call {MASK} please"),
        ("at 2026-05-01 12:00:00", "at 2026-05-01 12:00:00"),
        ("ask zoe@example.com", f"ask {MASK}"),
        ("the name was O'Hara Li", f"the name was {MASK}"),
        ("order_id: missing", "order_id: missing"),
    ],
)
def test_what_an_answer_echoes_of_the_event_is_masked(answer: str, masked: str) -> None:
    assert mask_answer(answer, {"visitor_info": INFO, "properties": {"order_id": "7"}}) == masked


def test_an_echo_of_a_property_with_a_personal_name_is_masked() -> None:
    data = {"properties": {"key": "callback", "contact_phone": "5 5 5", "topic": "callback"}}
    assert mask_answer("callback to 5 5 5", data) == f"callback to {MASK}"


def test_the_search_is_bounded_so_that_a_hostile_text_cannot_hold_us_up() -> None:
    assert mask_text("a" * 100 + "@example.com") == "a" * 36 + MASK
