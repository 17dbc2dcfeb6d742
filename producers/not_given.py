"""The default of an argument for which None means something else than "left out"."""

from __future__ import annotations

from enum import Enum
from typing import Final


class NotGiven(Enum):
    """The type of ``NOT_GIVEN``: an enum, so that pickle and copy keep its identity and mypy narrows by ``is``."""

    NOT_GIVEN = None  # no text: as a property it is refused, and not sent as its value

    def __repr__(self) -> str:
        return "NOT_GIVEN"

    __str__ = __repr__


NOT_GIVEN: Final = NotGiven.NOT_GIVEN
