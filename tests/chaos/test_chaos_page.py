"""The page of the chaos runs is what their data says: nobody writes it by hand."""

from __future__ import annotations

import json
from pathlib import Path

from chaos_page import join_page, written

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_is_what_its_data_says() -> None:
    data = json.loads((DOCS / "reliability.json").read_text(encoding="utf-8"))
    assert (DOCS / "reliability.md").read_text(encoding="utf-8") == written(data)
    assert not any(part.get("wrong") for part in data.values())


def test_a_part_that_is_run_anew_leaves_the_others_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    came_to = {"seed": 1, "minutes": 2.0, "figures": {"events": 12_345}, "faults": {"redis: frozen": 3}}
    join_page(page, "always", came_to)
    join_page(page, "everysec", came_to | {"figures": {"events": 678}})
    join_page(page, "everysec", came_to | {"figures": {"events": 679}})
    text = page.read_text(encoding="utf-8")
    assert "| events | 12,345 |" in text
    assert "| **redis**: frozen | 3 |" in text
    assert ("| events | 678 |" in text, "| events | 679 |" in text) == (False, True)
