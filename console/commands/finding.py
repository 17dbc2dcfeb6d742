"""One line of ``insend doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["good", "look", "bad", "unseen"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        about: What was looked at.
        state: ``good``; ``look``: worth a thought; ``bad``: events may be lost; ``unseen``: Redis does not say.
        text: What was found, what is at stake, and the fix.
    """

    about: str
    state: State
    text: str
