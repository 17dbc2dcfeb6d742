"""The form of an event says its uids and its payload as they were sent, whatever they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
from delivering import Arrived, drained, ledger
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from insend_relay.operations.dead import DeadLetters
from insend_relay.outbox import record
from insend_relay.outbox.entry import Entry
from insend_relay.outbox.facts import Facts
from insend_relay.outbox.keys import Lane, uid_bytes, uid_text
from insend_relay.outbox.store import Outbox
from insend_relay.worker.form import form
from insend_relay.worker.head import UNDECODABLE

UIDS = ["Мария", "a/v/b", "50%", "%41", "~", "a b+c&d=e", "\n\x00\x1b", "u" * 200, "я" * 100, "\udcff\udcfe", "A.B_c-9"]
uids = st.binary(min_size=1, max_size=300).map(uid_text) | st.sampled_from(UIDS)


def fields(body: bytes) -> dict[str, bytes]:
    """A form's fields as the bytes that they stand for."""
    read = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, encoding="latin-1")
    assert len(dict(read)) == len(read)
    return {name: value.encode("latin-1") for name, value in read}


def form_of(lane: Lane, guest_uid: str, payload: bytes) -> bytes:
    """The form of an event after its way through the outbox."""
    draft = record.draft(lane, record.new_id(), guest_uid, payload, Facts())
    return form(str(lane), record.decode(draft))


@given(uids, uids | st.just(""), st.binary(max_size=500))
def test_a_visitors_form_has_the_bytes_that_were_given(uid: str, guest_uid: str, payload: bytes) -> None:
    found = fields(form_of(Lane("app1", "v", uid), guest_uid, payload))
    guest = {"guest_uid": uid_bytes(guest_uid)} if guest_uid else {}
    assert found == {"app_key": b"app1", "visitor_uid": uid_bytes(uid), **guest, "data": payload}


@given(uids)
def test_a_guests_form_has_the_bytes_that_were_given(uid: str) -> None:
    found = fields(form_of(Lane("app1", "g", uid), "", b"{}"))
    assert found == {"app_key": b"app1", "guest_uid": uid_bytes(uid), "data": b"{}"}


@pytest.mark.parametrize("payload", [b"{}", b'{"a":"' + b"ab" * 5_000 + b'"}', bytes(range(256)) * 4], ids=len)
def test_any_uid_and_any_payload_reach_the_tracker_byte_for_byte(
    payload: bytes, outbox: Outbox, delivering: Callable[..., Any], independent: tuple[str, Arrived]
) -> None:
    url, arrived = independent
    for uid in UIDS:
        outbox.append(Lane("app1", "g", uid), record.new_id(), payload)
        outbox.append(Lane("app1", "v", uid), record.new_id(), payload, guest_uid=uid)
    with delivering(tracker_url=url):
        drained(outbox)
    found = [fields(body) for _, _, body in arrived]
    assert all(each["data"] == payload for each in found)
    guests = [each["guest_uid"] for each in found if "visitor_uid" not in each]
    both = [(each["visitor_uid"], each["guest_uid"]) for each in found if "visitor_uid" in each]
    sent = sorted(map(uid_bytes, UIDS))
    assert sorted(guests) == sent
    assert sorted(both) == [(uid, uid) for uid in sent]
    for guest in sent:
        order = ["visitor_uid" in each for each in found if each["guest_uid"] == guest]
        assert order == [False, True], "what the guest did goes before the event that names both"


def test_a_webhook_is_not_sent_as_an_event_but_kept(
    outbox: Outbox, delivering: Callable[..., Any], independent: tuple[str, Arrived]
) -> None:
    url, arrived = independent
    webhook = Entry(Lane("app1", "v", "42"), record.new_id(), b'{"state":"paid"}' * 20, facts=Facts("webhook"))
    outbox.enter(webhook)
    with delivering(tracker_url=url):
        wait_until(lambda: ledger(outbox).get("dead") == 1)
    (letter,) = DeadLetters(outbox).scan()
    assert (letter.reason, letter.payload, arrived) == (UNDECODABLE, webhook.payload, [])
