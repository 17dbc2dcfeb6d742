"""The page of the benchmark is what its data says: nobody writes it by hand. Nothing is timed here."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import bench_data
from bench_claims import claims
from bench_data import DATA, Key, Part, Runs, carry_out, merge, read
from bench_page import PAGE, written


def test_the_page_is_what_its_data_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == written(read(DATA))
    assert all((PAGE.parent / plot).exists() for plot in re.findall(r"!\[[^]]*]\(([^)]+)\)", text))


def plan(rounds: int, _: Runs) -> Iterator[Key]:
    return ({"entrant": "plain Celery", "round": number} for number in range(rounds))


def quietly(_: str) -> None:
    pass


def of(figure: float) -> Callable[[Key], dict[str, Any]]:
    return lambda _: {"bytes": figure}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bench_data, "DATA", tmp_path / "data.json")
    monkeypatch.setattr(bench_data, "UNFINISHED", tmp_path / "unfinished")
    return tmp_path


def test_a_part_that_is_run_anew_leaves_the_others_alone(folder: Path) -> None:
    for name, figure in (("memory", 1.0), ("enqueue", 2.0), ("memory", 3.123456)):
        part = Part(name, plan, of(figure))
        runs = carry_out(part, {"rounds": 2}, rounds=2, resume=False, say=quietly)
        merge(name, {"rounds": 2}, runs)
    data = read(folder / "data.json")
    assert [(name, part["runs"][-1]["bytes"]) for name, part in data.items()] == [("memory", 3.1235), ("enqueue", 2.0)]
    assert {file.suffix for file in (folder / "unfinished").iterdir()} == {".done"}


def test_a_part_that_was_broken_off_goes_on_where_it_was(folder: Path) -> None:
    measured: list[int] = []

    def measure(key: Key) -> dict[str, Any]:
        if key["round"] == 2 and len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(key["round"])
        return {"bytes": 1.0}

    part = Part("memory", plan, measure)
    with pytest.raises(KeyboardInterrupt):
        carry_out(part, {}, rounds=4, resume=False, say=quietly)
    measured.append(-1)
    runs = carry_out(part, {}, rounds=4, resume=True, say=quietly)
    assert measured == [0, 1, -1, 2, 3]
    assert [run["round"] for run in runs] == [0, 1, 2, 3]
    assert not (folder / "data.json").exists()


def test_a_claim_is_reached_or_not_or_was_not_measured() -> None:
    held = {"memory": {"runs": [{"entrant": "Insend Relay", "round": 0, "bytes": 1_031.0}]}}
    assert {claim.reached for claim in claims({})} == {None}
    found = {claim.unit: claim.reached for claim in claims(held) if claim.figure is not None}
    assert found == {"bytes": False}
