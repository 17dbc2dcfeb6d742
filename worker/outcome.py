"""How one POST ended, and what that means: pure data.

Three kinds (the dead letters are told apart by them, and replay can ask for one):

    refused    the request was never sent: nobody listens, no such host, a bad certificate
    answered   the tracker answered; ``status`` says what
    unknown    the request was sent and no whole answer came, or a gateway answered for the tracker (502, 504, 520 to
               527, 530): the tracker may have taken the event
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from insend_relay.outbox.store import Failure

# 520 to 527 and 530 are Cloudflare's words for an origin that gives no proper answer.
GATEWAY = frozenset({502, 504, *range(520, 528), 530})
UNREACHABLE = GATEWAY | {408, 425, 429, 503}
CLOSED = frozenset({401, 403, 404})
OVERLOADED = frozenset({429, 503})
ANSWER_CHARACTERS = 500
CUT = "cut at shutdown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one POST ended.

    Attributes:
        kind: refused, answered or unknown.
        status: The HTTP status, when there was one.
        answer: The first 500 characters of the answer, or what went wrong. May repeat what was sent: never logged.
        retry_after_seconds: What the tracker asked us to wait (429, 503), when it did.
        open_connections: When no further connection could be opened, or the tracker closed it at once: how many others
            this process had open. 0 in all other cases, and when there were no others.
    """

    kind: Literal["refused", "answered", "unknown"]
    status: int | None = None
    answer: str = ""
    retry_after_seconds: float | None = None
    open_connections: int = 0

    @classmethod
    def of_status(cls, status: int, answer: str, retry_after_seconds: float | None) -> Outcome:
        """The outcome of a POST that was answered."""
        asked = retry_after_seconds if status in {429, 503} else None
        return cls("unknown" if status in GATEWAY else "answered", status, answer.strip()[:ANSWER_CHARACTERS], asked)

    @property
    def delivered(self) -> bool:
        """Success is the status line 200, nothing else (the tracker's page)."""
        return self.status == 200  # noqa: PLR2004 - HTTP's own number

    @property
    def was_cut(self) -> bool:
        """We ended the call ourselves, because the process must go: that is nobody's failure."""
        return self.answer == CUT and self.status is None

    @property
    def doubtful(self) -> bool:
        """The tracker may have taken the event although it did not say so."""
        return self.kind == "unknown"

    @property
    def too_much(self) -> bool:
        """The tracker may have more to do than it can: it said so, or did not answer."""
        return self.status in OVERLOADED or (self.status is None and self.kind == "unknown" and not self.was_cut)

    @property
    def failure(self) -> Failure:
        """Which kind of failure it is, for the policy and the outage guard."""
        if self.status is None or self.status in UNREACHABLE:
            return "unreachable"
        if self.status in CLOSED:
            return "closed"
        return "server" if self.status >= 500 else "rejected"  # noqa: PLR2004 - HTTP's own number

    @property
    def reason(self) -> str:
        """In a few words that many letters share and that hold nothing of the event."""
        return str(self.status) if self.status else self.answer

    def __str__(self) -> str:
        return f"{self.kind} {self.status}: {self.answer}" if self.status else f"{self.kind}: {self.answer}"


DELIVERED = Outcome("answered", 200)  # of a 200 nothing more is asked
