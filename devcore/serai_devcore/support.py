"""What Core believes that a provider can do: the last good answer of each `retrieveProducts`, and what follows from it.

No I/O. facts 2021 §1.4; today §4.
"""

from __future__ import annotations

from serai_devcore.clock import Clock
from serai_devcore.jobs import Job
from serai_devcore.outcomes import NOT_SUPPORTED, Outcome, refused
from serai_devcore.provider import Answer
from serai_devcore.wire import Generation, Json, JsonObject, dig, dig_text

JOBS = "jobs"
FRESH_MS = 15 * 60_000
"""How long 2021 believes an answer."""
BLOCKS = {"DOCKER": "docker", "VIRTUAL_MACHINE": "virtualMachine", "NATIVE": "native"}
"""A tool's backend → the block of the answer that counts."""
WORDS_2026 = {
    "enabled": "the application is not supported on this machine type",
    "timeExtension": "time extension is not supported by this provider",
    "terminal": "terminal access is not supported by this provider",
    "vnc": "vnc access is not supported by this provider",
    "web": "web access is not supported by this provider",
}
WORDS_2021 = {"timeExtension": "Extension of deadline is not supported by the provider"}


class SupportBook:
    """Kept for ever in 2026, for a quarter of an hour in 2021."""

    def __init__(self, generation: Generation, clock: Clock) -> None:
        self._generation = generation
        self._clock = clock
        self._answers: dict[tuple[str, str], list[JsonObject]] = {}
        self._heard_at_ms: dict[tuple[str, str], int] = {}

    def note(self, provider: str, namespace: str, answer: Answer) -> bool:
        """Keep a good answer; anything else changes nothing. `{}` is a good answer, and takes all support away. True = it was good."""
        if not answer.accepted:
            return False
        responses = dig(answer.body, "responses")
        if responses is not None and not isinstance(responses, list):
            return False
        self.believe(provider, namespace, [entry for entry in responses or [] if isinstance(entry, dict)])
        return True

    def believe(self, provider: str, namespace: str, entries: list[JsonObject]) -> None:
        """As if the provider had just answered so."""
        self._answers[provider, namespace] = entries
        self._heard_at_ms[provider, namespace] = self._clock.now_ms()

    def fresh(self, provider: str, namespace: str = JOBS) -> bool:
        """Whether 2021 need not ask again."""
        heard_at_ms = self._heard_at_ms.get((provider, namespace))
        return heard_at_ms is not None and self._clock.now_ms() - heard_at_ms < FRESH_MS

    def of(self, provider: str, category: str, product: str, namespace: str = JOBS) -> JsonObject | None:
        """The provider's entry for a product; it must name it exactly."""
        wanted: JsonObject = {"id": product, "category": category, "provider": provider}
        return next((e for e in self._answers.get((provider, namespace), []) if e.get("product") == wanted), None)

    def resolved(self, provider: str, category: str, product_id: str, product: Json) -> Json:
        """`resolvedSupport` as today's Core sends it with a job; `product` = its document."""
        entry = self.of(provider, category, product_id)
        if entry is None:
            return None
        features: list[Json] = [f"jobs.{_short(b)}.{_short(f)}" for b in BLOCKS.values() for f in sorted(_true(entry.get(b)))]
        blocks: JsonObject = {block: entry.get(block) or {} for block in BLOCKS.values()}
        named: JsonObject = {"product": entry["product"], "queueStatus": entry.get("queueStatus")}
        return {"product": product, "support": named | blocks, "features": features}

    def resolved_license(self, key: tuple[str, str, str], product: Json) -> Json:
        """`resolvedSupport` of a license as today's Core sends it: `maintenance` is dropped (core-wire/POST_licenses.json; today §10)."""
        entry = self.of(*key, "licenses")
        return None if entry is None else {"product": product, "support": {"product": entry["product"]}, "features": None}

    def refusal(self, job: Job, flag: str) -> Outcome | None:
        """Core's own no to a call that needs `flag` of the job's product; None = go on."""
        entry = self.of(job.provider, job.category, job.product)
        backend = dig_text(job.document, "status", "resolvedApplication", "invocation", "tool", "tool", "description", "backend")
        given = dig(entry, BLOCKS.get(backend, ""), flag)
        if self._generation is Generation.G2026:
            return None if given is True else refused(400, WORDS_2026.get(flag, "This operation is not supported by this provider"))
        if entry is None:
            return refused(502, "Bad reply from the provider: it does not know the product")
        if flag == "enabled" and backend != "DOCKER":
            # facts 2021 §0.2 #10: the check for virtual machines is inverted; §1.1 step 1: native is not looked at.
            allowed = backend == "NATIVE" or (backend == "VIRTUAL_MACHINE" and given is None)
        else:
            allowed = given is True
        return None if allowed else refused(400, WORDS_2021.get(flag, f"{flag} is not supported by the provider"), NOT_SUPPORTED)


def _true(block: Json) -> list[str]:
    return [flag for flag, value in block.items() if value is True] if isinstance(block, dict) else []


def _short(name: str) -> str:
    return {"virtualMachine": "vm", "timeExtension": "extension"}.get(name, name)
