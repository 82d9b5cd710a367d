"""What Nomad's answers mean, in words for a person. Nothing here ever says a token.

Nomad answers 500 for "exists", for "invalid" and for real trouble alike, so its texts decide (facts: nomad-tried §2; its source,
nomad/structs/errors.go, and raft's). An agent that asks another server puts `rpc error: ` before each text.

BackendError
├── BackendUnavailable      cannot be reached, times out, 403, 429, 5xx: trying again later may work
│   ├── NotAllowed          403: the text says what the token needs
│   └── NoHostVolumes       this Nomad has no dynamic host volumes (before 1.10)
├── JobNotThere             logs or shells of an allocation that Nomad does not know (any more)
├── AlreadyRegistered       a job of that id is there; compare META_HASH
├── RegistrationRefused     Nomad will never take this job; the text says why
└── VariableConflict        the variable is another one by now; `stored` is what Nomad has
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serai_backends.errors import BackendError, BackendUnavailable

if TYPE_CHECKING:
    from serai_backends.nomad import wire

EXISTS = "Enforcing job modify index"
_TROUBLE = re.compile(
    r"no cluster leader|not ready to serve consistent reads|no path to (region|node)|leadership (lost|transfer)|not the leader"
    r"|raft is already shutdown|timed out enqueuing|i/o timeout|deadline exceeded|\beof$|broken pipe|no route to host|try again"
    r"|connection (refused|reset|is shut down)|session shutdown|^shutdown$|stream (closed|reset)|failed to (get conn|start stream)"
    r"|no (known )?(nomad )?servers",
    re.IGNORECASE,
)
_MISSING = re.compile(r"not found|unknown allocation|unknown job|unknown node", re.IGNORECASE)
_LONGEST = 2_000


class NotAllowed(BackendUnavailable):
    pass


class NoHostVolumes(BackendUnavailable):
    pass


class AlreadyRegistered(BackendError):
    def __init__(self, nomad_id: str) -> None:
        super().__init__(f"Nomad has a job {nomad_id} already")
        self.nomad_id = nomad_id


class RegistrationRefused(BackendError):
    pass


class VariableConflict(BackendError):
    def __init__(self, path: str, stored: wire.Variable) -> None:
        super().__init__(f"Nomad's variable {path} is another one by now")
        self.path, self.stored = path, stored


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of Nomad, for the words of an error."""

    what: str
    """Such as "GET /v1/jobs"."""
    need: str = ""
    """What the token must be allowed for it, such as `read-job`."""


class Answered(Exception):
    """Nomad's answer was not 2xx. Never leaves the client."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status, self.body = status, body

    @property
    def text(self) -> str:
        """Nomad's own words: one line, without what a forwarding server puts before it."""
        lines = (line.strip(" *\t") for line in self.body[:_LONGEST].decode("utf-8", "replace").splitlines())
        words = re.sub(r"\d+ errors? occurred:(; )?", "", "; ".join(line for line in lines if line))
        return re.sub(r"^(rpc error: )+", "", words)

    @property
    def says_missing(self) -> bool:
        """Nomad itself says that it has no such thing; another web server's 404 says something else, or nothing."""
        return self.status == 404 and _MISSING.search(self.text) is not None


def unavailable(answer: Answered, asked: Asked, address: str, token_source: str) -> BackendUnavailable:
    """For any answer that the caller has no use for."""
    text = answer.text or "no text"
    if answer.status == 403:
        return _not_allowed(answer, asked, token_source)
    if answer.status == 404:
        return BackendUnavailable(f"{address} answers 404 ({text}) to {asked.what}: is that the address of a Nomad agent, 1.8 or later?")
    if answer.status == 429:
        return BackendUnavailable(
            f"Nomad lets this machine open no more connections ({text}): raise limits.http_max_conns_per_client of the agent at {address}"
        )
    return BackendUnavailable(f"Nomad cannot answer {asked.what} now: {answer.status}, {text}")


def _not_allowed(answer: Answered, asked: Asked, token_source: str) -> NotAllowed:
    text = answer.text
    if re.search(r"token (not found|expired|is invalid)", text, re.IGNORECASE):
        return NotAllowed(f"Nomad does not take the token ({text}): put a valid one into {token_source}")
    have = f"the token of {token_source}" if token_source else "there is no token: set token_file or NOMAD_TOKEN to one that"
    need = f"{have} needs {asked.need or 'more rights'}" if token_source else f"{have} has {asked.need or 'the rights'}"
    return NotAllowed(f"Nomad refuses {asked.what} ({text}): {need} (examples/nomad/serai-policy.hcl)")


def registration(answer: Answered, nomad_id: str) -> BackendError | None:
    """What a refused registration means; None = trouble, see `unavailable`. Unknown words are a refusal: what can go wrong on the way is a
    short list, what can be wrong with a job is not."""
    if EXISTS in answer.text:
        return AlreadyRegistered(nomad_id)
    if answer.status == 400 or (answer.status == 500 and answer.text and not _TROUBLE.search(answer.text)):
        return RegistrationRefused(answer.text)
    return None


def unreachable(error: BaseException, address: str) -> BackendUnavailable:
    """For anything that happened before there was an answer."""
    chain: list[BaseException] = []
    todo: list[object] = [error]
    while todo:  # the libraries put the cause into __cause__, into `reason`, or among the arguments
        one = todo.pop()
        if isinstance(one, BaseException) and one not in chain:
            chain.append(one)
            reason: object = getattr(one, "reason", None)
            todo += [one.__cause__, one.__context__, reason, getattr(one, "certificate_error", None), *one.args]
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            return BackendUnavailable(
                f"the certificate of Nomad at {address} is not trusted ({_why(one, 'verify_message')}): set ca_cert (NOMAD_CACERT) to "
                "the file of its CA, and tls_server_name (NOMAD_TLS_SERVER_NAME) when it has another name, such as server.global.nomad"
            )
    cut = address.startswith("https:") and any(isinstance(one, ConnectionResetError) or "Disconnect" in type(one).__name__ for one in chain)
    for one in chain:
        if isinstance(one, ssl.SSLError) or cut:
            return BackendUnavailable(  # a server that misses our certificate may just hang up
                f"no TLS with Nomad at {address} ({_why(one, 'reason')}): does it want https, or a client certificate "
                "(client_cert, client_key; NOMAD_CLIENT_CERT, NOMAD_CLIENT_KEY)?"
            )
    if any(isinstance(one, TimeoutError) or "Timeout" in type(one).__name__ for one in chain):
        return BackendUnavailable(f"Nomad at {address} did not answer in time")
    words = next((one.strerror for one in chain if isinstance(one, OSError) and one.errno and one.strerror), "") or str(error)
    return BackendUnavailable(f"Nomad at {address} cannot be reached ({words}): is the agent running, and is that its address?")


def _why(error: BaseException, attribute: str) -> str:
    """aiohttp's errors are ssl's by inheritance and have none of their attributes."""
    said: object = getattr(error, attribute, None)
    return str(said or error)
