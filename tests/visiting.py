"""A visit to an example shop as a browser without scripts makes it: pages, links, forms, cookies."""

from __future__ import annotations

import re
import urllib.request
from html.parser import HTMLParser
from http.cookiejar import Cookie, CookieJar
from urllib.parse import urlencode, urljoin, urlsplit

from waiting import PATIENCE_SECONDS


class _Forms(HTMLParser):
    """The forms of a page: where each goes, its fields, and the ids of what stands in it."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str], set[str]]] = []
        self.links: dict[str, str] = {}
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a" and "id" in given:
            self.links[given["id"]] = given["href"]
        if tag == "form":
            self.forms.append((given.get("action", ""), {}, set()))
            self._inside = True
        elif self._inside and tag in {"input", "button"}:
            _, fields, ids = self.forms[-1]
            ids.add(given.get("id", ""))
            if tag == "input" and "name" in given:
                fields[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


class Visit:
    """One person's browser.

    Args:
        shop: The address of the shop's first page.
        guest_uid: What the vendor's script has set as the guest's cookie; "" for none.
    """

    def __init__(self, shop: str, guest_uid: str = "") -> None:
        self._cookies = CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self._cookies)
        )
        self.url, self.page = shop, ""
        if guest_uid:
            self.set_cookie("convead_guest_uid", guest_uid)

    def set_cookie(self, name: str, value: str) -> None:
        """As a script in the page does it."""
        host = urlsplit(self.url).hostname or ""
        self._cookies.set_cookie(
            Cookie(0, name, value, None, False, host, False, False, "/", True, False, None, True, None, None, {})
        )

    def cookie(self, name: str) -> str | None:
        """What a cookie is now."""
        return next((cookie.value for cookie in self._cookies if cookie.name == name), None)

    def get(self, path: str) -> str:
        """Open a page."""
        return self._open(urllib.request.Request(urljoin(self.url, path)))  # noqa: S310 - our own shop

    def follow(self, link: str) -> str:
        """Click the link with this id."""
        return self.get(self._read().links[link])

    def press(self, button: str, **typed: str) -> str:
        """Press the button with this id in its form, with what was typed into its other fields."""
        forms = [form for form in self._read().forms if button in form[2]]
        assert forms, f"no button {button} on {self.url}: {self.page}"
        action, fields, _ = forms[0]
        body = urlencode({**fields, **typed}).encode()
        headers = {"Referer": self.url}
        return self._open(urllib.request.Request(urljoin(self.url, action), body, headers))  # noqa: S310 - our own shop

    def text(self, element: str) -> str:
        """What stands in the element with this id."""
        found = re.search(rf'id="?{element}"?[^>]*>([^<]*)<', self.page)
        assert found, f"no {element} on {self.url}: {self.page}"
        return found.group(1).strip()

    def _open(self, request: urllib.request.Request) -> str:
        with self._opener.open(request, timeout=PATIENCE_SECONDS) as answer:
            self.url = answer.url
            self.page = answer.read().decode()
        return self.page

    def _read(self) -> _Forms:
        forms = _Forms()
        forms.feed(self.page)
        return forms


def buy(visit: Visit, name: str) -> str:
    """Look at two products, put them into the cart, log in, buy, let the order be shipped; the order's id."""
    visit.get("/")
    for product in ("p1", "p2"):
        visit.get("/")
        visit.follow(product)
        visit.press("add")
    visit.press("buy")  # not logged in: the shop asks who it is
    visit.press("enter", name=name)
    assert name in visit.text("who")
    visit.press("buy")
    order_id = visit.url.rstrip("/").rpartition("/")[2]
    assert visit.text("state") == "new"
    visit.press("ship")
    assert visit.text("state") == "shipped"
    return order_id
