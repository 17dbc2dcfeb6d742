"""``insend replay``: dead letters are sent again, behind live traffic; may be stopped at any time and gone on with."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from insend_relay.console.commands.exits import FINDING, INTERRUPTED
from insend_relay.console.commands.filters import Wanted, filter_options
from insend_relay.console.commands.letters import count_first
from insend_relay.console.commands.opening import open_outbox
from insend_relay.console.commands.replay_warnings import warnings
from insend_relay.console.terminal import agreed, counted, json_option, plain, print_json, screen, yes_option
from insend_relay.operations import replay as runs
from insend_relay.operations.dead import DeadLetters
from insend_relay.operations.replay_risks import find_risks
from insend_relay.operations.status import read_clock
from insend_relay.outbox.settings import MOST, Settings
from insend_relay.outbox.store import Outbox

_PATIENCE_SECONDS = 30.0  # without any progress: then the last events wait for their retries, or for a worker
_LOOK_SECONDS = 0.2


def _a_number(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):  # which is neither too small nor too large
        raise click.BadParameter("nan is no pace")
    return value


@click.command(epilog="Example: insend replay --type purchase --since 2h")
@filter_options
@yes_option
@click.option(
    "--rate",
    type=click.FloatRange(min=0.01, max=MOST),
    callback=_a_number,
    help="Events per second; INSEND_REPLAY_PER_SECOND otherwise.",
)
@click.option("--run", "run_id", metavar="ID", help="Go on with a replay that was stopped.")
@click.option("--background", is_flag=True, help="Let the workers do it, at INSEND_REPLAY_PER_SECOND, and return.")
@json_option
def replay(
    wanted: Wanted, run_id: str | None, rate: float | None, *, yes: bool, background: bool, as_json: bool
) -> None:
    """Send dead letters again, in the order of acceptance, behind what waits.

    Ctrl-C and SIGTERM stop it cleanly. Exit code 1 when an event came back as a dead letter.
    """
    if run_id and wanted != Wanted():
        raise click.UsageError("--run goes on with the filters that the replay was started with: leave them out")
    if background and rate:
        raise click.UsageError("leave out --rate: in the background the pace is the workers' INSEND_REPLAY_PER_SECOND")
    settings = Settings.from_env()
    console = screen(stderr=as_json)
    with open_outbox(settings) as outbox:
        run = _resume(outbox, run_id, console) if run_id else _start(outbox, wanted, console, yes=yes)
        if run is None:
            return
        if background:
            _hand_over(run, console, as_json=as_json)
            return
        with _stopped_by_signal() as stopped:
            progress = _send(run, rate or settings.replay_per_second, stopped, console)
            if progress.finished:
                with console.status(f"Waiting for the last {progress.outstanding:,} to be answered"):
                    progress = replace(_wait(run, stopped), finished=True)
    if as_json:
        print_json({"run": run.id, **asdict(progress)})
    _summarise(run, progress, console)
    if stopped():
        raise click.exceptions.Exit(INTERRUPTED)
    if progress.returned:
        raise click.exceptions.Exit(FINDING)


def _resume(outbox: Outbox, run_id: str, console: Console) -> runs.Replay:
    run = runs.Replay.resume(outbox, run_id)
    run.take_back()
    done = run.progress()
    console.print(f"Going on with {run.id}: {done.replayed:,} of {counted(run.total, 'letter')} went before")
    return run


def _start(outbox: Outbox, wanted: Wanted, console: Console, *, yes: bool) -> runs.Replay | None:
    """A new run, once the operator has seen what it would send; None when there is nothing, or it is not wanted."""
    meant = wanted.filter(outbox)
    total = count_first(DeadLetters(outbox), meant, console, now_ms=read_clock(outbox))
    if not total:
        return None
    for warning in warnings(find_risks(outbox, meant)):
        console.print(plain(f"Beware: {warning}", "yellow"), soft_wrap=True)
    if not agreed(f"Send {counted(total, 'letter')} again?", yes=yes):
        return None
    run = runs.Replay.start(outbox, meant)
    console.print(f"Replay {run.id}")
    return run


def _hand_over(run: runs.Replay, console: Console, *, as_json: bool) -> None:
    run.hand_over()
    console.print(f"The workers go on with it; `insend replay --run {run.id}` takes it back and shows how far it is.")
    if as_json:
        print_json({"run": run.id, **asdict(run.progress())})


def _send(run: runs.Replay, rate: float, stopped: Callable[[], bool], console: Console) -> runs.Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=run.total)

        def show(progress: runs.Progress) -> None:
            waits = f", waiting: {', '.join(progress.paused)} paused" if progress.paused else ""
            told = f"{progress.delivered:,} delivered, {progress.returned:,} came back{waits}"
            bar.update(task, completed=progress.replayed + progress.skipped, description=told)

        return run.run(per_second=rate, stop=stopped, progress=show)


def _wait(run: runs.Replay, stopped: Callable[[], bool]) -> runs.Progress:
    """Wait for what is under way: until all is settled, or nothing has moved for a while."""
    last = run.progress()
    moved_at = time.monotonic()
    while last.outstanding and not stopped() and time.monotonic() - moved_at < _PATIENCE_SECONDS:
        time.sleep(_LOOK_SECONDS)
        now = run.progress()
        if now != last:
            last, moved_at = now, time.monotonic()
    return last


def _summarise(run: runs.Replay, progress: runs.Progress, console: Console) -> None:
    left = progress.total - progress.replayed - progress.skipped
    console.print(
        f"{counted(progress.replayed, 'letter')} of {progress.total:,} sent again: {progress.delivered:,} delivered, "
        f"{progress.returned:,} came back, {progress.outstanding:,} under way",
        soft_wrap=True,
    )
    if progress.discarded:
        console.print(f"{progress.discarded:,} discarded while they waited in their lanes")
    if progress.skipped:
        console.print(
            f"{progress.skipped:,} skipped: they are invalid, the tracker would refuse them again; correct one by "
            "`insend dead edit ID`, many by `insend dead export` and `insend send --file`",
            soft_wrap=True,
        )
    if progress.returned:
        console.print("`insend dead list` shows what came back, and why.")
    if progress.outstanding:
        console.print(f"What is under way is in its visitor's lane; `insend replay --run {run.id}` counts again.")
    if left and not progress.finished:
        console.print(
            f"Stopped: {left:,} still dead; run the same command again, or `insend replay --run {run.id}`, to go on.",
            soft_wrap=True,
        )
    elif left:
        console.print(f"{left:,} no longer there: replayed or discarded by another command meanwhile")


@contextmanager
def _stopped_by_signal() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into an answer to "stopped?"; a second one ends the process, as usual."""
    stopped = False

    def stop(*_: Any) -> None:
        nonlocal stopped
        stopped = True
        as_before()

    def as_before() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stopped
    finally:
        as_before()
