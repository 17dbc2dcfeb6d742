"""How one POST ended, and what that means: pure data.

Three kinds (the dead letters are told apart by them, and replay can ask for one):

    refused    the request was never sent: nobody listens, no such host, a bad certificate
    answered   the tracker answered; ``status`` says what
    unknown    the request was sent and no whole answer came, or a gateway answered for the tracker (502, 504, 520 to
               527, 530): the tracker may have taken the event
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from insend_relay.outbox.failed_attempt import Failure
from insend_relay.outbox.fault import Fault

# 520 to 527 and 530 are Cloudflare's words for an origin that gives no proper answer.
GATEWAY = frozenset({502, 504, *range(520, 528), 530})
UNREACHABLE = GATEWAY | {407, 408, 425, 429, 503}  # 407 is a proxy's: the tracker has not seen the event
REDIRECTS = range(300, 400)
CLOSED = frozenset({401, 403, 404, *REDIRECTS})  # about the account or the address, not about an event
OVERLOADED = frozenset({429, 503})
ANSWER_CHARACTERS = 500
TEXT_CHARACTERS = 200
CUT = "cut at shutdown"
_FAULTS: dict[int, Fault] = {401: "key", 403: "key", 404: "address", 405: "address", 407: "proxy", 410: "address"}
_TAGS = re.compile(r"<(style|script)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one POST ended.

    Attributes:
        kind: refused, answered or unknown.
        status: The HTTP status, when there was one.
        answer: The first 500 characters of the answer, or what went wrong. May repeat what was sent: never logged.
        retry_after_seconds: What the tracker asked us to wait (429, 503), when it did.
        fault: What is wrong, and with it whether that ends by itself.
        open_connections: When no further connection could be opened, or the tracker closed it at once: how many others
            this process had open. 0 in all other cases, and when there were no others.
        unconnected: No connection could be opened, or the tracker closed it at once, and this process had no others.
            An outage, or other processes have all connections that the tracker allows this machine.
    """

    kind: Literal["refused", "answered", "unknown"]
    status: int | None = None
    answer: str = ""
    retry_after_seconds: float | None = None
    fault: Fault = "passing"
    open_connections: int = 0
    unconnected: bool = False

    @classmethod
    def of_status(
        cls, status: int, answer: str, retry_after_seconds: float | None, location: str | None = None
    ) -> Outcome:
        """The outcome of a POST that was answered.

        Args:
            status: The HTTP status.
            answer: The beginning of the body.
            retry_after_seconds: The header Retry-After, when there was one.
            location: The header Location, when there was one. It is kept in the place of a redirect's body.
        """
        asked = retry_after_seconds if status in {429, 503} else None
        if location and status in REDIRECTS:
            answer = f"Location: {location}"
        kind: Literal["answered", "unknown"] = "unknown" if status in GATEWAY else "answered"
        return cls(kind, status, answer.strip()[:ANSWER_CHARACTERS], asked, _fault_of(status))

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
        """Which kind of failure it is, for the policy and the circuit breaker."""
        if self.status is None or self.status in UNREACHABLE:
            return "unreachable"
        if self.status in CLOSED:
            return "closed"
        return "server" if self.status >= 500 else "rejected"  # noqa: PLR2004 - HTTP's own number

    @property
    def reason(self) -> str:
        """In a few words that many letters share and that hold nothing of the event."""
        return str(self.status) if self.status else self.answer

    @property
    def text(self) -> str:
        """The answer on one line without HTML, 200 characters at most. May repeat what was sent, as ``answer`` may."""
        return " ".join(_TAGS.sub(" ", self.answer).split())[:TEXT_CHARACTERS]

    def summary(self, text: str) -> str:
        """What an operator reads of it.

        Args:
            text: ``text``, with nothing personal in it.
        """
        return f"{self.status}: {text}" if self.status and text else text or self.reason

    def __str__(self) -> str:
        return f"{self.kind} {self.status}: {self.answer}" if self.status else f"{self.kind}: {self.answer}"


def _fault_of(status: int) -> Fault:
    if status in REDIRECTS:
        return "redirect"
    if status >= 500 or status in {408, 425, 429}:  # noqa: PLR2004 - HTTP's own number
        return "passing"
    return _FAULTS.get(status, "refusal")


DELIVERED = Outcome("answered", 200)  # of a 200 nothing more is asked
