"""``docs/benchmarks.json``: what was measured, and the unfinished measurements that a break-off has left.

A part is a list of runs, each a line: what was measured (its key) and what it came to. A part under way lies in
``.bench/``, saved after each run; when it is done it takes its place in the data, and the others stay as they were. A
mark is left there until all parts that were asked for are done, so that a second try does not begin with the first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Key = dict[str, Any]
Runs = list[dict[str, Any]]
ROOT = Path(__file__).resolve().parent.parent
DATA, UNFINISHED = ROOT / "docs" / "benchmarks.json", ROOT / ".bench"
_DIGITS = 5


@dataclass(frozen=True)
class Part:
    """A part of the benchmark.

    Attributes:
        name: In the data and on the command line.
        plan: The keys of its runs in order, by the number of rounds and the runs so far; it may look at these again
            whenever it is asked for the next key.
        measure: Does a run; returns its figures.
        rounds: As many as are usual.
        usual: Whether it is run when no part is named.
    """

    name: str
    plan: Callable[[int, Runs], Iterator[Key]]
    measure: Callable[[Key], dict[str, Any]]
    rounds: int = 5
    usual: bool = True


def carry_out(part: Part, about: dict[str, Any], *, rounds: int, resume: bool, say: Callable[[str], None]) -> Runs:
    """Do a part's runs, each saved as it is done.

    Args:
        part: Which.
        about: What else is kept with it.
        rounds: How many.
        resume: Whether to go on where a break-off left it.
        say: Told of each run.
    """
    file = UNFINISHED / f"{part.name}.json"
    runs: Runs = read(file).get(part.name, {}).get("runs", []) if resume else []
    left = len(runs)
    for number, key in enumerate(part.plan(rounds, runs)):
        if number < left and all(runs[number].get(name) == value for name, value in key.items()):
            continue
        del runs[number:]  # the plan has changed since
        left = 0
        say(f"{part.name} {number + 1}: {', '.join(f'{name} {value}' for name, value in key.items())}")
        runs.append(key | rounded(part.measure(key)))
        write(file, {part.name: about | {"runs": runs}})
    return runs


def merge(part: str, about: dict[str, Any], runs: Runs) -> dict[str, Any]:
    """Give a part that is done its place in the data; returns all of them."""
    data = read(DATA)
    data[part] = about | {"runs": runs}
    write(DATA, data)
    (UNFINISHED / f"{part}.json").unlink(missing_ok=True)
    mark(part).touch()
    return data


def mark(part: str) -> Path:
    """The file that says that a part is done and others are not yet."""
    return UNFINISHED / f"{part}.done"


def read(file: Path) -> dict[str, Any]:
    """The parts in a file; none when there is no file."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def write(file: Path, data: dict[str, Any]) -> None:
    """Write a file, a run a line."""
    file.parent.mkdir(exist_ok=True)
    beside = file.with_suffix(".new")
    beside.write_text("{\n" + ",\n".join(map(_part, data, data.values())) + "\n}\n", encoding="utf-8")
    beside.replace(file)  # a break-off while writing leaves the old one


def _part(name: str, part: dict[str, Any]) -> str:
    lines = [f"    {json.dumps(what)}: {json.dumps(said)}" for what, said in part.items() if what != "runs"]
    runs = ",\n".join(f"      {json.dumps(run)}" for run in part["runs"])
    lines.append(f'    "runs": [\n{runs}\n    ]')
    return f"  {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n  }"


def rounded(figures: Any) -> Any:
    """Floats with as many digits as mean something; whatever lies in lists and dicts too."""
    match figures:
        case float():
            return float(f"{figures:.{_DIGITS}g}")
        case dict():
            return {name: rounded(figure) for name, figure in figures.items()}
        case list():
            return [rounded(figure) for figure in figures]
    return figures
