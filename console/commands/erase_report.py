"""What ``insend erase`` says: what it has found, what it has discarded, and what it cannot reach.

Events are listed by id and type. Of the person only uids are shown, which the operator needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Console

from insend_relay.console.terminal import counted, plain, table
from insend_relay.operations.erase import Report
from insend_relay.operations.erase_survey import Survey
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.masking import mask_text
from insend_relay.outbox.person import Person
from insend_relay.outbox.settings import Settings

_ON_SCREEN = 200  # a longer list is not read; --json has every event
_OUT_OF_REACH = (
    "the tracker: ask there for the erasure of what it has received",
    "Redis's files on disk (AOF, RDB), its replicas' files, its slow log, and backups",
    "exports (`insend dead export`) and log files",
    (
        "the spools of other machines: their events of this person are discarded when they come in (for 90 days); "
        "`insend erase` there deletes them from the file at once"
    ),
)
_UNDECIDED = (
    "This guest became several visitors (a browser that they share). Their events stay; run `insend erase` for each "
    "one that is meant:"
)
_SEVERAL_APPS = "Events of several apps are meant, where one uid may be two persons; --app APP means one of them:"
_UNREADABLE = "rows of the spool cannot be read and are of this person"
_UNCLEAR = (
    "Dead letters that mention the uid but name no usable visitor or guest stay; look at each by `insend dead show "
    "ID`, and discard what is this person's by `insend dead discard --id ID`:"
)
_SHARED = "The events of other visitors name a guest of this person (a browser that they share). They stay:"


def print_survey(found: Survey, settings: Settings, console: Console) -> None:
    """What there is of the person, before the question."""
    if found.counts:
        rows = [
            (str(owner), counts["waiting"], counts["dead"], counts["spooled"])
            for owner, counts in sorted(found.counts.items(), key=lambda item: str(item[0]))
        ]
        console.print(table("LANE", "WAITING", "DEAD", "SPOOLED", rows=rows))
    else:
        console.print(plain(f"Nothing of {found.person.uid} is here."))
    if found.unreadable:
        unreadable = counted(found.unreadable, "row of the spool cannot be read and is of this person", _UNREADABLE)
        console.print(plain(f"{unreadable}: deleted too."))
    if found.unclear:
        ids = ", ".join(map(str, found.unclear[:_ON_SCREEN]))
        console.print(plain(f"{_UNCLEAR} {ids}", "yellow"), soft_wrap=True)
    if not settings.spool:
        console.print("INSEND_SPOOL is not set here: no spool of this machine is searched.")
    apps = sorted({owner.app for owner in found.counts})
    if len(apps) > 1:
        console.print(plain(f"{_SEVERAL_APPS} {', '.join(apps)}", "yellow"), soft_wrap=True)
    for title, lanes in (_UNDECIDED, found.person.undecided), (_SHARED, found.person.shared):
        if lanes:
            console.print(plain(f"{title} {_names(lanes)}", "yellow"), soft_wrap=True)


def print_report(person: Person, report: Report, console: Console) -> None:
    """What was done, what the tracker may have, and what is left."""
    print_erased(report, console)
    console.print("Not within reach:")
    for place in _OUT_OF_REACH:
        console.print(plain(f"- {place}"), soft_wrap=True)
    for finding in _findings(person, report):
        console.print(plain(finding, "bold yellow"), soft_wrap=True)


def print_erased(report: Report, console: Console) -> None:
    """What was discarded so far, and what of it the tracker may have."""
    if report.events:
        rows = [(str(event.id), mask_text(event.type), event.place) for event in report.events[:_ON_SCREEN]]
        console.print(table("ID", "TYPE", "WAS", rows=rows))
        if len(report.events) > _ON_SCREEN:
            console.print(f"... and {len(report.events) - _ON_SCREEN:,} more: --json lists all of them")
    places = Counter(event.place for event in report.events)
    accepted = places["waiting"] + places["dead"]
    console.print(plain(f"{counted(accepted, 'event')} discarded in Redis.", "bold"))
    if places["spooled"]:
        console.print(f"{counted(places['spooled'], 'event')} deleted from the spool: they had never come into Redis.")
    if report.unreadable:
        console.print(f"{counted(report.unreadable, 'unreadable row')} deleted from the spool.")
    possibly_sent = report.possibly_sent()
    if possibly_sent:
        ids = ", ".join(map(str, possibly_sent[:_ON_SCREEN]))
        console.print(
            plain(f"The tracker may have received {counted(len(possibly_sent), 'event')}: {ids}"), soft_wrap=True
        )


def _findings(person: Person, report: Report) -> list[str]:
    """What is left of the person, a sentence each."""
    again = f"run it again for {uids(person)}"
    said = [
        f"The first event of {lane} is still being sent by {worker}: {again}."
        for lane, worker in sorted(report.sending.items(), key=lambda item: str(item[0]))
    ]
    if report.spool_busy:
        said.append(f"A producer or a worker is moving the spool on right now, so that its rows were left: {again}.")
    return said


def as_dict(found: Survey, report: Report, settings: Settings) -> dict[str, Any]:
    """The same as JSON can carry it."""
    person = found.person
    places = Counter(event.place for event in report.events)
    return {
        "uid": person.uid,
        "app": person.app,
        "found": _listed(person.found),
        "counts": {place: places[place] for place in ("waiting", "dead", "spooled")},
        "unreadable": report.unreadable,
        "erased": [{"id": str(one.id), "type": mask_text(one.type), "was": one.place} for one in report.events],
        "possibly_sent": [str(event_id) for event_id in report.possibly_sent()],
        "still_sending": _listed(report.sending),
        "spool": "busy" if report.spool_busy else "erased" if settings.spool else "none",
        "undecided": _listed(person.undecided),
        "shared": _listed(person.shared),
        "unclear": [str(letter_id) for letter_id in found.unclear],
        "complete": report.complete and not person.undecided,
        "out_of_reach": list(_OUT_OF_REACH),
    }


def uids(person: Person) -> str:
    """Every uid for which an incomplete erasure is to be run again."""
    return ", ".join(dict.fromkeys((person.uid, *(lane.uid for lane in sorted(person.found, key=str)))))


def _names(lanes: Iterable[Lane]) -> str:
    return ", ".join(_listed(lanes))


def _listed(lanes: Iterable[Lane]) -> list[str]:
    return sorted(map(str, lanes))
