"""The filter that checks UCloud's tokens, as a file of its own: Envoy reads it again when another one is moved into its place, so a new key
of Core's, or the first one, cuts nobody's connection.

Closed by prefix, with the exceptions named in the routes: an exception that is misspelled costs a 401. The other way round, rules named in
the routes, a misspelled one leaves its route open, and Envoy's own check finds nothing wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric import rsa

from serai_gateway.auth import ISSUER, KEY_BITS, LEEWAY_MS, SCOPE, SUBJECT, KeyFileError
from serai_gateway.clock import Clock
from serai_gateway.durable import write_durably
from serai_gateway.envoy import paths
from serai_gateway.envoy.keys import key_set, key_set_of
from serai_gateway.settings import Settings

NAME = "jwt"
"""Of the filter, in the routes too."""
LOOK_S = 1.0
"""Between two looks whether a key's file has changed; the gateway looks as often."""
_log = structlog.stdlib.get_logger("serai_gateway.envoy")
_TYPE = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"


def token_filter(file: Path, settings: Settings) -> tuple[Path, bytes]:
    """Its file beside `file`, and what is to stand there. KeyFileError for keys that cannot be used, and when there is none of users.

    Where there is no key of Core yet, no token is good.
    """
    users = settings.gateway.users
    core = key_set(Path(settings.core.public_key_file)) or _nobodys()
    # The log is to know Core. The token's claims would tell it too, and every call would pay for all of them.
    core_only: dict[str, object] = {"subjects": {"exact": SUBJECT}, "audiences": [SCOPE], "header_in_metadata": "core"}
    providers: dict[str, dict[str, object]] = {"core": _provider(ISSUER, core) | core_only}
    rules = [_rule("/ucloud/", "core")]
    if users.public_key_file:
        jwks = key_set(Path(users.public_key_file))
        if jwks is None:
            raise KeyFileError(f"there is no {users.public_key_file}")
        providers["users"] = _provider(users.issuer, jwks)
        rules += [_rule(prefix, "users") for prefix in paths.users_prefixes()]
    config = {"@type": _TYPE, "providers": providers, "rules": rules}
    kind = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
    content = {"resources": [{"@type": kind, "name": NAME, "typed_config": config}]}
    return file.with_suffix(f".{NAME}.json"), json.dumps(content, indent=1).encode() + b"\n"


def _provider(issuer: str, jwks: str) -> dict[str, object]:
    return {
        "issuer": issuer,
        "require_expiration": True,
        "clock_skew_seconds": LEEWAY_MS // 1_000,
        "from_headers": [{"name": "Authorization", "value_prefix": "Bearer "}],
        # The gateway checks again: what passes here by a mistake ends there.
        "forward": True,
        "failed_status_in_metadata": "failed",
        "jwt_cache_config": {"jwt_cache_size": 200, "jwt_max_token_size": 49_152},
        "local_jwks": {"inline_string": jwks},
    }


def _rule(prefix: str, provider: str) -> Mapping[str, object]:
    return {"match": {"prefix": prefix}, "requires": {"provider_name": provider}}


def _nobodys() -> str:
    """Of a key whose private half is forgotten here: Envoy takes no empty set."""
    return key_set_of(rsa.generate_private_key(public_exponent=65_537, key_size=KEY_BITS).public_key())


class KeyKeeper:
    """Brings a changed key to a running Envoy."""

    def __init__(self, settings: Settings, file: Path, clock: Clock) -> None:
        """`file`: the configuration, which is rendered after this is made: what changes from now on is noticed."""
        self._settings = settings
        self._file = file
        self._clock = clock
        names = (settings.core.public_key_file, settings.gateway.users.public_key_file)
        self._keys = [Path(name) for name in names if name]
        self._seen = self._look()

    async def keep(self) -> None:
        """For ever. A file that went bad or away leaves the last key in force, as in the gateway."""
        while True:
            await self._clock.sleep(LOOK_S)
            now = self._look()
            if now == self._seen:
                continue
            self._seen = now
            if None in now:
                _log.warning("a public key's file is gone, Envoy keeps the last one", files=[str(file) for file in self._keys])
                continue
            try:
                path, content = token_filter(self._file, self._settings)
                write_durably(path, content, 0o644)
            except (KeyFileError, OSError) as error:
                _log.warning("a public key cannot be brought to Envoy, the last one stays in force", text=str(error))
            else:
                _log.info("Envoy has been given a changed public key")

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_mark(file) for file in self._keys]


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
