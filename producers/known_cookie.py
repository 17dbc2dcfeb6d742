"""The cookie ``insend_known``: which accounts have been told who the guest of this browser is.

Both uids of an event mean "this guest has become this visitor", and the tracker needs to learn that once. Each account
(app key) learns it by itself: two accounts of one shop, two applications on one domain, or an account whose key was
replaced. So the cookie holds one mark an account, newest first, of at most four accounts::

    insend_known=AAAAMMMMMMMMMMMM.AAAAMMMMMMMMMMMM     A: hash of the app key; M: hash of app key, guest and visitor

A mark that is missing costs one more event with both uids, which is harmless. So everything that is no mark is ignored,
a fifth account's mark pushes the oldest out, and of two answers to one browser at the same time the later one counts.
The marks are hashes and hold no personal data.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from typing import TypedDict

NAME = "insend_known"
MAX_ACCOUNTS = 4
_MAX_AGE_SECONDS = 400 * 86_400  # the longest that browsers keep one
_MAX_READ = 256  # characters; our own value has at most 67
_ACCOUNT = 4  # characters of a mark
_MARK = re.compile(r"[A-Za-z0-9_-]{16}\Z")


class Options(TypedDict):
    """How the cookie is set."""

    max_age: int
    httponly: bool
    samesite: str


class KnownCookie:
    """The marks of one request's cookie, and what becomes of them while the request is served.

    Threads and tasks of one request may use it at the same time: each account has an entry of its own in a dict.

    Args:
        value: What the browser has sent, "" when there is no such cookie.
    """

    __slots__ = ("_changed", "_marks")

    def __init__(self, value: str) -> None:
        self._changed = False
        self._marks: dict[str, str] = {}  # by account; the newest is the last one
        if value:
            marks = [mark for mark in value[:_MAX_READ].split(".") if _MARK.match(mark)]
            for mark in reversed(marks[:MAX_ACCOUNTS]):
                self._marks[mark[:_ACCOUNT]] = mark

    def is_told(self, app_key: str, guest_uid: str, visitor_uid: str) -> bool:
        """Whether the account has been told that this guest is this visitor."""
        if not self._marks:
            return False
        account = _account(app_key)
        return self._marks.get(account) == _mark(account, app_key, guest_uid, visitor_uid)

    def tell(self, app_key: str, guest_uid: str, visitor_uid: str) -> None:
        """The account has been told that this guest is this visitor."""
        account = _account(app_key)
        self._marks.pop(account, None)
        self._marks[account] = _mark(account, app_key, guest_uid, visitor_uid)
        self._changed = True

    def forget(self, app_key: str) -> None:
        """The account has to be told anew. The marks of other accounts stay."""
        if self._marks and self._marks.pop(_account(app_key), None) is not None:
            self._changed = True

    @property
    def new_value(self) -> str | None:
        """What the response sets, "" to delete the cookie; None leaves it as it is."""
        if not self._changed:
            return None
        newest_first = list(self._marks.values())[::-1]
        return ".".join(newest_first[:MAX_ACCOUNTS])


def options(value: str) -> Options:
    """How the cookie is set, by its value."""
    return {"max_age": _MAX_AGE_SECONDS if value else 0, "httponly": True, "samesite": "Lax"}


def _account(app_key: str) -> str:
    return _hash(app_key, 3)


def _mark(account: str, app_key: str, guest_uid: str, visitor_uid: str) -> str:
    return account + _hash(f"{app_key}/{guest_uid}/{visitor_uid}", 9)  # no uid has a slash


def _hash(text: str, size: int) -> str:
    return urlsafe_b64encode(hashlib.blake2b(text.encode(), digest_size=size).digest()).decode()
