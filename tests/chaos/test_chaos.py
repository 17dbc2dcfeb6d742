"""A short chaos run: every fault once, in an order of chance. The long ones are ``make chaos MINUTES=n SEED=s``."""

from __future__ import annotations

import secrets
from pathlib import Path

from chaos_faults import FAULTS
from chaos_main import run_chaos
from chaos_run import Run


def test_nothing_is_lost_doubled_unmarked_or_out_of_order_whatever_breaks(tmp_path: Path) -> None:
    report = run_chaos(Run(tmp_path, secrets.randbelow(10**9), patience=4))  # nothing is timed in a test
    assert report.wrong == [], report.as_json()
    assert report.faults == dict.fromkeys(sorted(FAULTS), 1)
    assert report.figures["events"] > 1_000
