"""What the alert rules ask of Envoy, a real Envoy tells."""

from __future__ import annotations

import asyncio
import re

from .conftest import Another, Front

_DAYS = re.compile(r"^envoy_server_days_until_first_cert_expiring{[^}]*} (\d+)$", re.MULTILINE)


async def test_envoy_tells_how_long_its_certificates_last(front: Front, another: Another) -> None:
    """In whole days, under the name that docs/grafana/alerts.yaml asks for: those of the tests last for one day. An Envoy without
    certificates, whose number is no number of days, is not taken for one whose certificate ends."""
    async with asyncio.timeout(30):  # it looks again every few seconds
        while (found := _DAYS.search(front.envoy.admin("/stats/prometheus"))) is None or int(found[1]) > 1:
            await asyncio.sleep(0.2)
    plain = another().envoy
    async with asyncio.timeout(30):
        while (found := _DAYS.search(plain.admin("/stats/prometheus"))) is not None and int(found[1]) < 14:
            await asyncio.sleep(0.2)
