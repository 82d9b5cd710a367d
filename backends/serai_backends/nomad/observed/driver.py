"""Why a task could not be started, from a driver's words: a kind of cause and the detail that it asks for.

Nomad has no codes for this; the words are those of Nomad 1.8 to 2.0 and of docker and podman (facts: nomad-tried §4). Words that are not
known are passed on as what the machine said.
"""

from __future__ import annotations

import re

from serai_backends.model import Why

_LONGEST = 300
_PREFIXES = re.compile(
    r"^(?:rpc error: code = \w+ desc = |failed to launch command with executor: |failed to create container: |"
    r"Failed to start container [0-9a-f]{12,64}: |Error response from daemon: |failed to setup alloc: )+"
)
_PULL = re.compile(r"Failed to pull `(?P<image>[^`]*)`: (?P<said>.*)", re.DOTALL)
_NO_IMAGE = re.compile(
    r"manifest unknown|manifest for \S+ not found|name unknown|no such image|image not known|does not exist in local", re.I
)
_NO_PROGRAM = (
    re.compile(r'binary "(?P<name>[^"]*)" (?:could not be found|does not exist)'),
    re.compile(r"file (?P<name>\S+) not found under path"),
    re.compile(r'exec: "(?P<name>[^"]*)": (?:stat [^:]*: no such file|executable file not found)'),
    re.compile(r"executable file `(?P<name>[^`]*)` not found"),
)
_NOT_EXECUTABLE = (
    re.compile(r'exec: "(?P<name>[^"]*)": (?:permission denied|is a directory)'),
    re.compile(r'path="?(?P<name>[^"\s]+)"? .*(?:permission denied|exec format error)', re.DOTALL),
)
_OTHERS = (
    (re.compile(r"no space left on device|disk quota exceeded"), Why.NO_SPACE, "the machine {node}"),
    (
        re.compile(r"bind source path does not exist:? ?(?P<name>/[^\s\"]*)?"),
        Why.MOUNT_FAILED,
        "{name} does not exist on the machine {node}",
    ),
    (re.compile(r'failed to identify user "?(?P<name>[^":]*)"?'), Why.SANDBOX_FAILED, "the machine {node} has no user {name}"),
)


def said(text: str) -> str:
    """A machine's words on one line, without what only programs read, no longer than a person wants to read."""
    line = _PREFIXES.sub("", " ".join(text.split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def why_of(text: str, *, program: str, image: str, node: str) -> tuple[Why, str]:
    """(kind, detail) of an error of a driver. `program` and `image` as the job asked for them."""
    pull = _PULL.search(text)
    if pull is not None:
        return _pull(pull["said"], image or pull["image"])
    if _NO_IMAGE.search(text):
        return Why.IMAGE_NOT_FOUND, image
    for why, patterns in ((Why.COMMAND_NOT_FOUND, _NO_PROGRAM), (Why.COMMAND_NOT_EXECUTABLE, _NOT_EXECUTABLE)):
        name = next((found["name"] for pattern in patterns if (found := pattern.search(text))), None)
        if name is not None:
            return _program(why, name, program)
    for pattern, why, words in _OTHERS:
        found = pattern.search(text)
        if found is not None:
            return why, words.format(node=node, name=found.groupdict().get("name") or "a folder of it")
    return Why.SANDBOX_FAILED, said(text)


def _pull(text: str, image: str) -> tuple[Why, str]:
    # a registry says "access denied" also of what it does not have, so only its plain "not found" counts as that
    if _NO_IMAGE.search(text):
        return Why.IMAGE_NOT_FOUND, image
    if "may require" in text or "access denied" in text or "unauthorized" in text:
        return Why.IMAGE_NOT_FETCHED, f"{image}: it does not exist, or is only for those who log in"
    return Why.IMAGE_NOT_FETCHED, f"{image}: {said(text)}"


def _program(why: Why, name: str, program: str) -> tuple[Why, str]:
    # what is missing may also be the shell or another tool that the start needs: not the user's program, so not the user's to mend
    if not program or name == program:
        return why, name
    kind = "there is no program" if why is Why.COMMAND_NOT_FOUND else "it may not execute"
    return Why.SANDBOX_FAILED, f"{kind} {name}"
