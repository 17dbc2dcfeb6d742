"""The pytest fixture ``insend_events``; see ``testing``. pytest finds this module by its entry point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from insend_relay.producers.testing import RecordedEvents


@pytest.fixture
def insend_events() -> Iterator[RecordedEvents]:
    """The events that the application under test sends; no Redis is needed, and a bad event raises."""
    # Imported here: pytest loads this module in every run, also of tests that send nothing.
    from insend_relay.producers.testing import recording  # noqa: PLC0415 - see above

    with recording() as events:
        yield events
