"""Why a program was not started, where no recording shows it: other words of drivers, and codes of the start script."""

from __future__ import annotations

import pytest
from fakes.nomad_recorded import allocation
from msgspec import structs
from serai_backends.model import End, Why
from serai_backends.nomad.jobfile import codes
from serai_backends.nomad.observed import Around, driver, fetching, observe
from serai_backends.nomad.wire import Allocation

_IMAGE = "registry.example/acme/batch:1.0.0"
_PULL = f"Failed to pull `{_IMAGE}`: Error response from daemon: "


@pytest.mark.parametrize(
    ("text", "why", "detail"),
    [
        (f"{_PULL}manifest for {_IMAGE} not found: manifest unknown: manifest unknown", Why.IMAGE_NOT_FOUND, _IMAGE),
        (f"{_PULL}No such image: {_IMAGE}", Why.IMAGE_NOT_FOUND, _IMAGE),
        (
            f"{_PULL}pull access denied for acme/batch, repository does not exist or may require 'docker login'",
            Why.IMAGE_NOT_FETCHED,
            f"{_IMAGE}: it does not exist, or is only for those who log in",
        ),
        (f"{_PULL}Get https://registry.example/v2/: dial tcp: no such host", Why.IMAGE_NOT_FETCHED, None),
        (f"{_PULL}context deadline exceeded", Why.IMAGE_NOT_FETCHED, f"{_IMAGE}: context deadline exceeded"),
        ("failed to create container: no space left on device", Why.NO_SPACE, "the machine node-7"),
        (
            'OCI runtime create failed: exec: "/work/run": permission denied: unknown',
            Why.COMMAND_NOT_EXECUTABLE,
            "/work/run",
        ),
        (
            'OCI runtime create failed: exec: "/bin/sh": stat /bin/sh: no such file or directory',
            Why.SANDBOX_FAILED,
            "there is no program /bin/sh",
        ),
        (f"rpc error: code = Unknown desc = {'x' * 400}", Why.SANDBOX_FAILED, f"{'x' * 299}…"),
    ],
)
def test_words_of_drivers(text: str, why: Why, detail: str | None) -> None:
    """An image that is not there is not one that could not be had; what the start needs is not the user's program."""
    found = driver.why_of(text, program="/work/run", image=_IMAGE, node="node-7")
    assert found[0] is why
    assert detail is None or found[1] == detail


def _exited(code: int, *, after_s: int = 0) -> Allocation:
    """As recorded of exit code 3, with another code and length."""
    alone = allocation("raw-exit-3").alone
    main = (alone.task_states or {})["main"]
    later = after_s * 1_000_000_000
    told = list(main.events or ())
    place = [event.type for event in told].index("Terminated")
    told[place] = structs.replace(told[place], exit_code=code, time=told[place].time + later)
    return structs.replace(alone, task_states={"main": structs.replace(main, events=tuple(told))})


def _around(marks: frozenset[int] | None) -> Around:
    return Around(stopped=False, ours=lambda ms: ms, program="/work/run", image="", marks=marks)


@pytest.mark.parametrize("code", sorted(codes.MEANING))
def test_codes_of_the_start_script(code: int) -> None:
    """Each is told as what it stands for, and the rank as never started, unless it may have run before."""
    seen = observe(0, _exited(code), _around(None))
    why, detail = codes.MEANING[code]
    assert (seen.end, seen.why, seen.cause) == (
        End.LOST if code == codes.RAN_BEFORE else End.START_FAILED,
        why,
        detail or "/work/run",
    )
    assert seen.exit_code is None
    assert (seen.started_at_ms is None) == (seen.end is End.START_FAILED)


@pytest.mark.parametrize("code", sorted(codes.MARKED))
def test_a_program_with_such_a_code(code: int) -> None:
    """It keeps its code when the script left no mark, and when it ran longer than any start."""
    assert observe(0, _exited(code), _around(frozenset())).exit_code == code
    assert observe(0, _exited(code), _around(frozenset({code}))).exit_code is None
    assert observe(0, _exited(code, after_s=61), _around(None)).exit_code == code


def test_the_image_that_is_fetched() -> None:
    """From the driver's word on until the task has started or failed."""
    told = allocation("docker-registry-refused").events
    assert [fetching(alloc) for alloc in told][-1] == ""
    assert "127.0.0.1:1/acme/none:1.0.0" in {fetching(alloc) for alloc in told}
    assert {fetching(alloc) for alloc in allocation("docker-exit-3").events} == {""}
