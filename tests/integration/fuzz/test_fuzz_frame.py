"""The frame around fuzzing: it finds what is wrong, does nothing by chance of its own, and does old finds again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from serai.licenses.v1 import license_servers_service_pb2 as servers

from fuzz.counting import Counting, read_counts
from fuzz.memory import NOISE_BYTES, PER_INPUT_BYTES, Watch
from fuzz.messages import Messages
from fuzz.reader import Reader, Wrong
from fuzz.readers import READERS
from fuzz.site import errors_in
from fuzz.tally import CORPUS, Tally, status_class
from fuzz.targets import TARGETS
from fuzz.trees import Trees

MIB = 1 << 20


@pytest.mark.parametrize("file", sorted(CORPUS.iterdir()), ids=lambda file: file.name)
def test_what_was_found_once_is_mended(file: Path) -> None:
    """Each input of the corpus, done again by the target that its name begins with."""
    assert TARGETS[file.name.partition("-")[0]].again(file.read_bytes())


@pytest.mark.parametrize("name", list(READERS))
def test_changed_seeds_break_nothing(name: str) -> None:
    """A few of each reader's inputs are read or refused; the same seed makes the same inputs."""
    reader = READERS[name]()

    def inputs() -> list[bytes]:
        chance = random.Random(7)
        change = reader.change(chance)
        return [change(chance.choice(reader.seeds))[: reader.most_bytes] for _ in range(60)]

    made = inputs()
    assert made == inputs()
    assert {reader.read(content) for content in made} <= {"read", "refused"}


def _reader(read: Callable[[bytes], str]) -> Reader:
    return Reader("planted", [b"x"], lambda _: lambda content: content, read)


def test_a_planted_fault_is_found_and_its_input_kept(tmp_path: Path) -> None:
    """Any exception is a find, each kind of it once, with the bytes that did it; the count goes on."""

    def read(content: bytes) -> str:
        if content == b"bad":
            raise Wrong("a rule")
        return str(1 // len(content))

    count = Counting(_reader(read), tmp_path, 5)
    for content in (b"a", b"bad", b"", b"bad", b"b"):
        count(content)
    count.save()
    found = read_counts(tmp_path)
    assert found.answers == {"1": 2, "wrong": 3}
    assert {words: (tmp_path / file).read_bytes() for words, file in found.wrong.items()} == {
        "Wrong: a rule": b"bad",
        "ZeroDivisionError: integer division or modulo by zero": b"",
    }


def test_a_find_says_how_to_do_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Target, file and seed; the file holds the input."""
    monkeypatch.setattr("fuzz.tally.FINDS", tmp_path)
    tally = Tally("codec", 7)
    tally.add(status_class(404))
    tally.find("it broke", b"input")
    (find,) = tally.finds
    assert find.file.read_bytes() == b"input"
    assert find.command == f"python -m fuzz codec --input {find.file}   # seed 7"
    assert not tally.holds


def test_growth_is_what_comes_after_the_warm_up() -> None:
    """What is taken in the first quarter is not growth, one large input at the end neither; what stays and rises is."""
    limit = NOISE_BYTES + PER_INPUT_BYTES * 75

    def watch(size_at: Callable[[int], int]) -> Watch:
        return Watch(os.getpid(), [(at, size_at(at)) for at in range(101)])

    warm = watch(lambda at: 100 * MIB if at > 20 else 10 * MIB)
    spike = watch(lambda at: 900 * MIB if at == 100 else 10 * MIB)
    leak = watch(lambda at: (10 + at) * MIB)
    assert [one.growth_bytes() for one in (warm, spike, leak)] == [0, 0, 50 * MIB]
    assert {one.limit_bytes() for one in (warm, spike, leak)} == {limit}
    assert leak.growth_bytes() > limit


def test_a_process_that_keeps_what_it_is_sent_is_noticed() -> None:
    """Really: a process that keeps 100 KiB of each input. One of its own: this one may give memory of other tests back meanwhile."""
    program = textwrap.dedent("""
        import os, random
        from fuzz.memory import Watch
        watch, kept = Watch(os.getpid()), []
        for at in range(400):
            kept.append(random.randbytes(100 * 1024))
            watch.look(at)
        print(watch.growth_bytes() > watch.limit_bytes())
    """)
    root = Path(__file__).parents[3]
    said = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == "True\n"


def test_errors_in_a_log_are_seen(tmp_path: Path) -> None:
    """Errors once each, whatever the address of an object in them; lines that are no JSON; nothing else."""
    lines = [
        json.dumps({"level": "info", "event": "a call was refused"}),
        json.dumps({"level": "error", "event": "broken <X object at 0x7f01>"}),
        json.dumps({"level": "error", "event": "broken <X object at 0x7f02>"}),
        "Task exception was never retrieved",
        "",
    ]
    log = tmp_path / "log"
    log.write_text("\n".join(lines))
    assert errors_in(log) == [lines[1], lines[3]]


def test_changed_trees_are_json_mostly() -> None:
    """Otherwise the parser alone would be tried."""
    trees = Trees(random.Random(7), [b'{"a":[1,{"b":"c"}]}'])
    good = 0
    for _ in range(400):
        try:
            json.loads(trees.body(b'{"a":[1,{"b":"c"}]}'))
            good += 1
        except (ValueError, RecursionError):
            pass
    assert 150 < good < 400


def test_no_license_server_that_is_made_up_is_anywhere_else() -> None:
    """The server would connect to them."""
    messages = Messages(random.Random(7))
    hosts: set[str] = set()
    for _ in range(300):
        request = servers.AddRequest.FromString(messages.request(servers.AddRequest.DESCRIPTOR))
        hosts.update(address.host for address in request.server.addresses)
        changed = servers.SetAddressesRequest.FromString(messages.request(servers.SetAddressesRequest.DESCRIPTOR))
        hosts.update(address.host for address in changed.addresses)
    assert {"127.0.0.1", "::1", "localhost"} <= hosts <= {"", "127.0.0.1", "::1", "localhost"}
