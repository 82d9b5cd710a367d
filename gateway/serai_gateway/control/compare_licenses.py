"""Brings Core's licenses to the server, in both generations: Core of neither asks a provider about them (facts 2021 §5.2, today §4).

All that Core has are handed to the server's Verify, which takes on those that it does not know, as after a store was put back, and tells
Core of those that stand otherwise there. Nothing is ever deleted or ended for what Core does not name: a page that is too short proves
nothing.
"""

from __future__ import annotations

import structlog
from serai.licenses.v1 import license_pb2
from serai.licenses.v1 import licenses_provider_service_pb2 as licenses_pb2

from serai_gateway.clock import Clock
from serai_gateway.control.questions import CoreQuestions
from serai_gateway.control.reconcile import YOUNG_MS, asked_of_server
from serai_gateway.settings import CoreSettings
from serai_gateway.upstream import Upstream

VERIFY = "/serai.licenses.v1.LicensesProviderService/Verify"
_MOST_VERIFIED = 1_000
"""Licenses of one call."""

_log = structlog.stdlib.get_logger("serai_gateway.reconcile")


class LicenseComparison:
    """A Comparison."""

    of = "licenses"

    def __init__(self, upstream: Upstream, questions: CoreQuestions, settings: CoreSettings, clock: Clock) -> None:
        self._upstream = upstream
        self._questions = questions
        self._clock = clock
        self._has_states = settings.generation == "2021"

    async def compare(self) -> None:
        verified = unreadable = 0
        async for page in self._questions.licenses():
            unreadable += page.unreadable
            old_ms = self._clock.now_ms() - YOUNG_MS
            licenses = [self._said(license_) for license_ in page.licenses if 0 < license_.created_at < old_ms]
            for start in range(0, len(licenses), _MOST_VERIFIED):
                request = licenses_pb2.LicensesProviderServiceVerifyRequest(items=licenses[start : start + _MOST_VERIFIED])
                await asked_of_server(self._upstream, VERIFY, request.SerializeToString())
            verified += len(licenses)
        if unreadable:
            _log.warning("licenses of Core's pages cannot be read and are left out", licenses=unreadable)
        _log.info("our licenses are compared with Core's", at_core=verified)

    def _said(self, license_: license_pb2.License) -> license_pb2.License:
        """Without the state where Core has none: today's says READY of each, whatever it was told (facts today §7, §9)."""
        if not self._has_states:
            license_.status.ClearField("state")
        return license_
