"""A running example shop, and what its tracker received."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent
SHOPS = ["django", "flask", "fastapi"]


@dataclass(frozen=True)
class Shop:
    """A running example shop.

    Attributes:
        name: Its framework.
        url: Its first page.
        sandbox: The page of the tracker that its events go to.
        redis_url: Where its outbox is.
        folder: Where it was started.
    """

    name: str
    url: str
    sandbox: str
    redis_url: str
    folder: Path

    def received(self) -> list[dict[str, Any]]:
        """What the tracker has received, oldest first."""
        with urllib.request.urlopen(f"{self.sandbox}received") as answer:  # noqa: S310 - our own sandbox
            found: list[dict[str, Any]] = json.load(answer)["requests"]
        return found
