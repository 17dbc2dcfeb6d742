"""The names of all keys in Redis; no other module spells one.

Every key starts with ``{NAMESPACE:1}:``. The braces are Redis's hash tag (all keys lie on one shard, so that one
script may touch them all), and 1 is the version of this layout. ``docs/redis.md`` has the table of types and owners.

A *lane* is the line in which one visitor's events wait: ``APP/v/UID`` for a registered visitor, ``APP/g/UID`` for a
guest. App keys and uids are restricted to letters, digits, ``-`` and ``_`` (and ``.`` in guest uids), so a slash
never stands inside a part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from insend_relay.outbox.masked import masked

LAYOUT = 1
APP_KEY = re.compile(r"[0-9A-Za-z_-]{1,64}\Z")
VISITOR_UID = re.compile(r"[0-9a-z-]{1,128}\Z")  # CONTRACT: only [0-9a-z-], as the vendor's own clients send it
GUEST_UID = re.compile(r"[0-9A-Za-z_.-]{1,128}\Z")  # a cookie's value: whatever its writer chose, within reason


@masked("app", "kind")
@dataclass(frozen=True, slots=True)
class Lane:
    """Where a visitor's events wait; ``str(lane)`` is its name in Redis.

    Attributes:
        app: The application's key.
        kind: ``"v"`` for a registered visitor, ``"g"`` for a guest.
        uid: The visitor's or guest's uid.
    """

    app: str
    kind: Literal["v", "g"]
    uid: str

    def __str__(self) -> str:
        return f"{self.app}/{self.kind}/{self.uid}"

    @property
    def possible(self) -> bool:
        """Whether an event can wait here: a dead letter may name a uid that breaks the rules."""
        return (VISITOR_UID if self.kind == "v" else GUEST_UID).match(self.uid) is not None

    @classmethod
    def parse(cls, name: str) -> Lane:
        """Read a lane's name back; ValueError if it is not one."""
        app, kind, uid = name.split("/")
        if kind == "v":
            return cls(app, "v", uid)
        if kind == "g":
            return cls(app, "g", uid)
        raise ValueError(f"not a lane: {name!r}")


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
        self.lease = prefix + "lease"
        self.trying = prefix + "trying"
        self.failing = prefix + "failing"
        self.doubtful = prefix + "doubtful"
        self.wake = prefix + "wake"
        self.hint = prefix + "hint"
        self.dead = prefix + "dead"
        self.dead_apps = prefix + "dead:apps"
        self.dead_groups = prefix + "dead:groups"
        self.replaying = prefix + "replaying"
        self.replays = prefix + "replays"
        self.workers = prefix + "workers"
        self.epoch = prefix + "epoch"
        self.jumps = prefix + "jumps"
        lanes = (self.apps, self.ledger, self.lease, self.trying, self.failing, self.doubtful, self.wake, self.hint)
        letters = (self.dead, self.dead_apps, self.dead_groups, self.replaying, self.replays)
        self._fixed = frozenset((*lanes, *letters, self.workers, self.epoch, self.jumps))

    def due(self, app: str) -> str:
        """The app's schedule: lane -> ms from which it may be claimed."""
        return f"{self.prefix}due:{app}"

    def lane(self, lane: Lane | str) -> str:
        """The list that holds a lane's records, oldest first."""
        return f"{self.prefix}lane:{lane}"

    def outage(self, app: str) -> str:
        """The outage guard's state for an app."""
        return f"{self.prefix}outage:{app}"

    def suspects(self, app: str) -> str:
        """The lanes that failed since the app's last 200, with how often."""
        return f"{self.prefix}outage:{app}:lanes"

    def dead_index(self, app: str) -> str:
        """The app's dead letters in the order of acceptance: id -> seq."""
        return f"{self.prefix}dead:index:{app}"

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
        lanes = ("lane:", "due:", "outage:", "pulse:", "behind:")
        families = (*lanes, "dead:index:", "replay:", "once:", "slot:", "spool:", "erased:")
        return key in self._fixed or key.startswith(tuple(self.prefix + family for family in families))
