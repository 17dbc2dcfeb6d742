"""Whether and when a failed event is tried again."""

from __future__ import annotations

import pytest

from insend_relay.outbox.settings import Settings
from insend_relay.worker.outcome import Outcome
from insend_relay.worker.policy import Decision, Policy

GATEWAYS = (520, 521, 522, 523, 524, 525, 526, 527, 530)
HOUR, DAY = 3_600, 86_400
REFUSED = Outcome("refused", answer="connection refused")
TIMED_OUT = Outcome("unknown", answer="no whole answer within 15 s")


def answered(status: int) -> Outcome:
    return Outcome.of_status(status, "", None)


@pytest.fixture
def policy() -> Policy:
    return Policy(Settings(retry_jitter=0))


@pytest.mark.parametrize(
    "outcome", [REFUSED, TIMED_OUT, *(answered(s) for s in (407, 408, 425, 429, 502, 503, 504, *GATEWAYS))]
)
def test_an_unreachable_tracker_is_given_up_after_ten_attempts_and_a_day(policy: Policy, outcome: Outcome) -> None:
    assert policy.decide(outcome, attempts=500, age_seconds=DAY - 1, tried_seconds=0).burial_reason == ""
    assert policy.decide(outcome, attempts=9, age_seconds=7 * DAY, tried_seconds=0).burial_reason == ""
    assert policy.decide(outcome, attempts=10, age_seconds=DAY + 1, tried_seconds=0).burial_reason == outcome.reason


@pytest.mark.parametrize("status", [500, 501, 505, 519, 528, 529, 531, 599])
def test_another_server_error_is_given_up_after_ten_attempts_and_an_hour(policy: Policy, status: int) -> None:
    assert policy.decide(answered(status), attempts=10, age_seconds=HOUR - 1, tried_seconds=0).burial_reason == ""
    assert policy.decide(answered(status), attempts=9, age_seconds=2 * HOUR, tried_seconds=0).burial_reason == ""
    last = policy.decide(answered(status), attempts=10, age_seconds=HOUR + 1, tried_seconds=0)
    assert last.burial_reason == str(status)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 403, 404])
def test_a_closed_door_is_given_up_after_five_attempts_and_the_guards_calm(policy: Policy, status: int) -> None:
    def decide(attempts: int, tried_seconds: float) -> Decision:
        return policy.decide(answered(status), attempts=attempts, age_seconds=7 * DAY, tried_seconds=tried_seconds)

    assert decide(4, tried_seconds=DAY).burial_reason == ""
    assert decide(50, tried_seconds=59).burial_reason == ""
    assert decide(5, tried_seconds=61).burial_reason == str(status)


@pytest.mark.parametrize("status", [201, 204, 400, 410, 422])
def test_any_other_answer_is_given_up_after_five_attempts(policy: Policy, status: int) -> None:
    assert policy.decide(answered(status), attempts=4, age_seconds=7 * DAY, tried_seconds=0).burial_reason == ""
    assert policy.decide(answered(status), attempts=5, age_seconds=0, tried_seconds=0).burial_reason == str(status)


def test_the_waits_double_from_a_second_to_five_minutes(policy: Policy) -> None:
    decisions = [policy.decide(answered(500), attempts=n, age_seconds=0, tried_seconds=0) for n in range(1, 12)]
    waits = [decision.delay_seconds for decision in decisions]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_jitter_only_ever_lengthens_a_wait_and_by_its_share_at_most() -> None:
    policy = Policy(Settings(retry_jitter=0.25))
    waits = {policy.decide(answered(500), attempts=4, age_seconds=0, tried_seconds=0) for _ in range(200)}
    seconds = [wait.delay_seconds for wait in waits]
    assert len(seconds) > 100
    assert all(8 <= wait <= 10 for wait in seconds)


def test_the_numbers_are_settings() -> None:
    policy = Policy(Settings(rejected_attempts=2, retry_first_seconds=7, retry_jitter=0))
    assert policy.decide(answered(400), attempts=1, age_seconds=0, tried_seconds=0) == Decision(7)
    assert policy.decide(answered(400), attempts=2, age_seconds=0, tried_seconds=0) == Decision(14, "400")


@pytest.mark.parametrize(
    ("outcome", "failure", "doubtful"),
    [
        (REFUSED, "unreachable", False),
        (TIMED_OUT, "unreachable", True),
        (answered(502), "unreachable", True),
        (answered(504), "unreachable", True),
        *((answered(status), "unreachable", True) for status in GATEWAYS),
        (answered(503), "unreachable", False),
        (answered(401), "closed", False),
        (answered(403), "closed", False),
        (answered(404), "closed", False),
        (answered(500), "server", False),
        (answered(400), "rejected", False),
        (answered(302), "closed", False),
        (answered(201), "rejected", False),
    ],
)
def test_each_outcome_is_one_kind_of_failure(outcome: Outcome, failure: str, doubtful: bool) -> None:  # noqa: FBT001
    assert (outcome.failure, outcome.doubtful, outcome.delivered) == (failure, doubtful, False)


def test_only_the_status_200_is_success() -> None:
    assert answered(200).delivered
    assert not any(answered(status).delivered for status in range(201, 600))


def test_an_answer_is_kept_to_its_first_500_characters() -> None:
    assert Outcome.of_status(400, "x" * 2_000, None).answer == "x" * 500


def test_retry_after_counts_for_429_and_503_only() -> None:
    assert [Outcome.of_status(status, "", 7.0).retry_after_seconds for status in (429, 503, 500, 400)] == [
        7,
        7,
        None,
        None,
    ]
