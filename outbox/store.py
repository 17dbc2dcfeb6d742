"""The life of an event: append, claim, settle, fail, bury, release.

``Outbox`` is the one door to the scripts. It keeps no state of its own but a client, so any number may work on the same
namespace. What operators read (status, dead letters, a visitor's lane) is in ``operations``.
"""

from __future__ import annotations

import contextlib
import struct
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Literal

from insend_relay.outbox import record
from insend_relay.outbox.claim import Buried, Claim, Claims, Delivered
from insend_relay.outbox.connection import Executor, check_server, errors_mapped
from insend_relay.outbox.entry import DIRECT, Appended, Entry, InvalidEntry, Way
from insend_relay.outbox.errors import Busy, NewerLayout, OutboxFull
from insend_relay.outbox.failed_attempt import FailedAttempt, FailReply
from insend_relay.outbox.idempotency import identity
from insend_relay.outbox.keys import LAYOUT, Keys, Lane
from insend_relay.outbox.lease import new_token, process_name, shown
from insend_relay.outbox.letter import group
from insend_relay.outbox.scripts import Scripts

_HELD, _OF_LEASE = struct.Struct(">H"), struct.Struct(">40s16sQI")  # around a lane, for settle.lua
_MAX_POST_MS, _NO_POST = 0xFFFFFFFE, 0xFFFFFFFF


class Outbox:
    """The events of one namespace in Redis.

    Args:
        redis: A client, or whatever else runs a command.
        namespace: As in the settings.
        outage_over: Told the app when a 200 that is settled here ends its outage.

    Every method is one round trip and raises OutboxError (unreachable, full, refused).
    """

    def __init__(
        self, redis: Executor, *, namespace: str = "insend", outage_over: Callable[[str], None] | None = None
    ) -> None:
        self.redis = redis
        self.keys = Keys(namespace)
        self._scripts = Scripts(redis, self.keys)
        self._run = self._scripts.run
        self._outage_over = outage_over

    def through(self, redis: Executor) -> Outbox:
        """The same outbox, its commands run by somebody else."""
        return Outbox(redis, namespace=self.keys.namespace, outage_over=self._outage_over)

    def read(self, *command: Any) -> Any:
        """Run a plain command, with its errors turned into ours."""
        with errors_mapped():
            return self.redis.execute_command(*command)

    def check_layout(self) -> None:
        """Claim this Redis for our layout, as a worker does; raises what ``read_layout`` raises."""
        if self.read_layout() is None:
            with contextlib.suppress(OutboxFull):  # a full Redis is to be drained, claimed or not
                self.read("SET", self.keys.layout, LAYOUT, "NX")

    def read_layout(self) -> int | None:
        """The layout of this Redis; None when no worker has claimed it yet. Writes nothing.

        Raises:
            NewerLayout: A newer release has written to it.
            ClusterMode: It runs in cluster mode.
            OutboxError: It cannot be asked.
        """
        check_server(self.redis)
        found = self.read("GET", self.keys.layout)
        if found is not None and int(found) > LAYOUT:
            raise NewerLayout(
                f"this Redis holds layout {int(found)}, this release knows {LAYOUT}: upgrade insend-relay here"
            )
        return None if found is None else int(found)

    # Producers

    def enter(self, entry: Entry | InvalidEntry, way: Way = DIRECT, *, redis: Executor | None = None) -> Appended:
        """Take in what a producer made; once, however often it comes the same ``way``.

        Args:
            entry: The event.
            way: By which it comes.
            redis: Runs the commands, when they are part of a call with a deadline of its own.
        """
        return entry.read(self._scripts.send(entry.call(self._scripts, way), redis))

    def append(
        self,
        lane: Lane,
        event_id: uuid.UUID,
        payload: bytes,
        *,
        guest_uid: str = "",
        idempotency_key: str = "",
        idempotency_seconds: int = 86_400,
    ) -> Appended:
        """Take one event into its visitor's lane.

        Args:
            lane: The visitor's lane, or the guest's when there is no visitor.
            event_id: From ``record.new_id``.
            payload: The data object as it will be sent, UTF-8 JSON.
            guest_uid: The guest's uid, only when the event carries both.
            idempotency_key: The caller's name for this event; see ``idempotency`` for its scope.
            idempotency_seconds: How long that name is remembered.
        """
        once = identity(idempotency_key, payload)
        return self.enter(Entry(lane, event_id, payload, guest_uid, once.key, idempotency_seconds, once.digest))

    def bury_invalid(
        self, app: str, event_id: uuid.UUID, *, lane: Lane | None, type: str, payload: bytes, faults: str
    ) -> None:
        """Keep an event that breaks the rules as a dead letter.

        Args:
            app: The application's key.
            event_id: From ``record.new_id``.
            lane: The visitor's lane, when the event names a usable visitor.
            type: The event type as the caller gave it.
            payload: The event as well as it can be written down.
            faults: What is wrong with it.
        """
        self.enter(InvalidEntry(app, event_id, lane, type, payload, faults))

    def count(self, what: Literal["no_visitor", "opted_out"]) -> None:
        """Count a call that left no event behind."""
        self.read("HINCRBY", self.keys.ledger, what, 1)

    # Workers

    def claim(
        self,
        worker: str,
        room: int,
        *,
        lease_ms: int,
        token: bytes = b"",
        linger_ms: int = 0,
    ) -> Claims:
        """Lease due lanes, at most ``room``, rotating over the apps that may be claimed.

        Args:
            worker: Who claims, ``HOST:PID``; shown to operators.
            room: How many lanes the caller can work on now; more than a thousand are not taken at a time.
            lease_ms: How long no other holder may have them.
            token: From ``new_token``, for a caller that will ``unclaim`` it if no answer comes.
            linger_ms: For how long the caller waits to be called when there are fewer lanes than room; 0: not at all.
        """
        token = token or new_token()
        now_ms, quiet_ms, quarantine, newer, *lanes = self._run(
            "claim",
            worker=worker,
            token=token,
            room=room,
            lease_ms=lease_ms,
            linger_ms=linger_ms,
            version=record.VERSION,
        )
        claims = Claims(
            Claim(lane.decode(), token, data, tried, now_ms, bool(probe)) for lane, data, tried, *probe in lanes
        )
        claims.lingers, claims.quiet_ms = quiet_ms >= 0, max(0, quiet_ms)
        claims.quarantine, claims.newer = bool(quarantine), newer
        return claims

    def unclaim(self, token: bytes) -> None:
        """Give back what the claim with this token leased, when its answer never came."""
        self._run("unclaim", token=token)

    def wake(self) -> None:
        """Call another process that lingers, or else a pump: there is more due than the caller can take."""
        self._run("wake", process=process_name())

    def seize(self, lane: Lane | str, worker: str, *, lease_ms: int) -> Claim | None:
        """Lease one lane for an operator, due or not, paused or not; None when nothing waits in it.

        Args:
            lane: Which.
            worker: Who takes it; shown to others.
            lease_ms: As in ``claim``.

        Raises:
            Busy: A worker holds the lane.
        """
        token = new_token()
        status, *rest = self._run("seize", lane=str(lane), worker=worker, token=token, lease_ms=lease_ms)
        if status == b"EMPTY":
            return None
        if status == b"BUSY":
            raise Busy(f"{shown(rest[0])} is sending the first event of {lane} right now: try again in a moment")
        now_ms, data, tried = rest
        return Claim(str(lane), token, data, tried, now_ms)

    def settle(self, claim: Claim, *, lease_ms: int, post_ms: int | None = None) -> Claim | None:
        """The head was answered 200: it is delivered. Returns the lane's next head, leased for ``lease_ms`` from now.

        None when the lane is empty, paused or leased to another by now, or when ``lease_ms`` is 0 (take no more).
        See ``Delivered`` for ``post_ms``.
        """
        return self.settle_all(claim.app, [Delivered(claim, lease_ms, post_ms)])[0]

    def settle_all(self, app: str, delivered: Sequence[Delivered]) -> list[Claim | None]:
        """``settle`` for several lanes of an app in one step: 64 take Redis the time of eight.

        Args:
            app: Whose they are.
            delivered: Each lane once; up to a thousand, at least one.
        """
        held = [
            _HELD.pack(len(lane := one.claim.lane.encode()))
            + lane
            + _OF_LEASE.pack(one.claim.token, one.claim.id, one.lease_ms, _post_ms(one.post_ms))
            for one in delivered
        ]
        outage_over, *following = self._run("settle", app=app, version=record.VERSION, held=b"".join(held))
        if outage_over and self._outage_over:
            self._outage_over(app)
        return [one.claim.following(data) for one, data in zip(delivered, following, strict=True)]

    def fail(self, claim: Claim, attempt: FailedAttempt) -> FailReply:
        """An attempt on the head has failed: it is counted or not, and the lane waits, goes on or is given back.

        Repeating a call whose answer was lost changes nothing.
        """
        return attempt.read(self._scripts.send(attempt.call(self._scripts, claim)), claim)

    def release(self, claim: Claim, *, duplicate: bool = False) -> bool:
        """Give the lane back with no attempt counted. False when it is not the caller's any more.

        Args:
            claim: The lease.
            duplicate: Whether the tracker may have taken the event all the same.
        """
        status = self._run("release", lane=claim.lane, token=claim.token, id=claim.id, duplicate=_flag(duplicate))[0]
        return bool(status == b"RELEASED")

    def bury(self, claim: Claim, *, type: str, reason: str, meta: bytes, lease_ms: int) -> Buried:
        """The head becomes a dead letter with no attempt: unreadable, poison, or an operator's wish.

        Args:
            claim: The lease.
            type: The event type, "?" when it cannot be read.
            reason: Why, in a few words that many letters share.
            meta: From ``letter_meta``.
            lease_ms: As in ``settle``.
        """
        status, following, letter_id = self._run(
            "bury",
            lane=claim.lane,
            token=claim.token,
            id=claim.id,
            group=group(type, reason),
            meta=meta,
            lease_ms=lease_ms,
            version=record.VERSION,
        )
        return Buried(status != b"SUPERSEDED", claim.following(following), letter_id)

    def look(self, hint_ms: int) -> tuple[bool, int]:
        """For the pump: whether to publish a hint now, and for how many ms a claimable lane has been left lying."""
        publish, unclaimed_ms = self._run("look", hint_ms=hint_ms)
        return bool(publish), unclaimed_ms

    # Operators

    def pause(self, app: str) -> None:
        """Hold an app back until ``resume``: its events are kept and none is sent."""
        self._run("pause", app=app)

    def resume(self, app: str) -> None:
        """Let an app go on at once, whatever held it back."""
        self._run("resume", app=app)

    def apps(self) -> list[str]:
        """Every app that ever had an event here."""
        return [name.decode() for name in self.read("ZRANGE", self.keys.apps, 0, -1)]


def _flag(value: bool) -> str:  # noqa: FBT001 - a script's argument
    return "1" if value else ""


def _post_ms(ms: int | None) -> int:
    return _NO_POST if ms is None else min(max(0, ms), _MAX_POST_MS)
