"""How dead letters are shown: masked, as dicts and as tables; and how they are counted before a bulk action."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from insend_relay.console.terminal import counted, plain, table
from insend_relay.operations.dead import DeadLetters, Filter, Letter
from insend_relay.operations.status import span
from insend_relay.outbox.masking import mask_answer, mask_event, mask_text

_GROUPS_NAMED = 10


def shown(letter: Letter, *, personal: bool) -> dict[str, Any]:
    """A letter with everything that is known of it; masked unless ``personal``."""
    whole = letter.as_dict()
    if personal:
        return whole
    data = event_data(letter.payload)
    # With everything else in sight, a masked value could be guessed and proved by the record's hash.
    masked = {name: value for name, value in whole.items() if not name.startswith(("payload_", "record_"))}
    return {
        **masked,
        "type": mask_text(letter.type),
        "answer": mask_answer(letter.answer, data),
        "payload": mask_event(data),
    }


def event_data(payload: bytes) -> Any:
    """The event as far as it can be read; None when it cannot."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


def letter_table(letters: Iterable[Letter], *, now_ms: int) -> Table:
    """A line for each letter."""
    rows = [
        (
            str(letter.id),
            mask_text(letter.type),
            _whose(letter),
            letter.attempts,
            letter.outcome,
            mask_text(letter.reason),
            f"{span((now_ms - letter.died_at_ms) / 1000)} ago",
        )
        for letter in letters
    ]
    result = table("ID", "TYPE", "VISITOR", "TRIES", "OUTCOME", "REASON", "DIED", rows=rows)
    result.columns[0].no_wrap = True
    return result


def group_table(groups: dict[tuple[str, str], int]) -> Table:
    """How many there are of each type and reason, the most first."""
    rows = sorted(groups.items(), key=lambda item: (-item[1], item[0]))
    return table(
        "COUNT", "TYPE", "REASON", rows=[(count, mask_text(kind), mask_text(why)) for (kind, why), count in rows]
    )


def count_first(letters: DeadLetters, filter: Filter, console: Console) -> int:
    """How many letters are meant, shown by group before anything is done to them."""
    groups = Counter((letter.type, letter.reason) for letter in letters.scan(filter))
    total = groups.total()
    if total == 0:
        console.print(none_matches(letters), soft_wrap=True)
    else:
        console.print(f"{counted(total, 'dead letter matches', 'dead letters match')}:")
        console.print(group_table(groups))
    return total


def none_matches(letters: DeadLetters) -> Text:
    """What to say when no letter is meant: what there is, so that a misspelt filter shows."""
    groups = letters.groups()
    if not groups:
        return plain("There are no dead letters.")
    named = [f"{count:,} {mask_text(kind)} ({mask_text(why)})" for (kind, why), count in groups.items()]
    more = ", and more: `insend dead groups`" if len(named) > _GROUPS_NAMED else ""
    return plain(f"No dead letter matches; there are {', '.join(named[:_GROUPS_NAMED])}{more}.")


def _whose(letter: Letter) -> str:
    if letter.lane is None:
        return "nobody usable"
    uid = letter.lane.uid or letter.lane.digest
    return uid if letter.lane.kind == "v" else f"{uid} (guest)"
