"""Whose event is it? The rules by which ``erase`` tells what belongs to one person. Pure.

An event belongs to its visitor, and to its guest only when it names no visitor: as in the lanes. A person is the uid
that was given, as a visitor's and as a guest's, and:

- every guest who became one of the person's visitors, by an event that names both;
- when the given uid is a guest's, the visitor that this guest became. When the events of one app name several such
  visitors (a browser that customers share), none of them is taken: they are ``undecided``.

A guest who was found through a visitor leads to no further visitor: the other customer did not ask to be erased. Such
visitors are ``shared``.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from insend_relay.outbox.keys import Lane

Kind = Literal["v", "g"]
KINDS: tuple[Kind, ...] = ("g", "v")  # guests first: only the visitors' events say who they are
_IN_TEXT = re.compile(rb"(visitor|guest)_uid[\"'\s:=]+([^\"'&\s,;}\]]+)")
_WORD = rb"[0-9A-Za-z_.-]"


class Named(NamedTuple):
    """Whom an event names.

    Attributes:
        owner: Whose event it is, as a lane; None when it names neither a visitor nor a guest. When the event breaks the
            rules, its uid may be one that producers would not take.
        guest: The guest who became the owner; None unless the event names both.
    """

    owner: Lane | None
    guest: Lane | None = None


def named_by(app: str, lane: Lane | None, guest_uid: str, payload: bytes) -> Named:
    """Whom a stored event names.

    Args:
        app: Its app.
        lane: Its lane, when it has one.
        guest_uid: The guest's uid beside the lane, "" for none.
        payload: Read for what the other arguments do not say: JSON, or any text that has the names of both fields.
    """
    if lane is None or (lane.kind == "v" and not guest_uid):
        visitor_uid, guest_in_payload = _uids(payload)
        guest_uid = guest_uid or guest_in_payload
        if lane is None and visitor_uid:
            lane = Lane(app, "v", visitor_uid)
    guest = Lane(app, "g", guest_uid) if guest_uid else None
    if lane is None or lane.kind == "g":
        return Named(lane or guest)
    return Named(lane, guest)


def mentions(text: bytes, uid: str) -> bool:
    """Whether a uid stands in a text as a whole word."""
    return re.search(rb"(?<!%b)%b(?!%b)" % (_WORD, re.escape(uid.encode(errors="replace")), _WORD), text) is not None


def _uids(payload: bytes) -> tuple[str, str]:
    """The visitor's and the guest's uid in a payload, each "" when it is not there."""
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError):
        found = {kind: uid.decode(errors="replace") for kind, uid in reversed(_IN_TEXT.findall(payload))}
        return found.get(b"visitor", ""), found.get(b"guest", "")
    if not isinstance(data, dict):
        return "", ""
    visitor_uid, guest_uid = (data.get(name) for name in ("visitor_uid", "guest_uid"))
    return _as_uid(visitor_uid), _as_uid(guest_uid)


def _as_uid(value: object) -> str:
    """A uid as a shop may have given it: a string or a number, 42.0 for 42 too (a column with gaps in pandas)."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value).strip().encode(errors="replace").decode()


@dataclass(slots=True)
class Links:
    """The guests that each visitor's stored events name."""

    guests: dict[Lane, set[Lane]] = field(default_factory=lambda: defaultdict(set))

    def add(self, named: Named) -> None:
        """One stored event."""
        if named.owner and named.guest:
            self.guests[named.owner].add(named.guest)

    def became(self, guest: Lane) -> set[Lane]:
        """The visitors that a guest became."""
        return {visitor for visitor, guests in self.guests.items() if guest in guests}


@dataclass(frozen=True, slots=True)
class Person:
    """One person, as far as the stored events tell.

    Attributes:
        uid: The uid that was given.
        app: The one app that is meant; None for all.
        found: The lanes that belong to the person beside those of ``uid``.
        undecided: The visitors that the given guest became, when they are several.
        shared: Other visitors whose events name a guest of this person.
    """

    uid: str
    app: str | None = None
    found: frozenset[Lane] = frozenset()
    undecided: frozenset[Lane] = frozenset()
    shared: frozenset[Lane] = frozenset()

    def owns(self, lane: Lane) -> bool:
        """Whether the events of this owner are the person's."""
        return self._given(lane) or lane in self.found

    def linked(self, links: Links) -> Person:
        """The same person, with all that the links lead to."""
        given = {guest for guests in links.guests.values() for guest in guests if self._given(guest)}
        mine = {visitor for visitor in links.guests if self._given(visitor)}
        undecided: set[Lane] = set()
        for visitors in map(links.became, given):
            (mine if len(visitors) == 1 else undecided).update(visitors)
        undecided -= mine
        guests = {guest for visitor in mine for guest in links.guests[visitor]}
        others = {visitor for guest in guests for visitor in links.became(guest)} - mine - undecided
        found = frozenset(lane for lane in mine | guests if not self._given(lane))
        return replace(self, found=found, undecided=frozenset(undecided), shared=frozenset(others))

    def lanes(self, kind: Kind, apps: Iterable[str]) -> list[Lane]:
        """Every lane of one kind that the person's events may wait in.

        Args:
            kind: Visitors' lanes or guests'.
            apps: All apps that have lanes.
        """
        given = {Lane(app, kind, self.uid) for app in apps if self.app in {None, app}}
        lanes = given | {lane for lane in self.found if lane.kind == kind}
        return sorted(lanes, key=str)

    def tombstones(self) -> list[str]:
        """The owners whose spooled events are refused from now on; see ``lua/shared/tombstones.lua``."""
        return [*(str(Lane(self.app or "", kind, self.uid)) for kind in KINDS), *sorted(map(str, self.found))]

    def _given(self, lane: Lane) -> bool:
        return self.app in {None, lane.app} and lane == Lane(lane.app, lane.kind, self.uid)
