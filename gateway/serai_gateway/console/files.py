"""The pages themselves: static files from this package, and from what `tools/vendor.py` brought; known at start, read when asked for.

Which file an address means is looked up in a table, so no address can name a file that was not put there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

HERE = Path(__file__).resolve().parent
PAGES = HERE / "pages"
VENDOR = HERE / "vendor"
TERMINAL = "xterm/lib/xterm.mjs"
DESKTOP = "novnc/core/rfb.js"
"""Files of others, below VENDOR, without which there is no terminal, or no desktop."""

# What our own pages may load and run: nothing but what comes from here. Scripts are files; nothing in a page's text is run.
_POLICY = (
    "default-src 'self'; style-src {styles}; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
STRICT = _POLICY.format(styles="'self'").encode()
WITH_TERMINAL = _POLICY.format(styles="'self' 'unsafe-inline'").encode()
"""xterm.js writes its colours and sizes as style sheets into the page. Styles only: scripts are as strict as elsewhere."""

_PAGES: Mapping[str, str] = {
    "/console/": "jobs.html",
    "/console/job": "job.html",
    "/console/sessions": "sessions.html",
    "/console/session": "session.html",
}
_TYPES: Mapping[str, bytes] = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".mjs": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_PLAIN = b"text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    kind: bytes
    """Its Content-Type."""
    tag: bytes
    """Its ETag."""
    policy: bytes
    """Its Content-Security-Policy."""


class Files:
    """Finds the file of a path. `brought` tells which parts of others are here."""

    def __init__(self, pages: Path = PAGES, vendor: Path = VENDOR) -> None:
        self._paths: dict[str, Path] = {address: pages / name for address, name in _PAGES.items()}
        for folder, prefix in ((pages, "/console/static/"), (vendor, "/console/vendor/")):
            for file in folder.rglob("*"):
                if file.is_file() and file.suffix != ".html":
                    self._paths[prefix + file.relative_to(folder).as_posix()] = file
        self._refused = pages / "refused.html"
        self._files: dict[Path, File] = {}
        self.brought: Mapping[str, bool] = MappingProxyType(
            {"terminal": (vendor / TERMINAL).is_file(), "desktop": (vendor / DESKTOP).is_file()}
        )

    def find(self, path: str) -> File | None:
        """None = there is no such file. OSError when it cannot be read any more."""
        file = self._paths.get(path)
        return None if file is None else self._read(file)

    def refused(self) -> File:
        """The page for whoever opens an address of login that does not hold."""
        return self._read(self._refused)

    def _read(self, file: Path) -> File:
        known = self._files.get(file)
        if known is None:
            content = file.read_bytes()
            tag = b'"' + hashlib.sha256(content).hexdigest()[:32].encode() + b'"'
            policy = WITH_TERMINAL if file.name == "session.html" else STRICT
            known = self._files[file] = File(content, _TYPES.get(file.suffix, _PLAIN), tag, policy)
        return known
