"""How dead letters are shown: masked, as dicts and as tables; and how they are counted before a bulk action."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from insend_relay.console.commands.book_tables import revenue_text
from insend_relay.console.terminal import ago, counted, plain, table
from insend_relay.operations.dead import DeadLetters, Filter, Letter
from insend_relay.operations.dead_groups import Group, groups_of
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
            ago(letter.died_at_ms, now_ms),
        )
        for letter in letters
    ]
    result = table("ID", "TYPE", "VISITOR", "TRIES", "OUTCOME", "REASON", "DIED", rows=rows)
    result.columns[0].no_wrap = True
    return result


def group_table(groups: Iterable[Group], *, now_ms: int) -> Table:
    """How many letters there are of each type and reason, the revenue of purchases, and when the last one died."""
    rows = [
        (
            group.count,
            mask_text(group.type),
            mask_text(group.reason),
            revenue_text(group.revenue, group.unknown) if group.of_purchases else "",
            ago(group.last_ms, now_ms),
        )
        for group in groups
    ]
    result = table("COUNT", "TYPE", "REASON", "REVENUE", "LAST", rows=rows)
    result.columns[3].justify = "right"
    return result


def count_first(letters: DeadLetters, filter: Filter, console: Console, *, now_ms: int) -> int:
    """How many letters are meant, shown by group before anything is done to them."""
    groups = groups_of(letters.scan(filter))
    total = sum(group.count for group in groups)
    if total == 0:
        console.print(none_matches(letters), soft_wrap=True)
    else:
        console.print(f"{counted(total, 'dead letter matches', 'dead letters match')}:")
        console.print(group_table(groups, now_ms=now_ms))
    return total


def none_matches(letters: DeadLetters) -> Text:
    """What to say when no letter is meant: what there is, so that a misspelt filter shows."""
    groups = letters.groups()
    if not groups:
        return plain("There are no dead letters.")
    named = [f"{group.count:,} {mask_text(group.type)} ({mask_text(group.reason)})" for group in groups]
    more = ", and more: `insend dead groups`" if len(named) > _GROUPS_NAMED else ""
    return plain(f"No dead letter matches; there are {', '.join(named[:_GROUPS_NAMED])}{more}.")


def _whose(letter: Letter) -> str:
    if letter.lane is None:
        return "nobody usable"
    uid = letter.lane.uid or letter.lane.digest
    return uid if letter.lane.kind == "v" else f"{uid} (guest)"
