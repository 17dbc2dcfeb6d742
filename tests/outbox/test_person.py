"""Which events belong to one person."""

from __future__ import annotations

import pytest
from lanes import ALICE, BOB, GUEST, OTHER

from insend_relay.outbox.keys import Lane
from insend_relay.outbox.person import Links, Named, Person, mentions, named_by

PHONE = Lane("shop", "g", "phone")


def links(*named: tuple[Lane, Lane]) -> Links:
    """Events that name a visitor and a guest."""
    found = Links()
    for visitor, guest in named:
        found.add(Named(visitor, guest))
    return found


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (b'{"visitor_uid":"alice","guest_uid":"guest-1"}', Named(ALICE, GUEST)),
        (b'{"visitor_uid":"alice"}', Named(ALICE)),
        (b'{"visitor_uid":" alice "}', Named(ALICE)),
        (b'{"visitor_uid":42}', Named(Lane("shop", "v", "42"))),
        (b'{"visitor_uid":42.0}', Named(Lane("shop", "v", "42"))),
        (b'{"visitor_uid":NaN}', Named(None)),
        (b'{"visitor_uid":"","guest_uid":"guest-1"}', Named(GUEST)),
        (b'{"visitor_uid":null,"guest_uid":"guest-1"}', Named(GUEST)),
        (b"app_key=shop&visitor_uid=alice&guest_uid=guest-1", Named(ALICE, GUEST)),
        (b'{"visitor_uid": "alice", "guest_uid": "guest-1", cut of', Named(ALICE, GUEST)),
        (b'{"visitor_uid":"\\ud800"}', Named(Lane("shop", "v", "?"))),
        (b'{"visitor_uid":true,"guest_uid":["guest-1"]}', Named(None)),
        (b'["visitor_uid"]', Named(None)),
        (b"\xff", Named(None)),
        (b"", Named(None)),
    ],
)
def test_a_payload_says_whose_event_it_is_when_no_lane_does(payload: bytes, named: Named) -> None:
    assert named_by("shop", None, "", payload) == named


def test_a_lane_says_whose_event_it_is_whatever_its_payload_says() -> None:
    other = b'{"visitor_uid":"bob","guest_uid":"phone"}'
    assert named_by("shop", GUEST, "", other) == Named(GUEST)
    assert named_by("shop", ALICE, "guest-1", other) == Named(ALICE, GUEST)
    assert named_by("shop", ALICE, "", other) == Named(ALICE, PHONE), (
        "a letter that broke the rules has no field for it"
    )


def test_a_visitor_has_the_guests_that_its_events_name() -> None:
    person = Person("alice").linked(links((ALICE, GUEST), (ALICE, PHONE), (BOB, Lane("shop", "g", "another"))))
    assert person.found == {GUEST, PHONE}
    assert [person.owns(lane) for lane in (ALICE, OTHER, GUEST, PHONE, BOB)] == [True, True, True, True, False]
    assert not person.undecided | person.shared


def test_a_guest_leads_to_the_one_visitor_that_it_became_and_to_its_other_guests() -> None:
    person = Person("guest-1").linked(links((ALICE, GUEST), (ALICE, PHONE)))
    assert person.found == {ALICE, PHONE}


def test_a_guest_who_became_several_visitors_leads_to_none_of_them() -> None:
    person = Person("guest-1").linked(links((ALICE, GUEST), (BOB, GUEST), (BOB, PHONE)))
    assert person.undecided == {ALICE, BOB}
    assert not person.found | person.shared


def test_a_customer_who_shares_the_browser_is_not_erased_with_the_other() -> None:
    person = Person("alice").linked(links((ALICE, GUEST), (BOB, GUEST), (BOB, PHONE)))
    assert person.found == {GUEST}
    assert person.shared == {BOB}
    assert not person.undecided
    assert not person.owns(PHONE)


def test_one_app_may_be_meant() -> None:
    elsewhere = Lane("second", "g", "guest-2")
    both = links((ALICE, GUEST), (OTHER, elsewhere))
    assert Person("alice").linked(both).found == {GUEST, elsewhere}
    person = Person("alice", "shop").linked(both)
    assert person.found == {GUEST}
    assert not person.owns(OTHER)
    assert person.tombstones() == ["shop/g/alice", "shop/v/alice", "shop/g/guest-1"]
    assert Person("alice").tombstones() == ["/g/alice", "/v/alice"]


def test_the_lanes_of_a_person_are_those_of_the_uid_in_every_app_and_those_that_were_found() -> None:
    person = Person("Alice.1").linked(links((Lane("shop", "v", "Alice.1"), GUEST)))
    assert person.lanes("v", ["shop", "second"]) == [Lane("second", "v", "Alice.1"), Lane("shop", "v", "Alice.1")]
    assert person.lanes("g", ["shop", "second"]) == [
        Lane("second", "g", "Alice.1"),
        Lane("shop", "g", "Alice.1"),
        GUEST,
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [(b'"42"', True), (b"shop/v/42", True), (b"42", True), (b"142", False), (b"4.42", False), (b"x-42", False)],
)
def test_a_uid_is_mentioned_as_a_whole_word(text: bytes, *, found: bool) -> None:
    assert mentions(text, "42") is found
