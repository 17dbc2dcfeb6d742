"""None for a uid names no one: it is never the person at the screen. None for the page leaves it out."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from counting import counted
from django.utils.functional import SimpleLazyObject, lazy
from werkzeug.local import LocalProxy

from insend_relay.outbox.record import Record
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.producers import NOT_GIVEN, AsyncInSend, InSend, InvalidEvent, call_site
from insend_relay.producers.request import Request, serving
from insend_relay.producers.testing import RecordedEvents
from insend_relay.producers.visitor import VisitorScope

Kept = Callable[[str], list[Record]]
Call = dict[str, Any]
SETTINGS = Settings()
ADMIN_PAGE: dict[str, Any] = {
    "url": "https://shop.example.com/admin/orders/5001?q=anna@example.com",
    "path": "/admin/orders/5001",
    "host": "admin.shop.example.com",
    "referrer": "https://shop.example.com/admin/orders",
}
EMPTY: list[Call] = [
    {"visitor_uid": None},
    {"guest_uid": None},
    {"visitor_uid": None, "guest_uid": None},
    {"visitor_uid": ""},
    {"visitor_uid": "", "guest_uid": None},
]
ADVICE = "leave the argument out to use the request"


def never() -> str:
    raise AssertionError("asked")


def staff(*, debug: bool = False, cookies: dict[str, str] | None = None, ask: Callable[[], str] = never) -> Request:
    """A request of a staff member on an internal page; nothing may ask who is logged in."""
    cookies = {"convead_guest_uid": "staffs-guest", **(cookies or {})}
    return Request(settings=SETTINGS, cookies=cookies, visitor_uid=ask, debug=debug, **ADMIN_PAGE)


def ship(insend: InSend, **about: Any) -> str:
    return insend.order_update(order_id=5001, state="shipped", visitor_info={"email": "a@example.com"}, **about).where


def only(kept: Kept, lane: str) -> dict[str, Any]:
    (record,) = kept(lane)
    return dict(json.loads(record.payload))


@pytest.fixture(autouse=True)
def no_site_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins as a process does."""
    monkeypatch.setattr(call_site, "_warned", {})


# Who


@pytest.mark.parametrize("empty", EMPTY)
def test_empty_uids_take_no_one_from_the_request(
    insend: InSend, outbox: Outbox, caplog: pytest.LogCaptureFixture, empty: Call
) -> None:
    request = staff()
    with serving(request):
        assert ship(insend, **empty) == "no_visitor"
        with insend.visitor(**empty):
            assert ship(insend) == "no_visitor"
        with insend.visitor(visitor_uid="block", guest_uid="block"):
            assert ship(insend, **empty) == "no_visitor"
            with insend.visitor(**empty):
                assert ship(insend) == "no_visitor"
        pasted = insend("event", "order_update", {"order_id": 1, "state": "paid"}, **empty)
        assert pasted.where == "no_visitor"
    assert counted(outbox) == {"no_visitor": 5}
    assert request.known.new_value is None
    assert len(caplog.records) == 2  # for two call sites: ``ship`` and the pasted one


@pytest.mark.parametrize(
    ("given", "lane", "uids"),
    [
        ({"visitor_uid": None, "guest_uid": "customers-guest"}, "g/customers-guest", (None, "customers-guest")),
        ({"visitor_uid": 7, "guest_uid": None}, "v/7", ("7", None)),
        ({"visitor_uid": "", "guest_uid": "customers-guest"}, "g/customers-guest", (None, "customers-guest")),
        ({"visitor_uid": 0, "guest_uid": None}, "v/0", ("0", None)),
    ],
)
def test_one_uid_beside_a_none_is_the_whole_of_the_visitor(
    insend: InSend, kept: Kept, given: Call, lane: str, uids: tuple[str | None, str | None]
) -> None:
    with serving(staff()), insend.visitor(visitor_uid="block", guest_uid="block"):
        assert ship(insend, **given) == "redis"
    found = only(kept, lane)
    assert (found.get("visitor_uid"), found.get("guest_uid")) == uids


def test_left_out_and_not_given_are_the_same(insend: InSend, kept: Kept) -> None:
    with serving(staff(ask=lambda: "staff")):
        insend.link(visitor_uid=NOT_GIVEN, guest_uid=NOT_GIVEN, url=NOT_GIVEN)
        with insend.visitor(visitor_uid=NOT_GIVEN):
            insend.link()
    assert [json.loads(record.payload)["path"] for record in kept("v/staff")] == [ADMIN_PAGE["path"]] * 2


def test_what_the_browser_is_known_by_stays_as_it_is(insend: InSend) -> None:
    first = staff(ask=lambda: "staff")
    with serving(first):
        insend.link()
    later = staff(ask=lambda: "staff", cookies={"insend_known": str(first.known.new_value)})
    with serving(later):
        assert ship(insend, visitor_uid=None, guest_uid="customers-guest") == "redis"
        assert ship(insend, visitor_uid=None) == "no_visitor"
        assert later.known.new_value is None
        assert later.uids("test-app-key", "staff") == ("staff", "")


@pytest.mark.parametrize("empty", [LocalProxy(lambda: None), SimpleLazyObject(lambda: ""), lazy(str, str)(" ")])
def test_a_proxy_that_stands_for_no_uid_names_no_one(
    insend: InSend, outbox: Outbox, caplog: pytest.LogCaptureFixture, empty: Any
) -> None:
    with serving(staff(cookies={"convead_track_disable": "1"})):
        assert ship(insend, visitor_uid=empty) == "no_visitor"
    assert counted(outbox) == {"no_visitor": 1}
    assert caplog.messages[0].startswith(f"{__file__}:")


@pytest.mark.parametrize("empty", EMPTY)
def test_who_opted_out_in_the_browser_is_not_the_one_whom_an_event_does_not_name(
    insend: InSend, outbox: Outbox, empty: Call
) -> None:
    with serving(staff(cookies={"convead_track_disable": "1"})):
        assert ship(insend, **empty) == "no_visitor"
    assert counted(outbox) == {"no_visitor": 1}


def test_a_bad_uid_is_not_the_one_who_opted_out_in_the_browser(insend: InSend, outbox: Outbox) -> None:
    cookies = {"convead_track_disable": "1"}
    with serving(Request(settings=SETTINGS, cookies=cookies, visitor_uid=lambda: "staff")):
        assert ship(insend, visitor_uid="Not a uid") == "invalid"
        assert ship(insend, guest_uid="Not a uid") == "invalid"
    assert counted(outbox) == {"accepted": 2, "dead": 2}


def test_a_bad_event_about_no_one_is_a_letter_without_a_visitor(insend: InSend, outbox: Outbox) -> None:
    with serving(staff(cookies={"convead_track_disable": "1"})):
        assert insend.order_update(order_id=1, state="", visitor_uid=None).where == "invalid"
    assert counted(outbox) == {"accepted": 1, "dead": 1}
    ((_, letter),) = dict(outbox.read("HGETALL", outbox.keys.dead)).items()
    assert b"staff" not in letter


# Where


@pytest.mark.parametrize("given", [{"visitor_uid": "customer"}, {"guest_uid": "customers-guest"}])
@pytest.mark.parametrize("block", [False, True])
def test_an_event_about_another_person_does_not_carry_the_page_of_the_request(
    insend: InSend, kept: Kept, given: Call, *, block: bool
) -> None:
    with serving(staff()), insend.visitor(**given) if block else nullcontext():
        assert ship(insend, **({} if block else given)) == "redis"
    found = only(kept, "v/customer" if "visitor_uid" in given else "g/customers-guest")
    assert not {"url", "path", "title", "referrer"} & found.keys()
    assert found["host"] == "shop.example.com"
    assert "admin" not in json.dumps(found)


@pytest.mark.parametrize("type", ["link", "view_product", "file", "mailto"])
def test_an_event_of_a_page_carries_it_whoever_it_is_about(insend: InSend, kept: Kept, type: str) -> None:
    properties: dict[str, Call] = {
        "view_product": {"product_id": 1},
        "file": {"file_url": "f"},
        "mailto": {"email": "a@example.com"},
    }
    with serving(staff()):
        insend.event(type, properties.get(type), visitor_uid="customer")
    found = only(kept, "v/customer")
    assert {name: found[name] for name in ADMIN_PAGE} == ADMIN_PAGE


def test_a_page_that_the_program_gives_is_kept_whoever_the_event_is_about(insend: InSend, kept: Kept) -> None:
    with serving(staff()), insend.visitor(url="https://shop.example.com/order/1", title="Order"):
        ship(insend, visitor_uid="customer", path="/order/1")
    found = only(kept, "v/customer")
    assert (found["url"], found["title"], found["path"]) == ("https://shop.example.com/order/1", "Order", "/order/1")
    assert "referrer" not in found


@pytest.mark.parametrize("none", [None, ""])
def test_none_leaves_a_part_of_the_page_out(insend: InSend, kept: Kept, none: str | None) -> None:
    with serving(staff(ask=lambda: "42")), insend.visitor(title="Block"):
        insend.view_product(product_id=1, url=none, title=none, referrer=none, host=none)
    found = only(kept, "v/42")
    assert not {"url", "title", "referrer"} & found.keys()
    assert (found["path"], found["host"]) == (ADMIN_PAGE["path"], "shop.example.com")


# What the application is told


@pytest.mark.parametrize("kind", [InSend, AsyncInSend])
@pytest.mark.parametrize(
    ("setting", "debug", "raises"),
    [
        ("auto", None, False),
        ("auto", False, False),
        ("auto", True, True),
        ("raise", None, True),
        ("raise", False, True),
        ("bury", None, False),
        ("bury", True, False),
    ],
)
def test_naming_no_one_is_an_error_in_debug_and_a_warning_elsewhere(
    insend: InSend,
    outbox: Outbox,
    caplog: pytest.LogCaptureFixture,
    setting: Any,
    debug: bool | None,  # noqa: FBT001 - a parameter of the test
    raises: bool,  # noqa: FBT001 - likewise
    kind: type,
) -> None:
    async def send() -> str:
        async with AsyncInSend(settings=insend.settings, invalid=setting) as twin:
            return (await twin.link(visitor_uid=None)).where

    def call() -> str:
        if kind is AsyncInSend:
            return asyncio.run(send())
        with InSend(settings=insend.settings, invalid=setting) as twin:
            return twin.link(visitor_uid=None).where

    with nullcontext() if debug is None else serving(staff(debug=debug)):
        if raises:
            with pytest.raises(InvalidEvent, match=ADVICE):
                call()
            assert (caplog.text, counted(outbox)) == ("", {})
        else:
            assert call() == "no_visitor"
            assert ADVICE in caplog.text
            assert counted(outbox) == {"no_visitor": 1}


def test_an_event_whose_uids_are_left_out_warns_of_nothing(insend: InSend, caplog: pytest.LogCaptureFixture) -> None:
    assert insend.link().where == "no_visitor"
    with serving(Request(settings=SETTINGS, cookies={}, visitor_uid=lambda: None, debug=True)):
        assert insend.link().where == "no_visitor"
    assert caplog.text == ""


def test_the_warning_comes_once_for_each_call_site(insend: InSend, caplog: pytest.LogCaptureFixture) -> None:
    def first() -> None:
        insend.link(visitor_uid=None)

    for _ in range(3):
        first()
        insend.view_product(product_id=1, guest_uid="")
    lines = [record.getMessage() for record in caplog.records]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert all(line.startswith(f"{__file__}:") for line in lines)
    assert len({line.partition(": ")[0] for line in lines}) == 2


def test_the_call_site_of_a_task_is_where_the_call_was_made(insend: InSend, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with AsyncInSend(settings=insend.settings) as twin:
            await asyncio.gather(*(twin.link(visitor_uid=None) for _ in range(3)))

    asyncio.run(main())
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{__file__}:")


def test_any_number_of_call_sites_takes_a_bounded_part_of_memory(
    insend: InSend, caplog: pytest.LogCaptureFixture, insend_events: RecordedEvents
) -> None:
    for number in range(1_100):
        exec(compile("insend.link(visitor_uid=None)", f"page-{number}", "exec"), {"insend": insend})  # noqa: S102 - as a template does
    assert len(insend_events.not_sent) == len(caplog.records) == 1_100
    assert len(call_site._warned) <= 1_000


def test_a_call_inside_the_warning_of_another_does_not_block(insend: InSend, outbox: Outbox) -> None:
    class Reporter(logging.Handler):
        """Sends an event of its own, as a log handler or a signal in the middle of a call may do."""

        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.WARNING:
                insend.custom(key="warned", guest_uid=None)

    logger, reporter = logging.getLogger("insend_relay.producers"), Reporter()
    logger.addHandler(reporter)
    try:
        insend.link(visitor_uid=None)
    finally:
        logger.removeHandler(reporter)
    assert counted(outbox) == {"no_visitor": 3}  # the handler is called for its own first event too


@pytest.mark.parametrize("debug", [False, True])
def test_a_recorded_test_sees_it_as_the_application_does(
    insend: InSend, insend_events: RecordedEvents, *, debug: bool
) -> None:
    with serving(staff(debug=debug)):
        if debug:
            with pytest.raises(InvalidEvent, match=ADVICE):
                ship(insend, visitor_uid=None)
        else:
            assert ship(insend, visitor_uid=None) == "no_visitor"
    assert [event.where for event in insend_events.not_sent] == ([] if debug else ["no_visitor"])


# The sentinel


def test_not_given_survives_pickle_and_copy() -> None:
    scope = VisitorScope(visitor_uid="42")
    for copied in (copy.copy(scope), copy.deepcopy(scope), pickle.loads(pickle.dumps(scope))):  # noqa: S301 - our own bytes
        assert copied == scope
        assert copied.guest_uid is NOT_GIVEN
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(NOT_GIVEN, protocol)) is NOT_GIVEN  # noqa: S301 - our own bytes
    assert (repr(NOT_GIVEN), str(NOT_GIVEN)) == ("NOT_GIVEN", "NOT_GIVEN")


def test_a_scope_does_not_show_who_it_is() -> None:
    shown = repr(VisitorScope(visitor_uid="anna", url=None))
    assert shown.startswith("VisitorScope(visitor_uid=<str[4]>, guest_uid=<NotGiven>, url=None, path=<NotGiven>, ")
