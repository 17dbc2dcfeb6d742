"""Each example shop clicked through once in a real browser."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from shops import Shop
from tools import needs
from waiting import PATIENCE_SECONDS, wait_until

QUIET = [  # nothing but the page: no updates, no sync, no look-ups elsewhere
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE_MS = 1_000 * PATIENCE_SECONDS


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, headless."""
    path = needs("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=QUIET, chromium_sandbox=os.geteuid() != 0, timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


def test_a_person_buys_in_the_shop_and_the_tracker_hears_of_each_step(chromium: Browser, shop: Shop) -> None:
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    errors: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(shop.url)
    guest_uid = next(cookie["value"] for cookie in context.cookies() if cookie["name"] == "convead_guest_uid")
    page.click("#home")  # from now on the guest is known
    page.click("#p1")
    page.click("#add")
    page.click("#home")
    page.click("#p2")
    page.click("#add")
    page.click("#buy")
    page.fill("#name", "zoe")
    page.click("#enter")
    expect(page.locator("#who")).to_contain_text("zoe")
    page.click("#buy")
    expect(page.locator("#state")).to_have_text("new")
    page.click("#ship")
    expect(page.locator("#state")).to_have_text("shipped")
    page.click("#logout")
    expect(page.locator("#login")).to_be_visible()
    assert errors == []
    context.close()

    def of_this_visit() -> list[str]:
        uids = {guest_uid, "customer-zoe"}
        return [event["type"] for event in shop.received() if uids & {event["guest_uid"], event["visitor_uid"]}]

    looked = ["link", "view_product", "update_cart"]
    as_guest = [*looked, *looked, "link"]  # the last one after the logout
    as_customer = ["update_info", "purchase", "order_update"]
    wait_until(lambda: len(of_this_visit()) >= len(as_guest + as_customer))
    assert [kind for kind in of_this_visit() if kind not in as_customer] == as_guest
    assert [kind for kind in of_this_visit() if kind in as_customer] == as_customer
