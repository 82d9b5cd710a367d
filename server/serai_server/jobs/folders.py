"""Where a job's files go: `/{drive}/Jobs/{application title}/{job id}`, or `…/{name} ({job id})` for a job that has a name.

Source: facts on the wire of 2021 §10.2. Drive, title and name come from outside, so each becomes one harmless path component.
"""

from __future__ import annotations

import unicodedata

_MAX_COMPONENT_BYTES = 120


def output_folder(drive: str, title: str, name: str, job_id: str) -> str:
    """The folder as Core is told, with a leading slash. `title` empty = "Job"; `name` empty = the job has none."""
    last = f"{component(name)} ({job_id})" if name else job_id
    return f"/{component(drive)}/Jobs/{component(title) or 'Job'}/{last}"


def component(text: str) -> str:
    """`text` as one path component: no separators, no control characters, not "." or "..", not too long. "" for nothing usable."""
    if text.isascii() and text.isprintable() and "/" not in text and "\\" not in text:
        kept = text.strip().lstrip(".").strip()  # nearly every name there is
        return kept if len(kept) <= _MAX_COMPONENT_BYTES else kept[:_MAX_COMPONENT_BYTES].strip()
    kept = "".join(c if c not in "/\\" and unicodedata.category(c)[0] != "C" else "_" for c in text).strip().lstrip(".").strip()
    while len(kept.encode()) > _MAX_COMPONENT_BYTES:
        kept = kept[:-1]
    return kept.strip()
