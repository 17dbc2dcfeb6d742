"""Times as JSON has them, and as people read them.

A stored time may be any number: bytes in Redis may be damaged. There is no date before the
year 1 and after 9999, and that is no error.
"""

from __future__ import annotations

from datetime import UTC, datetime


def utc(ms: int) -> datetime | None:
    """A time in ms since the epoch; None when there is no such date."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # which one depends on how far away it is
        return None


def iso(ms: int) -> str | None:
    """A time in ms since the epoch as ISO 8601 in UTC; None, in JSON null, when there is no such date."""
    at = utc(ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


def written(ms: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time in ms since the epoch for people, in UTC; the number itself when there is no such date.

    Args:
        ms: The time.
        form: As for ``strftime``.
    """
    at = utc(ms)
    return at.strftime(form) if at else f"no date ({ms} ms)"
