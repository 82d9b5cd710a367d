"""What random lives have in common."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What the product logs as an error while the test runs; the many warnings of a life like this are left out."""
    found: list[str] = []

    def kept(_: Any, name: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if name in {"error", "exception", "critical"}:
            found.append(str(dict(entry)))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[structlog.processors.format_exc_info, kept], cache_logger_on_first_use=False)
    yield found
    structlog.configure(**before)
