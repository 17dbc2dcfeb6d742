"""The tables of ``docs/benchmarks.md``, out of the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench_claims import CELERY, Claim, rate, tuned_ratio
from bench_data import Runs
from bench_figures import Spread, median, pooled, ratio, select, spread
from entrants import DELAYS_MS
from tuned import DEFAULT

NONE = "-"


def claims_table(claims: Sequence[Claim]) -> str:
    """What must be shown."""
    rows = []
    for claim in claims:
        sign = ">=" if claim.at_least else "<="
        reached = {True: "yes", False: "**no**", None: "not measured"}[claim.reached]
        target = f"{sign} {claim.target:,g} {claim.unit}"
        rows.append((claim.words, _with(claim.figure, claim.unit), target, reached))
    return table(("what", "measured", "target", "reached"), rows)


def throughput_tables(runs: Runs) -> str:
    """A table for each delay of the tracker."""
    head = (
        "",
        "events/s",
        "least - most",
        "x Celery",
        "CPU ms",
        "of it Redis",
        "RSS MB",
        "PSS MB",
        "reads",
        "commands",
    )
    return "\n\n".join(
        f"### The tracker answers {f'after {delay_ms} ms' if delay_ms else 'at once'}\n\n"
        + table(head, (_throughput_row(runs, delay_ms, name, lane) for name, lane in entrants_of(runs, delay_ms)))
        for delay_ms in DELAYS_MS
        if select(runs, delay_ms=delay_ms)
    )


def entrants_of(runs: Runs, delay_ms: int) -> list[tuple[str, int]]:
    """Names and events a visitor, in the order of the first round."""
    found = select(runs, delay_ms=delay_ms, round=0)
    return list(dict.fromkeys((run["entrant"], run["lane"]) for run in found))


def label(name: str, lane: int) -> str:
    """An entrant, and how many events of each visitor it was given."""
    return name if lane == 1 else f"{name}, {lane} a visitor"


def _throughput_row(runs: Runs, delay_ms: int, name: str, lane: int) -> tuple[str, ...]:
    wanted = {"entrant": name, "delay_ms": delay_ms, "lane": lane}
    per_second = spread(runs, "per_second", **wanted)
    rest = ("cpu_ms", "redis_ms", "rss_megabytes", "pss_megabytes", "redis_reads", "redis_commands")
    cpu, redis, rss, pss, reads, commands = (median(runs, figure, **wanted) for figure in rest)
    times = ratio(per_second.median if per_second else None, rate(runs, CELERY, delay_ms))
    return (
        label(name, lane),
        *_spread(per_second),
        _number(times, 2),
        _number(cpu, 3),
        _number(redis, 3),
        _number(rss),
        _number(pss),
        _number(reads, 2),
        _number(commands, 1),
    )


def enqueue_table(runs: Runs) -> str:
    """What a call takes."""
    rows = []
    celery = median(runs, "p50_ms", entrant=CELERY)
    for name in _names(runs):
        p50, p99 = (spread(runs, figure, entrant=name) for figure in ("p50_ms", "p99_ms"))
        times = ratio(p50.median if p50 else None, celery)
        rows.append((name, *_spread(p50, 3), _number(times, 2), *_spread(p99, 3)))
    return table(("", "p50 ms", "least - most", "x Celery", "p99 ms", "least - most"), rows)


def idle_table(runs: Runs) -> str:
    """From the call's return to the POST."""
    rows = []
    celery = pooled(runs, "post_ms", 50, entrant=CELERY)
    for name in _names(runs):
        p50, p99 = (pooled(runs, "post_ms", hundredths, entrant=name) for hundredths in (50, 99))
        events = sum(len(run["post_ms"]) for run in select(runs, entrant=name))
        rows.append((name, _number(p50, 1), _number(ratio(p50, celery), 2), _number(p99, 1), str(events)))
    return table(("", "p50 ms", "x Celery", "p99 ms", "events"), rows)


def memory_table(runs: Runs) -> str:
    """What a waiting event takes."""
    celery = median(runs, "bytes", entrant=CELERY)
    rows = []
    for name in _names(runs):
        held = spread(runs, "bytes", entrant=name)
        rows.append((name, *_spread(held), _number(ratio(held.median if held else None, celery), 2)))
    return table(("", "bytes", "least - most", "x Celery"), rows)


def tuned_table(runs: Runs) -> str:
    """The default and the best values of the search."""
    rows = []
    for delay_ms in DELAYS_MS:
        finals = select(runs, stage="final", delay_ms=delay_ms)
        if not finals:
            continue
        values = dict.fromkeys(run["concurrency"] for run in finals)
        found = {value: "{} ({})".format(*_spread(spread(finals, "per_second", concurrency=value))) for value in values}
        default = found.pop(DEFAULT, NONE)
        best = "; ".join(f"{value}: {figures}" for value, figures in found.items())
        rows.append((f"{delay_ms} ms", default, best, _number(tuned_ratio(runs, delay_ms), 2)))
    return table(("answers after", "default, events/s (least - most)", "the best of the search", "ratio"), rows)


def growth_table(runs: Runs) -> str:
    """How each state was to look at."""
    rows = []
    for what, size in dict.fromkeys((run["what"], run["size"]) for run in runs):
        wanted = {"what": what, "size": size}
        figures = [median(runs, figure, **wanted) for figure in ("append_ms", "claim_ms", "status_ms")]
        per_second = spread(runs, "per_second", **wanted)
        rows.append((STATES[what].format(size=size), *(_number(figure, 2) for figure in figures), *_spread(per_second)))
    return table(("", "append ms", "claim of 32 ms", "status ms", "events/s", "least - most"), rows)


STATES = {
    "waiting": "{size:,} events waiting, one of each visitor",
    "lanes": "100,000 events waiting, of {size:,} visitors",
    "retry": "{size:,} visitors in retry, 100,000 events waiting",
    "dead": "{size:,} dead letters, 100,000 events waiting",
}


def setups_table(runs: Runs, chosen: dict[str, dict[str, str]]) -> str:
    """What was tried for each peer, the best first.

    Args:
        runs: The part's.
        chosen: The commands that the other parts measure, by entrant and delay.
    """
    used = {(delay_ms, command) for by_delay in chosen.values() for delay_ms, command in by_delay.items()}
    rows = []
    for name in _names(runs):
        for delay_ms in DELAYS_MS:
            group = select(runs, entrant=name, delay_ms=delay_ms)
            tried = [
                (spread(group, "per_second", command=command), command)
                for command in dict.fromkeys(run["command"] for run in group)
            ]
            tried.sort(key=lambda one: -one[0].median if one[0] else 0.0)
            rows += [
                (
                    f"{delay_ms} ms",
                    f"`{short(command)}`",
                    "yes" if (str(delay_ms), command) in used else "",
                    *_spread(per_second),
                    _number(median(group, "cpu_ms", command=command), 2),
                    _number(median(group, "pss_megabytes", command=command)),
                )
                for per_second, command in tried
            ]
    return table(("answers after", "set-up", "used", "events/s", "least - most", "CPU ms", "PSS MB"), rows, left=3)


_SAME_FOR_ALL = (
    " --without-gossip --without-mingle --without-heartbeat",
    " --log-level WARNING",
    " -n node{}@%h",
    " -A plain_celery",
    " plain_dramatiq",
    " plain_taskiq:broker",
)


def short(command: str) -> str:
    """A command line without what all of its kind have."""
    for same in _SAME_FOR_ALL:
        command = command.replace(same, "")
    return command.replace("python together.py 2 ", "2 x ").removeprefix("python ")


def commands_table(commands: dict[str, dict[str, str]]) -> str:
    """Each entrant's command line at each delay."""
    rows = []
    for name, by_delay in commands.items():
        for command in dict.fromkeys(by_delay.values()):
            delays = ", ".join(delay_ms for delay_ms, its in by_delay.items() if its == command)
            rows.append((name, f"`{short(command)}`", f"{delays} ms"))
    return table(("", "workers", "answers after"), rows, left=3)


def _names(runs: Runs) -> list[str]:
    return list(dict.fromkeys(run["entrant"] for run in runs))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """As Markdown; figures to the right, but for the first columns, which hold words."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * left}{' ---: |' * (len(head) - left)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _spread(found: Spread | None, digits: int = 0) -> tuple[str, str]:
    if found is None:
        return NONE, NONE
    return _number(found.median, digits), f"{_number(found.least, digits)} - {_number(found.most, digits)}"


def _number(figure: float | None, digits: int = 0) -> str:
    return NONE if figure is None else f"{figure:,.{digits}f}"


def _with(figure: float | None, unit: str) -> str:
    return NONE if figure is None else f"{_number(figure, 0 if unit == 'bytes' else 2)} {unit}"


def versions(named: dict[str, str]) -> str:
    """What ran, in a line."""
    return "; ".join(f"{name} ({said})" for name, said in named.items())


def server(named: dict[str, str]) -> str:
    """Redis's part of the same."""
    return next(f"{name} {said}" for name, said in named.items() if name in ("Redis", "Valkey"))


def surroundings(about: dict[str, Any]) -> str:
    """When, and on what."""
    its, rounds = about["machine"], about["rounds"]
    machine = f"{its['cores']} cores of {its['cpu']}, {its['memory_gigabytes']:g} GB, {its['system']}"
    return f"{about['date']}, {rounds} round{'s' if rounds > 1 else ''}, {machine}, Python {its['python']}"
