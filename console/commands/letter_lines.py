"""The lines that ``insend dead export`` wrote and a person has corrected, checked against their dead letters.

Only ``payload`` is corrected, and ``strict`` may be added (``false`` lets unknown types and properties pass). The other
fields name the letter. A correction that was made in one of them would be lost, so it is a fault.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from insend_relay.console.commands.correction import correct, stored_event
from insend_relay.console.commands.wording import as_file
from insend_relay.operations.dead import BATCH, INVALID, DeadLetters, Letter
from insend_relay.operations.repair import Corrected
from insend_relay.outbox.errors import InvalidEvent
from insend_relay.outbox.store import Outbox

# What the record says, so that it cannot have changed since the export; why and when a letter died, it can.
_FROM_RECORD = ("seq", "app", "visitor_uid", "guest_uid", "type", "accepted_at", "payload_text", "payload_base64")
_NO_PAYLOAD = "payload: missing; write the corrected event here as a JSON object (payload_text has the letter's)"

# The letter of an invalid event holds text where the application gave a value that JSON does not have. That text may
# keep the rules, and still is not what was meant.
_UNCHANGED = "payload: is not corrected, and the event broke the rules (`insend dead show ID` lists the faults)"


class LetterLine(NamedTuple):
    """What a line says.

    Attributes:
        id: The letter's id.
        record_sha1: The letter's record when it was exported.
        event: What takes the letter's place; None when the letter is gone.
    """

    id: uuid.UUID
    record_sha1: str
    event: Corrected | None


def is_letter_line(line: dict[str, Any]) -> bool:
    """Whether a line belongs to a dead letter: an event for ``send`` has no id."""
    return "id" in line


class LetterLines:
    """Reads lines and the letters that they name.

    Args:
        outbox: Where the letters lie.

    Attributes:
        faults: What is wrong, each with the number of its line.
    """

    def __init__(self, outbox: Outbox) -> None:
        self.faults: list[tuple[int, str]] = []
        self._letters = DeadLetters(outbox)
        self._line_of: dict[uuid.UUID, int] = {}

    def read(self, lines: Sequence[tuple[int, dict[str, Any]]]) -> Iterator[tuple[int, LetterLine]]:
        """The lines that can be used, by their numbers; ``faults`` has the others."""
        for start in range(0, len(lines), BATCH):
            named = [(number, line, self._named(number, line)) for number, line in lines[start : start + BATCH]]
            found = self._letters.find({letter_id for _, _, letter_id in named if letter_id is not None})
            for number, line, letter_id in named:
                if letter_id is None:
                    continue
                letter = found.get(letter_id)
                event = None if letter is None else self._event(number, line, letter)
                if letter is None or event is not None:
                    yield number, LetterLine(letter_id, line["record_sha1"], event)

    def _named(self, number: int, line: dict[str, Any]) -> uuid.UUID | None:
        """The id of the letter that a line names; None when there is a fault."""
        try:
            letter_id = uuid.UUID(line["id"])
        except (ValueError, AttributeError, TypeError):
            self.faults.append((number, "id: is not the id of a dead letter"))
            return None
        if not isinstance(line.get("record_sha1"), str):
            self.faults.append((number, "record_sha1: missing; only what `insend dead export` writes can be sent"))
            return None
        first = self._line_of.setdefault(letter_id, number)
        if first != number:
            self.faults.append((number, f"id: the letter of line {first} once more"))
            return None
        return letter_id

    def _event(self, number: int, line: dict[str, Any], letter: Letter) -> Corrected | None:
        """What takes the letter's place; None when there is a fault."""
        faults = list(_faults(line, letter))
        if not faults:
            unchanged = _is_unchanged(line, letter)
            # An event that was not changed is the letter's own, whose numbers are as they were written.
            data = stored_event(letter) if unchanged else line["payload"]
            try:
                event = correct(letter, data, strict=line.get("strict"))
            except InvalidEvent as error:
                faults = as_file(error)
            else:
                if not (unchanged and letter.reason == INVALID and line.get("strict", True)):
                    return event
                faults = [_UNCHANGED]
        self.faults += ((number, fault) for fault in faults)
        return None


def _faults(line: dict[str, Any], letter: Letter) -> Iterator[str]:
    """What is wrong with a line but for its event."""
    if line["record_sha1"] != letter.record_sha1:
        yield "record_sha1: the letter was corrected since the export; export it again"
        return
    exported = letter.as_dict()
    for name, value in line.items():
        if name not in exported and name != "strict":
            yield f"{name}: not a field of an exported letter"
        elif name in _FROM_RECORD and value != exported[name]:
            yield f"{name}: was changed; make the correction in payload"
    if not isinstance(line.get("payload"), dict):
        yield _NO_PAYLOAD
    if not isinstance(line.get("strict", True), bool):
        yield "strict: must be true or false"


def _is_unchanged(line: dict[str, Any], letter: Letter) -> bool:
    exported = json.loads(json.dumps(letter.as_dict()["payload"]), parse_float=Decimal)
    return json.dumps(line["payload"], default=repr) == json.dumps(exported, default=repr)
