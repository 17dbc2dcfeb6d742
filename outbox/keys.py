"""The names of all keys in Redis; no other module spells one.

Every key starts with ``{NAMESPACE:1}:``. The braces are Redis's hash tag (all keys lie on one shard, so that one
script may touch them all), and 1 is the version of this layout. ``docs/redis.md`` has the table of types and owners.

A *lane* is an ordered partition: the queue of one visitor's events. Its name is ``APP/v/UID`` for a registered visitor
and ``APP/g/UID`` for a guest. UID is the uid with all but letters, digits, ``_``, ``.`` and ``-`` percent-encoded, so
any text may be a uid, and a slash never stands inside a part. A uid that is longer than ``MAX_ENCODED`` bytes in this
form is named by its SHA-1: ``~`` and 40 hex digits. No encoded uid begins with ``~``. ``lua/shared/record.lua`` encodes
alike.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote_from_bytes, unquote_to_bytes

from insend_relay.outbox.masked import masked

LAYOUT = 1
APP_KEY = re.compile(r"[0-9A-Za-z_-]{1,64}\Z")
VISITOR_UID = re.compile(r"[0-9a-z-]{1,128}\Z")  # CONTRACT: only [0-9a-z-], as the vendor's own clients send it
GUEST_UID = re.compile(r"[0-9A-Za-z_.-]{1,128}\Z")  # a cookie's value: whatever its writer chose, within reason
MAX_ENCODED = 128  # bytes of an encoded uid in a lane's name
_ENCODED_AS_IT_IS = re.compile(rf"[0-9A-Za-z_.-]{{0,{MAX_ENCODED}}}\Z")
_HASH = re.compile(r"~[0-9a-f]{40}\Z")


def uid_bytes(uid: str) -> bytes:
    """A uid as it is sent: UTF-8. What ``uid_text`` read from other bytes becomes these bytes again."""
    try:
        return uid.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair, which stands for no byte
        return uid.encode(errors="surrogatepass")


def uid_text(sent: bytes) -> str:
    """The uid that ``uid_bytes`` turns into these bytes."""
    return sent.decode(errors="surrogateescape")


def encoded(uid: str) -> str:
    """A uid as it stands in its lane's name: percent-encoded, or hashed when that is too long."""
    if _ENCODED_AS_IT_IS.match(uid):
        return uid
    sent = uid_bytes(uid)
    name = quote_from_bytes(sent, safe="").replace("~", "%7E")
    if len(name) <= MAX_ENCODED:
        return name
    return f"~{hashlib.sha1(sent, usedforsecurity=False).hexdigest()}"


def decoded(name: str) -> str | None:
    """The uid that ``encoded`` turns into this name; None for a hash.

    Raises:
        ValueError: ``encoded`` turns no uid into this name.
    """
    if _ENCODED_AS_IT_IS.match(name):
        return name
    if _HASH.match(name):
        return None
    uid = uid_text(unquote_to_bytes(name))
    if encoded(uid) != name:
        raise ValueError(f"not an encoded uid: {name!r}")
    return uid


@masked("app", "kind")
@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """Where a visitor's events wait; ``str(lane)`` is its name in Redis. Lanes of one name are equal.

    Attributes:
        app: The application's key.
        kind: ``"v"`` for a registered visitor, ``"g"`` for a guest.
        uid: The visitor's or guest's uid as it is sent; "" where only its hash is known.
        digest: The hash that stands in the name, when the name is all that is known.
    """

    app: str
    kind: Literal["v", "g"]
    uid: str
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.app}/{self.kind}/{self.digest or encoded(self.uid)}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lane) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def named_by_hash(self) -> bool:
        """Whether the name does not give the uid back, so that the record has to hold it."""
        return bool(self.digest) or encoded(self.uid).startswith("~")

    @property
    def well_formed(self) -> bool:
        """Whether our producers would take the uid; a dead letter and other clients' events may name any text."""
        return (VISITOR_UID if self.kind == "v" else GUEST_UID).match(self.uid) is not None

    @classmethod
    def parse(cls, name: str, uid: str = "") -> Lane:
        """Read a lane's name back.

        Args:
            name: The name.
            uid: The uid that the lane's record holds, for a name that holds a hash.

        Raises:
            ValueError: It is not a lane's name.
        """
        app, kind, last = name.split("/")
        if kind not in ("v", "g"):
            raise ValueError(f"not a lane: {name!r}")
        known: Literal["v", "g"] = "v" if kind == "v" else "g"
        found = decoded(last)
        if found is not None:
            return cls(app, known, found)
        return cls(app, known, uid, "" if encoded(uid) == last else last)


_SCHEDULES = ("due:", "quarantine:", "behind:")
_FAMILIES = (
    *("lane:", *_SCHEDULES, "outage:", "pulse:", "books:", "latency:"),
    *("dead:index:", "replay:", "once:", "slot:", "spool:", "erased:"),
)


class Keys:
    """The keys of one namespace.

    Args:
        namespace: What tells several relays in one Redis apart (staging and production, or two tests).
    """

    def __init__(self, namespace: str = "insend") -> None:
        self.namespace = namespace
        self.prefix = prefix = f"{{{namespace}:{LAYOUT}}}:"
        self.layout = f"{{{namespace}}}:layout"
        self.apps = prefix + "apps"
        self.ledger = prefix + "ledger"
        self.books = prefix + "books"
        self.lease = prefix + "lease"
        self.trying = prefix + "trying"
        self.failing = prefix + "failing"
        self.doubtful = prefix + "doubtful"
        self.wake = prefix + "wake"
        self.wake_delivery = prefix + "wake:delivery"
        self.lingering = prefix + "lingering"
        self.hint = prefix + "hint"
        self.quarantine_apps = prefix + "quarantine_apps"
        self.quarantine_turn = prefix + "quarantine_turn"
        self.newer = prefix + "newer"
        self.dead = prefix + "dead"
        self.dead_apps = prefix + "dead:apps"
        self.dead_groups = prefix + "dead:groups"
        self.replaying = prefix + "replaying"
        self.replays = prefix + "replays"
        self.workers = prefix + "workers"
        self.epoch = prefix + "epoch"
        self.jumps = prefix + "jumps"
        lanes = (self.apps, self.lease, self.trying, self.failing, self.doubtful)
        waking = (self.wake, self.wake_delivery, self.lingering, self.hint)
        quarantine = (self.quarantine_apps, self.quarantine_turn, self.newer)
        letters = (self.dead, self.dead_apps, self.dead_groups, self.replaying, self.replays)
        others = (self.ledger, self.books, self.workers, self.epoch, self.jumps)
        self._fixed = frozenset((*lanes, *waking, *quarantine, *letters, *others))

    def due(self, app: str) -> str:
        """The app's schedule: lane -> ms from which it may be claimed."""
        return f"{self.prefix}due:{app}"

    def quarantine(self, app: str) -> str:
        """The app's schedule of lanes whose head has crashed two workers: lane -> ms from which it may be claimed."""
        return f"{self.prefix}quarantine:{app}"

    def lane(self, lane: Lane | str) -> str:
        """The list that holds a lane's records, oldest first."""
        return f"{self.prefix}lane:{lane}"

    def outage(self, app: str) -> str:
        """The circuit breaker's state for an app."""
        return f"{self.prefix}outage:{app}"

    def suspects(self, app: str) -> str:
        """The lanes that failed since the app's last 200, with how often."""
        return f"{self.prefix}outage:{app}:lanes"

    def dead_index(self, app: str) -> str:
        """The app's dead letters in the order of acceptance: id -> seq."""
        return f"{self.prefix}dead:index:{app}"

    def books_of(self, name: str) -> str:
        """The counts of a type (``TYPE``, its code) in the whole relay, or in an app (``APP/TYPE``)."""
        return f"{self.prefix}books:{name}"

    def latency(self, app: str) -> str:
        """How long the app's deliveries took."""
        return f"{self.prefix}latency:{app}"

    def replay(self, run: str) -> str:
        """A replay run: its filter, its cursors and its counts."""
        return f"{self.prefix}replay:{run}"

    def slot(self, name: str) -> str:
        """The last id that a slot of a producer has brought in, or ``closed``."""
        return f"{self.prefix}slot:{name}"

    def spool(self, file: str) -> str:
        """The ids that came in last from a spool."""
        return f"{self.prefix}spool:{file}"

    def behind(self, guest: Lane | str) -> str:
        """The lanes whose head waits for events of this guest from before a login."""
        return f"{self.prefix}behind:{guest}"

    def pulse(self, minute: int) -> str:
        """The counts of one minute since the epoch."""
        return f"{self.prefix}pulse:{minute}"

    def knows(self, key: str) -> bool:
        """Whether the layout has such a key; for the audit and the tests."""
        return key in self._fixed or key.startswith(tuple(self.prefix + family for family in _FAMILIES))
