"""How the last observation of each replica is kept in a job's row: JSON of the backend's own dataclasses."""

from __future__ import annotations

import msgspec
from serai_backends.model import JobObservation, ReplicaObservation

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(tuple[ReplicaObservation, ...])


def encode(seen: JobObservation) -> bytes:
    """Never empty: "[]" when the backend told of no replica yet."""
    return _encoder.encode(seen.replicas)


def decode(stored: bytes) -> tuple[ReplicaObservation, ...]:
    return _decoder.decode(stored) if stored else ()
