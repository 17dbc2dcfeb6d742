"""Logs what an event is sent without: blank fields of ``visitor_info``, and fields that made it too large."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable

from insend_relay.producers.json_writer import MAX_BYTES, place_of
from insend_relay.producers.validation import Examined

_HOUR_SECONDS = 3600
_MAX_NAMES = 1000  # that are remembered; a custom field may have any name
_log = logging.getLogger("insend_relay.producers")


class OnceAnHour:
    """Says of each name whether it comes for the first time within the hour.

    It takes no lock, so that a signal handler may use it at any moment: ``dict.setdefault`` alone decides.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hours: dict[int, dict[str, object]] = {}

    def first(self, name: str) -> bool:
        """Whether this is the first time; False when too many other names have come within the hour."""
        hour = int(self._clock() // _HOUR_SECONDS)
        names = self._hours.get(hour)
        if names is None:
            names = self._hours.setdefault(hour, {})
            for old in [each for each in tuple(self._hours) if each != hour]:
                self._hours.pop(old, None)
        this = object()
        return len(names) < _MAX_NAMES and names.setdefault(name, this) is this


_blank_fields = OnceAnHour()  # of the process, whatever number of accounts it has


def log_left_out(event_id: uuid.UUID, examined: Examined, blank_fields: OnceAnHour = _blank_fields) -> None:
    """Log it, by names and counts and without any value; a blank field once an hour."""
    for name in examined.blank:
        field = place_of(name, 1)
        if blank_fields.first(field):
            _log.warning(
                "visitor_info.%s is blank and was left out; give ERASE to erase it (said once an hour)",
                field,
            )
    if examined.dropped:
        fields = ", ".join(f"{drop.field} ({drop.times:,})" for drop in examined.dropped)
        words = "event %s (%s) was larger than %s bytes and is sent without %s"
        _log.warning(words, event_id, examined.event.type, f"{MAX_BYTES:,}", fields)
