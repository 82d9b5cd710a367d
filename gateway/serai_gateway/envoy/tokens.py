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

from serai_gateway.auth import ISSUER, KEY_BITS, LEEWAY_MS, SCOPE, SUBJECT, KeyFileError, mark_of
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
    users_file = settings.gateway.users.public_key_file
    users = key_set(Path(users_file)) if users_file else ""
    if users is None:
        raise KeyFileError(f"there is no {users_file}")
    return _with_keys(file, settings, key_set(Path(settings.core.public_key_file)) or _nobodys(), users)


def _with_keys(file: Path, settings: Settings, core: str, users: str) -> tuple[Path, bytes]:
    """As token_filter, with these sets of keys; `users` empty = they have none."""
    # The log is to know Core. The token's claims would tell it too, and every call would pay for all of them.
    core_only: dict[str, object] = {"subjects": {"exact": SUBJECT}, "audiences": [SCOPE], "header_in_metadata": "core"}
    providers: dict[str, dict[str, object]] = {"core": _provider(ISSUER, core) | core_only}
    rules = [_rule("/ucloud/", "core")]
    if users:
        providers["users"] = _provider(settings.gateway.users.issuer, users)
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
    """Brings changed keys to a running Envoy."""

    def __init__(self, settings: Settings, file: Path, clock: Clock) -> None:
        """`file`: the configuration, which is rendered after this is made: what changes from now on is noticed."""
        self._settings = settings
        self._file = file
        self._clock = clock
        users = settings.gateway.users.public_key_file
        self._core = _Key(Path(settings.core.public_key_file))
        self._users = _Key(Path(users)) if users else None
        self._told: list[str] = []
        _, self._there = self._wanted()

    async def keep(self) -> None:
        """For ever. A file that went bad or away leaves its last key in force, as in the gateway; the other one is looked at all the same.
        What cannot be brought to Envoy is tried again at each look."""
        while True:
            await self._clock.sleep(LOOK_S)
            problems = [text for key in (self._core, self._users) if key is not None and (text := key.look())]
            path, wanted = self._wanted()
            if wanted != self._there:
                try:
                    write_durably(path, wanted, 0o644)
                except OSError as error:
                    problems.append(f"{path} cannot be written: {error.strerror}")
                else:
                    self._there = wanted
                    _log.info("Envoy has been given a changed public key")
            self._tell(problems)

    def _wanted(self) -> tuple[Path, bytes]:
        return _with_keys(self._file, self._settings, self._core.jwks, "" if self._users is None else self._users.jwks)

    def _tell(self, problems: list[str]) -> None:
        """Once, not at each look."""
        for text in problems:
            if text not in self._told:
                _log.warning("a changed public key cannot be brought to Envoy, the last one stays in force", text=text)
        self._told = problems


class _Key:
    """A file of a public key, and the last good key of it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        """Mark of the file as it was read; None = nothing good was read yet."""
        self.jwks = ""
        """The set with the key; nobody's as long as there is none."""
        self.look()
        self.jwks = self.jwks or _nobodys()

    def look(self) -> str:
        """What is wrong with the file, which leaves the last key; empty = nothing."""
        try:
            now = mark_of(self._file)
        except OSError:
            return "" if self._seen is None else f"{self._file} is gone"
        if now == self._seen:
            return ""
        try:
            jwks = key_set(self._file)
        except KeyFileError as error:
            return str(error)
        if jwks is not None:
            self.jwks, self._seen = jwks, now
        return ""
