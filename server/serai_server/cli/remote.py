"""A server somewhere else, as the command line names it. Nothing of gRPC is loaded for that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Remote:
    """What --server and the options beside it say."""

    address: str
    """`unix:PATH`, `host:port` or `https://host[:port]` with TLS, `http://host[:port]` without."""
    token_file: Path | None = None
    ca: Path | None = None
    """PEM: who signs for the server; None = the system's authorities."""
    cert: Path | None = None
    key: Path | None = None
    typed: bool = True
    """False = the environment says so, and what is typed comes first."""
