"""Names of lanes and keys: what may stand in them, and that the layout knows its own."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insend_relay.outbox.keys import APP_KEY, GUEST_UID, VISITOR_UID, Keys, Lane, encoded, uid_bytes, uid_text

KEYS = Keys("insend")


NOT_NAMES = ["a/v/%41", "a/v/%2f", "a/v/%2", "a/v/a b", "a/v/ä", "a/v/~", "a/v/~AB", f"a/v/{'b' * 129}"]
SPECIAL = [
    "",
    "/",
    "%",
    "%2F",
    "~",
    "a/v/b",
    "a b",
    "{a}",
    "*",
    "Мария",
    "\udcff",
    "\ud800",
    "\n",
    "x" * 128,
    "x" * 129,
]
SPECIAL += ["~" + hashlib.sha1(b"x" * 129, usedforsecurity=False).hexdigest(), "я" * 21, "я" * 22]
uids = st.binary(max_size=200).map(uid_text) | st.sampled_from(SPECIAL) | st.text(max_size=60)


@pytest.mark.parametrize("lane", [Lane("a-B_9", "v", "42"), Lane("a", "g", "x.Y_z-1")])
def test_a_lanes_name_reads_back(lane: Lane) -> None:
    assert Lane.parse(str(lane)) == lane
    assert str(lane) == f"{lane.app}/{lane.kind}/{lane.uid}"


@given(uids)
def test_any_uid_names_a_lane_and_reads_back(uid: str) -> None:
    lane = Lane("a", "v", uid)
    read = Lane.parse(str(lane))
    assert read == lane
    assert hash(read) == hash(lane)
    assert str(read) == str(lane)
    assert lane.named_by_hash == (read.uid == "" != uid)
    assert uid_bytes(read.uid) in (uid_bytes(uid), b"")
    assert uid_bytes(Lane.parse(str(lane), uid).uid) == uid_bytes(uid)


@given(uids)
def test_a_lanes_name_is_short_and_holds_nothing_that_means_something_in_a_key(uid: str) -> None:
    assert re.fullmatch(r"[0-9A-Za-z_.%~-]{0,128}", encoded(uid))


@given(uids, uids)
def test_two_uids_never_share_a_lane(one: str, other: str) -> None:
    assert (encoded(one) == encoded(other)) == (uid_bytes(one) == uid_bytes(other))


def test_a_uid_that_looks_like_the_hash_of_another_is_another_lane() -> None:
    long = "x" * 129
    assert len({encoded(uid) for uid in (long, encoded(long), "%7E" + encoded(long)[1:])}) == 3


@pytest.mark.parametrize("name", ["", "a", "a/v", "a/x/1", "a/v/1/2", *NOT_NAMES])
def test_what_is_no_lanes_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Lane.parse(name)


@pytest.mark.parametrize("pattern", [APP_KEY, VISITOR_UID, GUEST_UID])
@pytest.mark.parametrize("text", ["", "a/b", "a\n", "a b", "a:b", "{a}", "ä", "\x00"])
def test_nothing_that_means_something_in_a_key_may_stand_in_its_parts(pattern: re.Pattern[str], text: str) -> None:
    assert not pattern.match(text)


def test_all_keys_of_a_namespace_lie_on_one_shard() -> None:
    fixed = [name for name in vars(KEYS).values() if isinstance(name, str) and name.startswith("{")]
    made = [KEYS.due("a"), KEYS.lane("a/v/1"), KEYS.outage("a"), KEYS.suspects("a"), KEYS.replay("r"), KEYS.pulse(1)]
    made += [KEYS.slot("p:1"), KEYS.spool("f"), KEYS.behind("a/g/1"), KEYS.prefix + "erased:00"]
    assert all(key.startswith(KEYS.prefix) for key in (*fixed, *made) if key != KEYS.layout)


def test_the_layout_knows_every_key_that_it_names_and_no_other() -> None:
    made = [KEYS.due("a"), KEYS.lane("a/v/1"), KEYS.outage("a"), KEYS.suspects("a"), KEYS.replay("r"), KEYS.pulse(1)]
    made += [KEYS.slot("p:1"), KEYS.spool("f"), KEYS.behind("a/g/1"), KEYS.prefix + "erased:00"]
    fixed = [name for name in vars(KEYS).values() if isinstance(name, str) and name.startswith(KEYS.prefix)]
    fixed.remove(KEYS.prefix)
    assert all(KEYS.knows(key) for key in (*fixed, *made))
    strangers = [KEYS.prefix, KEYS.prefix + "leases", KEYS.prefix + "laneX", "lane:a", Keys("other").ledger]
    assert not any(KEYS.knows(key) for key in strangers)


def test_namespaces_share_no_key() -> None:
    ours, theirs = vars(Keys("one")), vars(Keys("two"))
    assert not {v for v in ours.values() if isinstance(v, str)} & {v for v in theirs.values() if isinstance(v, str)}
