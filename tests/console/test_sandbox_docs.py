"""What docs/sandbox.md shows is done: its requests, its options, its Python."""

from __future__ import annotations

import re
import shlex
import urllib.request
from dataclasses import fields
from pathlib import Path

import pytest
from waiting import PATIENCE_SECONDS

from insend_relay.console.sandbox.misbehaviour import Misbehaviour
from insend_relay.console.sandbox.sandbox import Sandbox

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
REQUESTS = re.findall(r"^    curl (.+)$", PAGE, re.MULTILINE)


def table(heading: str) -> str:
    """The first column of the table below a heading."""
    rows = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return " ".join(re.findall(r"^\| (`.+?) \|", rows, re.MULTILINE))


@pytest.mark.parametrize("line", REQUESTS)
def test_a_request_works_as_shown(line: str) -> None:
    with Sandbox() as sandbox:
        *options, address = shlex.split(line)
        given = dict(zip(options[::2], options[1::2], strict=True))
        body = given.pop("--data", "").encode()
        method = given.pop("--request", "POST")
        assert not given
        url = address.replace("127.0.0.1:8080", f"127.0.0.1:{sandbox.port}")
        request = urllib.request.Request(url, body, method=method)  # noqa: S310 - our own sandbox
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - as above
            assert answer.read() == b"OK\n"


def test_the_python_works_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(block, "docs/sandbox.md", "exec"), {})  # noqa: S102 - our own page
    assert capsys.readouterr().out == "[]\n[]\n"


def test_every_option_and_every_address_is_on_the_page() -> None:
    assert set(re.findall(r"`(\w+)`", table("Ways to misbehave"))) | {"retry_after"} == {
        option.name for option in fields(Misbehaviour)
    }
    with Sandbox() as sandbox:
        assert set(re.findall(r"(?:GET|POST)? ?`?(/[\w/]*)", table("Over HTTP"))) == set(sandbox._routes)
