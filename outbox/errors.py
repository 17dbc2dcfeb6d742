"""Every exception that Insend Relay raises, in one tree::

    RelayError
    ├── SettingsError       a setting (an INSEND_* variable) is missing or wrong; lists every fault
    ├── InvalidEvent        the event breaks the tracker's rules; lists every fault by field path
    ├── NotAccepted         the event is not kept: neither Redis nor the spool could take it
    ├── OutboxError         something about the Redis that holds the outbox
    │   ├── OutboxUnreachable   no connection, a time-out, or a Redis that is still loading or read-only
    │   ├── OutboxFull          Redis has reached maxmemory and may not evict (noeviction)
    │   ├── OutboxRefused       Redis refused the command: wrong password, no permission, wrong type of key
    │   │   └── ClusterMode         Redis runs in cluster mode, which is not supported
    │   └── NewerLayout         the keys in this Redis were written by a newer release
    ├── SpoolError          the spool's file or its disk will not do
    │   └── SpoolBusy           other threads or processes use it, and it was not free in time
    ├── Busy                a worker is sending the event right now
    ├── Changed             a dead letter is not what it was when it was read
    └── NotFound            no dead letter, visitor or app of that name

``InvalidEvent`` and ``NotAccepted`` are all that a call in a web request may raise. Every exception survives pickle,
copy and Celery's JSON with its attributes: ``args`` are exactly the arguments that make the same exception again.
"""

from __future__ import annotations

from collections.abc import Iterable


class RelayError(Exception):
    """The root of the tree: catch this to catch everything of ours."""


class SettingsError(RelayError):
    """One or more settings are missing or wrong.

    Attributes:
        faults: One sentence for each wrong setting, each naming its variable and what it wants.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "; ".join(self.faults)


class InvalidEvent(RelayError, ValueError):
    """The event breaks the tracker's rules and would be refused by it.

    Attributes:
        faults: ``(path, problem)`` for every fault, such as ``("properties.items[1].qnt", "missing")``.
    """

    def __init__(self, faults: Iterable[tuple[str, str]]) -> None:
        self.faults = tuple((path, problem) for path, problem in faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "; ".join(f"{path}: {problem}" for path, problem in self.faults)


class _OfUnknownOutcome(RelayError):
    """An error after which the command may have taken effect, or not."""

    def __init__(self, message: str, unknown: bool = False) -> None:  # noqa: FBT001, FBT002 - args have no names
        self.unknown = unknown
        super().__init__(message, unknown)

    def __str__(self) -> str:
        return str(self.args[0])


class NotAccepted(_OfUnknownOutcome):
    """The event is not kept by us: the caller alone has it.

    Attributes:
        unknown: True when Redis may have taken it all the same (it did not answer in time). Calling again with the
            same ``idempotency_key`` is then safe; without one it may send the event twice.
    """


class OutboxError(RelayError):
    """Something is wrong with the Redis that holds the outbox."""


class OutboxUnreachable(OutboxError, _OfUnknownOutcome):
    """Redis could not be reached, did not answer in time, or is not ready (loading, read-only).

    Attributes:
        unknown: True when the command had been sent, so that it may have taken effect.
    """


class OutboxFull(OutboxError):
    """Redis has reached its maxmemory: it takes no more, but gives out what it has."""


class OutboxRefused(OutboxError):
    """Redis answered with an error that trying again does not fix (permission, password, type of key)."""


class ClusterMode(OutboxRefused):
    """Redis runs in cluster mode, which is not supported."""


class NewerLayout(OutboxError):
    """The keys in this Redis were written by a newer release than this one."""


class SpoolError(RelayError):
    """The spool could not be opened, read or written."""


class SpoolBusy(SpoolError):
    """Other threads or processes use the spool, and it was not free in time. Its events are in order."""


class NotFound(RelayError, LookupError):
    """There is no dead letter, visitor or app of that name."""


class Busy(RelayError):
    """A worker is sending the event, or a replay has sent a copy of it: how that ends is known soon."""


class Changed(RelayError):
    """The dead letter is not what it was when it was read: another operator has corrected it since."""


def forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of an error and of its causes: error reporters would record the event in them."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
