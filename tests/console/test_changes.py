"""What a correction changes, as it is shown; and the JSON text that an editor shows."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insend_relay.console.commands.changes import changes
from insend_relay.console.commands.json_literal import indented

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def shown(before: str, after: str, *, personal: bool = False) -> list[str]:
    found = changes(before.encode(), after.encode(), personal=personal)
    return [f"{change.path}: {change.before} -> {change.after}" for change in found]


def test_each_changed_added_and_removed_value_is_a_line() -> None:
    before = '{"a":1,"items":[{"qnt":1},{"qnt":2}],"gone":[],"same":null}'
    after = '{"a":2,"items":[{"qnt":1},{"qnt":"2"},{}],"same":null,"new":{"x":true}}'
    assert shown(before, after) == [
        "a: 1 -> 2",
        'items[1].qnt: 2 -> "2"',
        "gone: [] -> (absent)",
        "items[2]: (absent) -> {}",
        "new.x: (absent) -> true",
    ]


def test_numbers_are_compared_as_they_are_written() -> None:
    assert shown('{"a":1.10,"b":1}', '{"a":1.1,"b":true}') == ["a: 1.10 -> 1.1", "b: 1 -> true"]


def test_personal_values_are_masked_wherever_they_stand() -> None:
    before = '{"visitor_info":{"phone":"1","vip":true},"properties":{"customer_phone":5,"note":"a@b.example"}}'
    after = (
        '{"visitor_info":{"phone":"2","vip":false},"properties":{"customer_phone":6,"note":"c@d.example","a@b.io":1}}'
    )
    assert shown(before, after) == [
        "visitor_info.phone: ••• -> •••",
        "visitor_info.vip: ••• -> •••",
        "properties.customer_phone: ••• -> •••",
        "properties.note: ••• -> •••",
        "properties.•••: (absent) -> 1",
    ]
    assert shown(before, after, personal=True)[0] == 'visitor_info.phone: "1" -> "2"'


def test_a_value_that_is_erased_shows_as_empty() -> None:
    assert shown('{"visitor_info":{"phone":"1"}}', '{"visitor_info":{"phone":""}}') == ['visitor_info.phone: ••• -> ""']


def test_a_long_value_is_cut() -> None:
    (line,) = shown('{"a":""}', json.dumps({"a": "x" * 5_000}))
    assert len(line) < 300


@pytest.mark.parametrize("before", ["", "{", "[" * 50_000, "[" * 950 + "]" * 950])
def test_what_was_not_readable_is_replaced(before: str) -> None:
    assert shown(before, '{"a":1}') == ["the event: (not readable) -> (replaced)", "a: (absent) -> 1"]


@given(VALUES)
def test_indented_text_is_the_same_json(value: object) -> None:
    text = json.dumps(value).encode()
    assert json.loads(indented(text)) == json.loads(text)


@given(VALUES, VALUES)
def test_changes_of_any_two_values_never_fail_and_equal_ones_have_none(one: object, other: object) -> None:
    first, second = (json.dumps(value).encode() for value in (one, other))
    assert changes(first, first, personal=False) == []
    assert bool(changes(first, second, personal=False)) == (first != second) or one == other


def test_text_for_the_editor_keeps_numbers_and_names_as_they_are() -> None:
    assert indented(b'{"a":1.10,"a":1e400,"b":[],"c":{},"d":[1,{"e":"\\u00e9"}]}') == (
        '{\n  "a": 1.10,\n  "a": 1e400,\n  "b": [],\n  "c": {},\n  "d": [\n    1,\n    {\n      "e": "é"\n    }\n  ]\n}'
    )
    assert indented(b'{"\\ud800":"\\udfff\\u00e9"}').encode() == b'{\n  "\\ud800": "\\udfff\\u00e9"\n}'
    assert indented(b"\xff{") == "\\xff{"
