"""The cookie ``insend_known``: one mark an account, at most four, and everything else in it is ignored."""

from __future__ import annotations

import threading

import pytest
from waiting import PATIENCE_SECONDS

from insend_relay.producers.known_cookie import MAX_ACCOUNTS, KnownCookie

ACCOUNTS = ["shop", "outlet", "replaced-key", "app", "fifth"]


def told(*app_keys: str, cookie: str = "") -> str:
    """The cookie's value after each of these accounts has been told that guest g is visitor 42."""
    known = KnownCookie(cookie)
    for app_key in app_keys:
        known.tell(app_key, "g", "42")
    return known.new_value or ""


def accounts_in(value: str) -> list[str]:
    known = KnownCookie(value)
    return [app_key for app_key in ACCOUNTS if known.is_told(app_key, "g", "42")]


def test_each_account_has_a_mark_of_its_own() -> None:
    value = told("shop", "outlet")
    assert accounts_in(value) == ["shop", "outlet"]
    assert accounts_in(told("shop")) == ["shop"]


def test_the_newest_mark_comes_first_and_a_fifth_pushes_the_oldest_out() -> None:
    value = told(*ACCOUNTS)
    assert accounts_in(value) == ACCOUNTS[1:]
    assert value.split(".") == [told(app_key) for app_key in reversed(ACCOUNTS[1:])]


def test_an_account_that_is_told_again_is_the_newest() -> None:
    value = told("shop", cookie=told("shop", "outlet", "replaced-key", "app"))
    assert accounts_in(told("fifth", cookie=value)) == ["shop", "replaced-key", "app", "fifth"]


def test_an_account_keeps_the_mark_of_its_last_visitor_only() -> None:
    known = KnownCookie(told("shop", "outlet"))
    known.tell("shop", "g", "43")
    later = KnownCookie(known.new_value or "")
    assert later.is_told("shop", "g", "43")
    assert not later.is_told("shop", "g", "42")
    assert later.is_told("outlet", "g", "42")


@pytest.mark.parametrize(("guest_uid", "visitor_uid"), [("h", "42"), ("g", "43"), ("42", "g"), ("", "42"), ("g", "")])
def test_another_guest_or_visitor_is_not_told(guest_uid: str, visitor_uid: str) -> None:
    assert not KnownCookie(told("shop")).is_told("shop", guest_uid, visitor_uid)


def test_forgetting_removes_the_mark_of_this_account_only() -> None:
    known = KnownCookie(told("shop", "outlet"))
    known.forget("shop")
    assert accounts_in(known.new_value or "") == ["outlet"]
    known.forget("outlet")
    assert known.new_value == ""


def test_what_changes_nothing_sets_no_cookie() -> None:
    known = KnownCookie(told("outlet"))
    known.forget("shop")
    known.is_told("shop", "g", "42")
    assert known.new_value is None


@pytest.mark.parametrize(
    "junk", ["somebody", "a.b.c", ".", "." * 5_000, "x" * 5_000, "é" * 16, "a b", "\ud800", "<script>", "\x00" * 16]
)
def test_what_is_no_mark_is_ignored_and_is_not_written_again(junk: str) -> None:
    assert accounts_in(junk) == []
    assert KnownCookie(junk).new_value is None
    for value in (f"{junk}.{told('shop')}"[-200:], f"{told('shop')}.{junk}"):
        assert accounts_in(value) == ["shop"]
    assert told("shop", cookie=junk) == told("shop")


def test_a_longer_cookie_keeps_its_newest_marks() -> None:
    longer = ".".join(told(app_key) for app_key in ACCOUNTS)
    assert accounts_in(longer) == ACCOUNTS[:MAX_ACCOUNTS]


def test_the_value_is_short_and_names_no_one() -> None:
    known = KnownCookie("")
    for app_key in ACCOUNTS:
        known.tell(app_key, "guest-of-anna", "anna")
    value = known.new_value or ""
    assert len(value) == 4 * 16 + 3
    assert not any(word in value for word in ("anna", "guest", *ACCOUNTS))
    assert all(part.replace("-", "").replace("_", "").isalnum() for part in value.split("."))


def test_accounts_that_are_told_at_the_same_time_do_not_lose_each_others_mark() -> None:
    for _ in range(50):
        known, together = KnownCookie(""), threading.Barrier(MAX_ACCOUNTS, timeout=PATIENCE_SECONDS)

        def tell(app_key: str, known: KnownCookie = known, together: threading.Barrier = together) -> None:
            together.wait()
            known.tell(app_key, "g", "42")

        threads = [threading.Thread(target=tell, args=(app_key,)) for app_key in ACCOUNTS[:MAX_ACCOUNTS]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert accounts_in(known.new_value or "") == ACCOUNTS[:MAX_ACCOUNTS]
