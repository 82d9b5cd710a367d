"""What this machine lacks for licenses: a part of `serai doctor`. Jobs without licenses run all the same, so nothing here is an error."""

from __future__ import annotations

import os
from pathlib import Path

from serai_backends.model import Finding, Severity

from serai_server.cli.config import Settings
from serai_server.licenses.servers.vault import Vault, VaultError


def license_findings(settings: Settings) -> tuple[Finding, ...]:
    """None where the settings sell no licenses."""
    if not settings.sold_licenses():
        return ()
    found: list[Finding] = []
    program = settings.licenses.lmutil
    if program and not (Path(program).is_file() and os.access(program, os.X_OK)):
        words = f"{program} is {'no program that may be executed' if Path(program).exists() else 'not there'}"
        more = "until it is, only the seats of our own jobs are counted; leave the setting out where nobody else uses the license servers"
        found.append(Finding(Severity.WARNING, "licenses.lmutil", f"{words}; {more}"))
    try:
        Vault(Path(settings.licenses.encryption_key_file)).check()
    except VaultError as error:
        found.append(Finding(Severity.WARNING, "licenses.encryption_key_file", f"jobs that need a vendor's key wait: {error}"))
    return tuple(found)
