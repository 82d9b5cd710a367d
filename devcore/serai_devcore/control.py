"""What a provider may ask of Core, by generation: the calls below /api/ and what each does.

facts 2021 §2, §8.4; today §9. The transport, tokens and faults are `server`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from serai_devcore import licenses, products, queries
from serai_devcore.wire import Generation, Json, JsonObject, parse, read_items, text

if TYPE_CHECKING:
    from serai_devcore.core import DevCore


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a provider, read."""

    provider: str
    """Who calls; empty for calls that need no token."""
    query: Mapping[str, str]
    body: bytes

    def items(self, *, at_least: int = 1) -> list[JsonObject]:
        return read_items(parse(self.body), at_least=at_least)


Handler: TypeAlias = "Callable[[Call], JsonObject | Awaitable[JsonObject]]"
Route: TypeAlias = "tuple[str, str]"


class ControlCalls:
    """Every call that is a function of Core's state alone."""

    def __init__(self, core: DevCore) -> None:
        self._core = core
        self.of_providers: dict[Route, Handler] = {
            ("POST", "/api/jobs/control/update"): self._update,
            ("POST", "/api/jobs/control/chargeCredits"): self._charge,
            ("POST", "/api/jobs/control/register"): self._register,
            ("GET", "/api/jobs/control/retrieve"): self._retrieve,
            ("GET", "/api/jobs/control/browse"): self._browse,
            ("POST", "/api/licenses/control/update"): self._update_licenses,
            ("POST", "/api/licenses/control/register"): self._register_licenses,
            ("GET", "/api/licenses/control/retrieve"): self._license,
            ("GET", "/api/licenses/control/browse"): self._licenses,
        }
        self.of_anybody: dict[Route, Handler] = {}
        """Without a token."""
        if core.generation is Generation.G2021:
            self.of_providers |= {
                ("POST", "/api/licenses/control/chargeCredits"): self._charge_licenses,
                ("POST", "/api/products"): self._create_products,
                ("GET", "/api/products/retrieve"): self._product,
                ("GET", "/api/products/browse"): self._products,
            }
            self.of_anybody |= {
                ("POST", "/api/providers/requestApproval"): self._request_approval,
                ("POST", "/api/providers/approve"): self._approve,
            }
        else:
            self.of_providers |= {
                ("POST", "/api/licenses/control/updateLabels"): self._label_licenses,
                ("POST", "/api/jobs/control/checkCredits"): self._check_credits,
                ("POST", "/api/accounting/v2/reportUsage"): self._report_usage,
                ("POST", "/api/providers/resources/checkExistence"): self._check_existence,
                ("POST", "/api/products/v2"): self._create_products,
            }
            self.of_anybody |= {
                ("GET", "/api/products/v2/retrieve"): self._product,
                ("GET", "/api/products/v2/browse"): self._products,
            }

    @property
    def _fewest(self) -> int:
        """today §9: an empty bulk is a 200; in 2021 it is a 400."""
        return 1 if self._core.generation is Generation.G2021 else 0

    # --- jobs -------------------------------------------------------------------------------------------------------------------------

    def _update(self, call: Call) -> JsonObject:
        self._core.jobs.update(call.provider, call.items(at_least=self._fewest))
        return {}

    def _retrieve(self, call: Call) -> JsonObject:
        return queries.retrieve(self._core.jobs, self._core.generation, call.provider, call.query, self._core.product_of)

    def _browse(self, call: Call) -> JsonObject:
        return queries.browse(self._core.jobs, self._core.generation, call.provider, call.query, self._core.product_of)

    def _register(self, call: Call) -> JsonObject:
        ids: list[Json] = [{"id": job_id} for job_id in self._core.jobs.register(call.provider, call.items())]
        return {"responses": ids}

    def _check_existence(self, call: Call) -> JsonObject:
        """One boolean for each item, in order; at most 1,000. Another provider's is not there either."""
        responses: list[Json] = []
        for index, item in enumerate(call.items(at_least=0)):
            kind, resource_id = text(item, "type", f"items[{index}]"), text(item, "id", f"items[{index}]")
            job = self._core.jobs.get(resource_id) if kind == "job" else None
            known_job = job is not None and job.provider == call.provider
            responses.append(known_job or self._core.resources.exists(call.provider, kind, resource_id))
        return {"responses": responses}

    # --- licenses ---------------------------------------------------------------------------------------------------------------------

    def _update_licenses(self, call: Call) -> JsonObject:
        licenses.update(self._core.resources, call.provider, call.items(at_least=self._fewest), self._core.clock.now_ms())
        return {}

    def _register_licenses(self, call: Call) -> JsonObject:
        ids: list[Json] = [{"id": license_id} for license_id in licenses.register(self._core, call.provider, call.items())]
        return {"responses": ids}

    def _license(self, call: Call) -> JsonObject:
        return licenses.retrieve(self._core, call.provider, call.query)

    def _licenses(self, call: Call) -> JsonObject:
        return licenses.browse(self._core, call.provider, call.query)

    def _label_licenses(self, call: Call) -> JsonObject:
        licenses.update_labels(self._core.resources, call.provider, call.items(at_least=0))
        return {}

    def _charge_licenses(self, call: Call) -> JsonObject:
        return self._core.accounts.charge_for(call.provider, call.items(), self._core.resources.owned_licenses)

    # --- money ------------------------------------------------------------------------------------------------------------------------

    def _charge(self, call: Call) -> JsonObject:
        return self._core.accounts.charge(call.provider, call.items())

    def _check_credits(self, call: Call) -> JsonObject:
        return self._core.accounts.check(call.provider, call.items())

    def _report_usage(self, call: Call) -> JsonObject:
        return self._core.accounts.report_usage(call.provider, call.items())

    # --- products ---------------------------------------------------------------------------------------------------------------------

    def _create_products(self, call: Call) -> JsonObject:
        products.create(self._core.accounts, call.provider, call.items())
        return {}

    def _product(self, call: Call) -> JsonObject:
        return products.retrieve(self._core.accounts, call.query)

    def _products(self, call: Call) -> JsonObject:
        return products.browse(self._core.accounts, call.query)

    # --- becoming known ---------------------------------------------------------------------------------------------------------------

    def _request_approval(self, call: Call) -> JsonObject:
        return self._core.registrations.request_approval(parse(call.body))

    async def _approve(self, call: Call) -> JsonObject:
        return await self._core.registrations.approve(text(parse(call.body), "token", ""))
