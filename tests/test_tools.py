"""A tool that PyPI does not have is found, or its test is skipped, or fails in CI."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tools import TOOLS, needs

TESTS = Path(__file__).parent
TOOLS_OUTSIDE_PYPI = sorted(TOOLS)


@pytest.mark.parametrize("tool", TOOLS_OUTSIDE_PYPI)
def test_a_tool_is_found_by_any_of_its_names(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program = tmp_path / TOOLS[tool][0][-1]
    program.touch(mode=0o755)
    assert needs(tool) == str(program)


@pytest.mark.parametrize("tool", TOOLS_OUTSIDE_PYPI)
@pytest.mark.parametrize("ci", [None, "", "false"])
def test_without_the_tool_its_test_is_skipped_with_a_reason(
    tool: str, ci: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if ci is None:
        monkeypatch.delenv("CI", raising=False)
    else:
        monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.skip.Exception, match=f"no {tool} on this machine: .*install it: apt-get install"):
        needs(tool)


@pytest.mark.parametrize("tool", TOOLS_OUTSIDE_PYPI)
def test_in_ci_a_missing_tool_is_a_failure(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=f"no {tool} on this machine"):
        needs(tool)


def test_no_test_looks_for_a_program_or_skips_by_itself() -> None:
    found = {
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("*.py")
        if re.search(r"shutil\.which|pytest\.skip\(|importorskip|mark\.skip", path.read_text(encoding="utf-8"))
    }
    without_ipv6 = {"console/test_sandbox.py", "worker/test_dialing.py"}  # that is no tool
    other_systems = {"worker/test_cores.py", "outbox/test_process.py"}  # nor is Linux, nor are forks
    assert found - {"test_tools.py"} == {"tools.py"} | without_ipv6 | other_systems
