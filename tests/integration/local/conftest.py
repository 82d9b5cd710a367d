from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fakes.local_site import LocalSite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[LocalSite]:
    """A local backend on folders of its own, open; ends every job afterwards."""
    site = LocalSite(tmp_path)
    await site.open()
    yield site
    await site.clear()
