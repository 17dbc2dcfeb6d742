"""When the tracker has been told who a guest is, and uids that an application should not have returned."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from insend_relay.outbox.record import Record
from insend_relay.outbox.settings import Settings
from insend_relay.producers import InSend
from insend_relay.producers.request import Request, serving

Kept = Callable[[str], list[Record]]


class Odd:
    """A user object whose text is none."""

    def __str__(self) -> str:
        return None  # type: ignore[return-value]  # noqa: PLE0307 - that is what is odd about it


def request(user: Any, **cookies: str) -> Request:
    cookies = {"convead_guest_uid": "g.1", **cookies}
    return Request(settings=Settings(), cookies=cookies, visitor_uid=lambda: user)


def test_a_duplicate_tells_nothing_because_the_first_may_have_known_of_no_guest(insend: InSend, kept: Kept) -> None:
    insend.purchase(order_id=1, revenue=1, visitor_uid="42", idempotency_key="order-1")  # a job, in no request
    page = request("42")
    with serving(page):
        assert insend.purchase(order_id=1, revenue=1, idempotency_key="order-1").where == "duplicate"
        told = [page.known.new_value]
        insend.link()
    assert [*map(bool, [*told, page.known.new_value])] == [False, True]
    assert [json.loads(record.payload).get("guest_uid") for record in kept("v/42")] == [None, "g.1"]


@pytest.mark.parametrize("uid", [Odd(), 10**5_000, ["42"]], ids=["object", "huge", "list"])
def test_a_uid_that_is_none_is_a_bad_event_and_never_another_exception(insend: InSend, uid: Any) -> None:
    with serving(request(uid, insend_known="something")):
        assert insend.link().where == "invalid"
    with serving(request(uid, convead_track_disable="1")):
        assert insend.link().where == "opted_out"
        assert insend.link(visitor_uid="42").where == "opted_out"  # for nobody can say that it is somebody else's
