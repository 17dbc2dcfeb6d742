"""Random lives of events over the real scripts, against a plain model, on Redis and on Valkey."""

from __future__ import annotations

import uuid

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lanes import LEASE_MS, bury, come_due, discard, due_in, erase, now_ms, replay, schedules
from outbox_corrections import Corrections, lanes, picks, yes_or_no
from outbox_model import Event, Model, Standing
from outbox_model_books import KINDS, NEAR_THE_LIMIT, Kind
from outbox_recount import EVERYTHING, NEVER, recount
from waiting import PATIENCE_SECONDS

from insend_relay.outbox import record
from insend_relay.outbox.breaker import BreakerLimits
from insend_relay.outbox.claim import Claim, Delivered
from insend_relay.outbox.clock_steps import ClockSteps
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import Busy
from insend_relay.outbox.failed_attempt import Burial, FailedAttempt, FailReply, Failure
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.lease import new_token
from insend_relay.outbox.quarantine import QuarantineTurn
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

FAILURES: list[Failure] = ["unreachable", "closed", "server", "rejected"]
LIMITS = BreakerLimits(unreachable=3, lanes=3, first_ms=60_000, max_ms=600_000)
LATER_MS = 600_000
EXAMPLES = 600  # lives of 50 steps each
PARTS = 3  # they take minutes, on a loaded machine many: so that the processes of a test run share them

reasons = st.sampled_from(["answered 400", "gave up"])


class Life(Corrections, RuleBasedStateMachine):
    """Every transition, in any order, by holders old and new."""

    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.outbox = Outbox(self.client, namespace="life")
        self.everything = self.client.register_script(EVERYTHING)
        self.model = Model()
        self.turns = {process: QuarantineTurn(self.outbox, process) for process in ("1", "2")}
        self.claims: list[Claim] = []
        self.seen: list[bytes] = []

    # Producers

    @initialize(some=st.lists(lanes, max_size=8))
    def begin(self, some: list[Lane]) -> None:
        for lane in some:
            self.append(lane, "")

    @initialize(near=yes_or_no)
    def much_revenue(self, *, near: bool) -> None:
        """In half of the lives, few purchases more are too much for a sum of revenues."""
        if near:
            for book in ("5", "a/5"):
                self.client.hset(self.outbox.keys.books_of(book), "revenue_waiting", NEAR_THE_LIMIT)
            self.client.sadd(self.outbox.keys.books, "a/5")
            self.model.books.rows["a", 5]["revenue_waiting"] = NEAR_THE_LIMIT

    @rule(lane=lanes, key=st.sampled_from(["", "", "", "x", "y"]), login=yes_or_no, kind=st.sampled_from(KINDS))
    def append(self, lane: Lane, key: str, *, login: bool = False, kind: Kind = KINDS[0]) -> None:
        guest_uid = "1" if login and lane.kind == "v" else ""
        done = self.outbox.append(lane, record.new_id(), kind.payload, guest_uid=guest_uid, idempotency_key=key)
        scope = f"{key} of {kind}"  # the key of one type and order says nothing of another
        known = self.model.once.get((lane.app, scope)) if key else None
        assert done.duplicate == (known is not None)
        if known is not None:
            assert done.id.bytes == known
            return
        self.seen.append(done.id.bytes)
        if key:
            self.model.once[lane.app, scope] = done.id.bytes
        seq, guest = self.model.counts["accepted"] + 1, f"{lane.app}/g/1" if guest_uid else ""
        barrier = seq if guest and self.model.lines[guest].events else 0
        self.model.accept(Event(done.id.bytes, seq, str(lane), barrier=barrier, guest=guest, kind=kind))

    @precondition(lambda self: self.seen)
    @rule(pick=picks, lane=lanes, kind=st.sampled_from(KINDS), dies=yes_or_no, reason=reasons)
    def comes_again(self, *, pick: int, lane: Lane, kind: Kind, dies: bool, reason: str) -> None:
        """An event's id comes a second time: from a spool after its slot has expired, or by damaged bytes.

        Mostly it is that of a letter, and the copy dies as well.
        """
        letters = [event.id for event in self.model.dead.values()]
        among = letters if letters and pick % 4 else self.seen
        event_id = among[pick % len(among)]
        self.outbox.append(lane, uuid.UUID(bytes=event_id), kind.payload)
        self.model.accept(Event(event_id, self.model.counts["accepted"] + 1, str(lane), kind=kind))
        if dies and len(self.model.lines[str(lane)].events) == 1:
            self.seize(lane)
            self.bury_head(self.claims[-1], reason, more=False)

    def bury_invalid(self, lane: Lane | None) -> None:
        event_id = record.new_id()
        self.outbox.bury_invalid(
            lane.app if lane else "a", event_id, lane=lane, type="link", payload=b"{}", faults="url: missing"
        )
        self.seen.append(event_id.bytes)
        self.model.count("accepted")
        self.model.beats["accepted"] += 1
        kind = Kind(b"{}", 8)
        event = Event(event_id.bytes, self.model.counts["accepted"], str(lane or ""), "link\tinvalid", kind=kind)
        self.model.books.move(event.app, kind, "accepted", "dead")
        self.model.put_letter(event)

    # Workers

    @rule(
        room=st.integers(1, 5),
        worker=st.sampled_from(["w1", "w2"]),
        order=st.permutations(["a", "b"]),
    )
    def claim(self, *, room: int, worker: str, order: list[str]) -> None:
        self.fix_the_order(order)
        claims = self.outbox.claim(worker, room, lease_ms=LEASE_MS)
        self.find_left()
        self.model.claimed(claims, room, order)
        self.claims += claims

    def find_left(self) -> None:
        """Leases that a claim found and ended without leasing the lane anew; which it came by depends on its room."""
        for name in self.standing("lapsed"):
            if not self.outbox.read("HEXISTS", self.outbox.keys.lease, name):
                self.model.found_left(name)
                self.model.lines[name].standing = "ready"

    @rule(process=st.sampled_from(["1", "2"]), idle=st.sampled_from([True, True, False]))
    def claim_quarantined(self, *, process: str, idle: bool) -> None:
        self.fix_the_order(["a", "b"])
        turn = self.turns[process]
        claimed = turn.claim(lease_ms=LEASE_MS, idle=idle, token=process.encode() * 32 + new_token()[32:])
        self.find_left()
        self.model.claimed_quarantined(claimed, process, held=turn.held, idle=idle)
        self.claims += [claimed] if claimed else []

    @precondition(lambda self: self.model.turn)
    @rule(ends=st.sampled_from(["left", "left", "ran out"]))
    def the_turn_ends(self, ends: str) -> None:
        if ends == "left":
            self.turns[self.model.turn].leave()
        else:
            self.client.delete(self.outbox.keys.quarantine_turn)
        self.model.turn = ""

    @precondition(lambda self: self.claims)
    @rule(several=st.lists(picks, min_size=1, max_size=3), more=yes_or_no)
    def settle(self, *, several: list[int], more: bool) -> None:
        app, claims = self.holders_together(several)
        worths = [self.model.holds(claim) for claim in claims]
        self.model.count("duplicates_possible", sum(self.is_sent_again(claim) for claim in claims))
        following = self.outbox.settle_all(app, [Delivered(claim, LEASE_MS if more else 0) for claim in claims])
        delivered = [claim for claim, worth in zip(claims, worths, strict=True) if worth == "HEAD"]
        for claim in delivered:
            self.model.delivered(self.model.leave(claim.lane, "delivered"))
        if delivered and app in self.model.outage:
            self.model.outage.discard(app)
            self.model.tokens[app] = 0
        if app in self.model.tokens:
            self.model.tokens[app] += 2 * len(delivered)
        for claim, worth, head in zip(claims, worths, following, strict=True):
            self.follow(claim, worth, head, more=more)

    def is_sent_again(self, claim: Claim) -> bool:
        """Whether a 200 comes for an event that still stands there without this lease, and is not marked yet."""
        events = self.model.lines[claim.lane].events
        marked = self.outbox.read("ZSCORE", self.outbox.keys.doubtful, claim.id) is not None
        is_head = bool(events) and events[0].id == claim.id
        return is_head and not marked and self.model.holds(claim) == "SUPERSEDED"

    @precondition(lambda self: self.claims)
    @rule(pick=picks, more=yes_or_no, reason=reasons)
    def bury(self, *, pick: int, more: bool, reason: str) -> None:
        self.bury_head(self.holder(pick), reason, more=more)

    def bury_head(self, claim: Claim, reason: str, *, more: bool) -> None:
        worth = self.model.holds(claim)
        following = bury(self.outbox, claim, reason=reason, lease_ms=LEASE_MS if more else 0)
        if worth == "HEAD":
            self.buried(claim, reason)
        self.follow(claim, worth, following, more=more)
        if worth == "HEAD" and following is None:
            self.model.give_back_token(claim.app)

    def buried(self, claim: Claim, reason: str) -> None:
        event = self.model.leave(claim.lane, "returned")
        event.group = f"purchase\t{reason}"
        self.model.put_letter(event)

    def follow(self, claim: Claim, worth: str, following: Claim | None, *, more: bool) -> None:
        if worth == "SUPERSEDED":
            assert following is None
            return
        self.model.go_on(claim, following, more=more)
        if following is not None:
            self.claims.append(following)

    @precondition(lambda self: self.claims)
    @rule(pick=picks, duplicate=yes_or_no)
    def release(self, *, pick: int, duplicate: bool) -> None:
        claim = self.holder(pick)
        line = self.model.lines[claim.lane]
        worth = self.model.holds(claim)
        assert self.outbox.release(claim, duplicate=duplicate) == (worth == "HEAD")
        if worth != "SUPERSEDED":
            self.model.count("duplicates_possible", int(duplicate))
        if worth == "HEAD":
            line.standing = "ready"
            self.model.give_back_token(claim.app)

    @precondition(lambda self: self.claims)
    @rule(
        pick=picks,
        kind=st.sampled_from(FAILURES),
        delay_ms=st.sampled_from([0, LATER_MS]),
        burial=st.sampled_from(["", "", "answered 400", "gave up"]),
        other_attempts=st.sampled_from([0, 0, 0, 1]),
        duplicate=yes_or_no,
        retry_after_ms=st.sampled_from([0, 0, 0, 90_000]),
        repeated=yes_or_no,
    )
    def fail(
        self,
        *,
        pick: int,
        kind: Failure,
        delay_ms: int,
        burial: str,
        other_attempts: int,
        duplicate: bool,
        retry_after_ms: int,
        repeated: bool,
    ) -> None:
        claim = self.holder(pick)
        line = self.model.lines[claim.lane]
        worth = self.model.holds(claim)
        assumed = line.attempts + other_attempts
        tried = Tried(claim.id, assumed + 1, min(line.abandoned, 1), 1, 2, "answered 500")
        attempt = FailedAttempt(
            kind,
            "HTTP 500",
            tried,
            delay_ms,
            Burial("purchase", burial, b"{}", LEASE_MS) if burial else None,
            duplicate=duplicate,
            retry_after_ms=retry_after_ms,
            limits=LIMITS,
        )
        reply = self.outbox.fail(claim, attempt)
        if worth != "HEAD":
            assert (reply.result, reply.until_ms, reply.began) == (worth, 0, False)
            self.fails_too_late(claim, worth, attempt, reply)
            return
        self.model.count("duplicates_possible", int(duplicate))
        self.judged(claim, reply)
        if reply.result == "BURIED":
            assert (burial, other_attempts) == (burial or None, 0)
            self.buried(claim, burial)
            self.follow(claim, worth, reply.following, more=True)
        else:
            self.given_back(claim, reply, delay_ms)
            assert not (reply.counts and burial and not other_attempts), "its burial was due"
        if repeated:
            self.fail_again(claim, attempt)

    def judged(self, claim: Claim, reply: FailReply) -> None:
        """The breaker has decided whether an attempt counts."""
        app = claim.app
        if reply.counts:
            assert app not in self.model.outage
            self.model.give_back_token(app)
            return
        assert reply.result == "NOT_COUNTED"
        assert reply.began == (app not in self.model.outage)
        self.model.outage.add(app)
        self.model.tokens.pop(app, None)

    def given_back(self, claim: Claim, reply: FailReply, delay_ms: int) -> None:
        line = self.model.lines[claim.lane]
        line.standing = "later" if reply.counts and delay_ms else "ready"
        line.attempts += reply.counts
        line.abandoned = min(line.abandoned, 1)
        line.tried = True
        self.model.beats["failed"] += reply.counts
        if reply.began:
            self.take_back(claim.app)

    def fail_again(self, claim: Claim, attempt: FailedAttempt) -> None:
        """The answer was lost, and the call is repeated: nothing is done twice."""
        worth = self.model.holds(claim)
        if worth == "HEAD":
            events = self.model.lines[claim.lane].events
            assert events[0].seq != int.from_bytes(claim.data[1:9])
            return  # the next head is a copy, which has the same id and lease: the script would take it for the first
        reply = self.outbox.fail(claim, attempt)
        assert (reply.result, reply.until_ms, reply.began) == (worth, 0, False)
        self.fails_too_late(claim, worth, attempt, reply)

    def fails_too_late(self, claim: Claim, worth: str, attempt: FailedAttempt, reply: FailReply) -> None:
        """The event has gone already, or the lane is another's: only a burial's holder goes on with the lane."""
        if attempt.burial:
            self.follow(claim, worth, reply.following, more=True)
        else:
            assert reply.following is None

    def take_back(self, app: str) -> None:
        """An outage took attempts back and made its suspects due; which, the guard's own tests know."""
        for lane, line in self.model.lines.items():
            if lane.startswith(f"{app}/") and line.events:
                stored = self.outbox.read("HGET", self.outbox.keys.trying, lane) or b""
                left = Tried.unpack(stored, line.events[0].id).attempts
                assert 0 <= left <= line.attempts
                line.attempts = left
                in_ms = due_in(self.outbox, Lane.parse(lane))
                if line.standing == "later" and in_ms is not None and in_ms <= 0:
                    line.standing = "ready"

    @rule(lane=lanes)
    def seize(self, lane: Lane) -> None:
        line = self.model.lines[str(lane)]
        if line.events and line.standing == "leased":
            with pytest.raises(Busy):
                self.outbox.seize(lane, "operator", lease_ms=LEASE_MS)
            return
        seized = self.outbox.seize(lane, "operator", lease_ms=LEASE_MS)
        assert (seized is not None) == bool(line.events)
        if seized is not None:
            assert seized.token not in self.model.tokens_seen
            self.model.leased(seized)
            self.claims.append(seized)

    # Time

    @precondition(lambda self: self.standing("later"))
    @rule(pick=picks)
    def a_delay_runs_out(self, pick: int) -> None:
        name = self.standing("later")[pick % len(self.standing("later"))]
        come_due(self.outbox, Lane.parse(name))
        self.model.lines[name].standing = "ready"

    @precondition(lambda self: self.standing("leased"))
    @rule(pick=picks)
    def a_worker_dies(self, pick: int) -> None:
        name = self.standing("leased")[pick % len(self.standing("leased"))]
        come_due(self.outbox, Lane.parse(name))
        self.model.lines[name].standing = "lapsed"

    @rule(hours=st.sampled_from([1, 1, 24]))
    def the_clock_is_set_back(self, hours: int) -> None:
        """All times in Redis lie ahead by the step; then a pump looks."""
        self.set_back(hours * 3_600_000)
        ClockSteps(self.outbox).pull_back()
        for line in self.model.lines.values():
            line.standing = {"later": "ready", "lapsed": "leased"}.get(line.standing, line.standing)  # type: ignore[assignment]

    def set_back(self, step_ms: int) -> None:
        """As if the clock had gone back."""
        keys, now = self.outbox.keys, now_ms(self.outbox)
        schedules = (key(app) for key in (keys.due, keys.quarantine) for app in ("a", "b"))
        for key in (keys.apps, *schedules):
            for member in self.outbox.read("ZRANGE", key, 0, -1):
                score = float(self.outbox.read("ZSCORE", key, member))
                if score != NEVER:  # `fix_the_order` puts what is due into 1970, where no step reaches it
                    self.outbox.read("ZADD", key, max(score, now) + step_ms, member)
        for app in self.model.outage:
            for name in ("since", "until"):
                self.client.hincrby(keys.outage(app), name, step_ms)

    @precondition(lambda self: self.model.outage - self.model.operator)
    @rule()
    def a_pause_runs_out(self) -> None:
        for app in self.model.outage - self.model.operator:
            self.client.zadd(self.outbox.keys.apps, {app: 1}, xx=True)

    # Operators

    @precondition(lambda self: self.model.dead)
    @rule(pick=picks, run=st.sampled_from(["r1", "r2"]), limit=st.integers(1, 4))
    def replay(self, pick: int, run: str, limit: int) -> None:
        event = self.letter(pick)
        status = replay(self.outbox, event.letter, run, limit=limit)
        app = event.lane.partition("/")[0]
        if event.letter not in self.model.dead:
            assert status == b"GONE"
        elif event.group.endswith("\tinvalid"):
            assert status == b"INVALID"
        elif app in self.model.operator or (app in self.model.outage and status == b"PAUSED"):
            assert status == b"PAUSED"
        elif event.id in self.model.replaying or self.model.outstanding(run) >= limit:
            assert status == b"FULL"
        else:
            assert status == b"REPLAYED"
            self.model.replayed(event, run)

    @precondition(lambda self: self.model.dead)
    @rule(pick=picks)
    def discard(self, pick: int) -> None:
        event = self.letter(pick)
        if event.letter in self.model.dead:
            assert discard(self.outbox, event.letter) == b"DISCARDED"
            self.model.take_letter(event)
            self.model.books.move(event.app, event.kind, "dead", "discarded")
        else:
            assert discard(self.outbox, event.letter) == b"GONE"

    @precondition(lambda self: any(line.events for line in self.model.lines.values()))
    @rule(pick=picks)
    def erase(self, pick: int) -> None:
        names = [name for name, line in self.model.lines.items() if line.events]
        name = names[pick % len(names)]
        sending = self.model.lines[name].standing == "leased"
        status, ids = erase(self.outbox, Lane.parse(name))
        assert status == (b"SENDING" if sending else b"ERASED")
        assert ids == [event.id for event in self.model.erased(name, sending=sending)]

    @precondition(lambda self: any(line.events for line in self.model.lines.values()))
    @rule(pick=picks, half=yes_or_no)
    def discard_lane(self, pick: int, *, half: bool) -> None:
        names = [name for name, line in self.model.lines.items() if line.events]
        name = names[pick % len(names)]
        line = self.model.lines[name]
        last_seq = line.events[len(line.events) // 2].seq if half else self.model.counts["accepted"]
        sending = line.standing == "leased"
        stays = sending and line.events[0].seq <= last_seq
        found = self.outbox._run("discard_lane", lane=name, last_seq=last_seq)
        lapsed = line.standing == "lapsed"
        taken = self.model.given_up(name, last_seq, sending=sending)
        assert found[0] == (b"SENDING" if stays else b"DISCARDED")
        assert found[2:] == [len(taken), int(lapsed and bool(taken))]

    @rule(what=st.sampled_from(["pause", "resume", "resume", "look", "invalid"]), lane=lanes, nobody=yes_or_no)
    def somebody_else(self, *, what: str, lane: Lane, nobody: bool) -> None:
        if what == "pause":
            self.outbox.pause(lane.app)
            self.model.operator.add(lane.app)
            self.model.apps.add(lane.app)
        elif what == "resume":
            self.outbox.resume(lane.app)
            self.model.operator.discard(lane.app)
            self.model.outage.discard(lane.app)
            self.model.apps.add(lane.app)
            self.model.tokens[lane.app] = 2
        elif what == "invalid":
            self.bury_invalid(None if nobody else lane)
        else:
            self.look()

    def look(self) -> None:
        self.client.delete(self.outbox.keys.hint)
        publish, _ = self.outbox.look(60_000)
        due = (*self.standing("ready"), *self.standing("lapsed"))
        if self.model.outage or any(map(self.model.waits, due)):
            return
        open_to = {name for name in due if name.partition("/")[0] not in self.model.operator}
        quarantined = {name for name in open_to if self.model.lines[name].quarantined}
        if open_to - quarantined:
            assert publish
        elif not quarantined or self.model.turn:
            assert not publish

    def fix_the_order(self, order: list[str]) -> None:
        """What is due is taken in an order that does not hang on whether two steps fell into one millisecond."""
        for age, app in enumerate(order, start=1):
            if app not in self.model.operator | self.model.outage:
                self.client.zadd(self.outbox.keys.apps, {app: age}, xx=True)
        for age, name in enumerate(sorted((*self.standing("ready"), *self.standing("lapsed"))), start=1):
            for key in schedules(self.outbox, Lane.parse(name)):
                self.client.zadd(key, {name: age}, xx=True)

    # Picking

    def holder(self, pick: int) -> Claim:
        """A claim that holds its lane, mostly; else one of any age."""
        live = [claim for claim in self.claims if self.model.holds(claim) == "HEAD"]
        among = live if live and pick % 4 else self.claims
        return among[-1 - pick % len(among)]

    def holders_together(self, several: list[int]) -> tuple[str, list[Claim]]:
        """The same of several lanes of an app."""
        claims = {claim.lane: claim for claim in map(self.holder, several)}
        app = next(iter(claims.values())).app
        return app, [claim for claim in claims.values() if claim.app == app]

    def letter(self, pick: int) -> Event:
        """A dead letter, mostly one that may be replayed; now and then an event that is none."""
        dead = sorted(self.model.dead.values(), key=lambda event: event.group.endswith("\tinvalid"))
        if dead and pick % 8:
            return dead[(pick // 8) % len(dead) if pick % 3 == 0 else 0]
        event_id = self.seen[pick % len(self.seen)]
        return self.model.dead.get(event_id, Event(event_id, 0, "", letter=event_id))

    def standing(self, how: Standing) -> list[str]:
        """The lanes that stand so."""
        return [name for name, line in self.model.lines.items() if line.events and line.standing == how]

    # What always holds

    @invariant()
    def redis_holds_what_the_model_says(self) -> None:
        recount(self.outbox.keys, self.model, self.everything(args=[self.outbox.keys.prefix]))


@pytest.mark.parametrize("_", range(PARTS))
def test_any_interleaving_leaves_redis_as_the_model_says(either_url: str, _: int) -> None:
    with connect(either_url, timeout_seconds=PATIENCE_SECONDS) as client:
        machine = type("Life", (Life,), {"client": client})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES // PARTS,
                stateful_step_count=50,
                deadline=None,
                print_blob=True,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
            ),
        )
