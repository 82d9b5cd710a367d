"""The sections [licenses] and [[licenses.products]] of serai.toml. Servers, seats and keys are none: `serai licenses server` has them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Argument = Literal["port_at_host", "file", "address", "address_and_key"]

_NAME = "a text of 1 to 250 characters without slash, comma and blank"
_Name = Annotated[str, Meta(min_length=1, max_length=250, pattern="^[^/,\\s]+$", description=_NAME)]
_VARIABLE = "the name of an environment variable"


class LicenseProductSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[[licenses.products]]: a license that is sold, and how it reaches the programs of jobs."""

    id: _Name
    """The product's name at Core."""
    category: _Name
    """Its category's name at Core."""
    provider: Annotated[str, Meta(pattern="^[^/,\\s]*$", max_length=250, description=f"nothing, or {_NAME}")] = ""
    """The provider's id in the product; empty = provider.id."""
    description: Annotated[str, Meta(max_length=1_000)] = ""
    """What users read of it; empty = its name."""
    tags: tuple[str, ...] = ()
    """Words by which applications find it (`tagged` of a parameter)."""
    price_per_unit: Annotated[int, Meta(ge=0)] = 0
    """Price of one license, in millionths of a krone or the category's own unit of accounting; charged once, when it is first READY."""
    environment: tuple[Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$", description=_VARIABLE)], ...] = ("LM_LICENSE_FILE",)
    """Variables that hold `port@host` of the license server in each replica."""
    key_file: bool = True
    """true = a job's replicas find the vendor's key, where there is one, in a file of mode 0400; its path is in `SERAI_LICENSE_FILE`."""
    argument: Argument = "port_at_host"
    """What stands on the command line for a parameter of this kind. `file` = the path of the key's file; `address` = `host:port`;
    `address_and_key` = `host:port/key`, which everybody on the machine can read."""


class LicensesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[licenses]: software licenses and their servers."""

    encryption_key_file: str = ""
    """File with the keys that the vendors' keys are sealed with; made 0600 when it is missing; empty = `licenses.key` in state_dir. Without
    it no vendor's key can be read again: keep a copy, apart from copies of the store."""
    register_at_core: bool = True
    """true = licenses that users make here become known to Core."""
    most_per_user: Annotated[int, Meta(ge=1, le=100_000)] = 100
    """Most licenses that one user makes here in one workspace; Core has rules of its own for those that it makes."""
    probe_every_ms: Annotated[int, Meta(ge=1_000, le=3_600_000)] = 30_000
    """ms between two looks at whether a license server answers."""
    probe_timeout_ms: Annotated[int, Meta(ge=100, le=60_000)] = 3_000
    """ms that it has to answer."""
    probes_to_fail: Annotated[int, Meta(ge=1, le=100)] = 3
    """Looks in a row that must fail before licenses become UNAVAILABLE; one that succeeds brings them back."""
    lmutil: str = ""
    """The program lmutil, which tells what seats others use; empty = only seats of our own jobs are counted."""
    observe_every_ms: Annotated[int, Meta(ge=60_000, le=86_400_000)] = 60_000
    """ms between two questions to a license server about seats in use; vendors ask for no more than one a minute."""
    products: tuple[LicenseProductSettings, ...] = ()
