"""Vendors' keys through the command line: given in every way, replaced, rotated, and in clear nowhere."""

from __future__ import annotations

import base64

import click
import pytest
from fakes.license_cli import Serai, add, front, serai
from fakes.license_front import LicenseFront
from fakes.license_servers import PROVIDER
from serai_server.cli import license_words
from serai_server.cli.exits import Exit

CANARY = "canary-e3b0c44298fc1c149afbf4c8996fb924"


__all__ = ["add", "front", "serai"]  # fixtures


class TestKeys:
    @pytest.mark.parametrize("way", ["file", "stdin", "prompt"])
    def test_the_ways_in(self, front: LicenseFront, add: Serai, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whichever it is, a job gets the key, without the line end of the program that wrote it down."""
        if way == "file":
            file = front.folder / "key"
            file.write_text(CANARY + "\r\n")
            file.chmod(0o600)
            ran = add("--key-file", str(file))
        elif way == "stdin":
            ran = add("--key-stdin", stdin=CANARY.encode() + b"\n")
        else:

            def prompt(_words: str, *, hide_input: bool, err: bool) -> str:
                assert hide_input
                assert err, "stdout is for results"
                return CANARY

            monkeypatch.setattr(click, "prompt", prompt)
            monkeypatch.setattr(license_words, "has_terminal", lambda: True)
            ran = add("--ask-key")
        assert (ran.code, ran.words) == (Exit.OK, "")
        assert front.do(front.servers.reach("example/licenses/solver")).key == CANARY.encode()

    def test_the_text_of_a_license_file(self, front: LicenseFront, add: Serai) -> None:
        """Byte for byte; a file that others can read gets a warning."""
        text = f"SERVER lic1 ANY 27000\nFEATURE solver {CANARY}\n".encode()
        file = front.folder / "license.dat"
        file.write_bytes(text)
        file.chmod(0o644)
        ran = add("--key-file", str(file))
        assert ran.code == Exit.OK
        assert ran.err.splitlines() == [f"serai: others can read {file}; `chmod 600 {file}` keeps the key to yourself"]
        refused = add("--key-file", str(file))
        assert (refused.code, "others can read" in refused.words) == (Exit.ERROR, False), "only of a key that was taken"
        assert front.do(front.servers.reach("example/licenses/solver")).key == text

    def test_one_that_is_no_text(self, add: Serai, serai: Serai) -> None:
        """It is taken, and the operator is asked whether it is the right file."""
        words = "serai: the key has NUL bytes in it, as no text has: is this the right file?"
        for ran in (add("--key-stdin", stdin=b"a\0b"), serai("server", "set-key", "solver", "--key-stdin", stdin=b"\0")):
            assert (ran.code, ran.words) == (Exit.OK, words)

    def test_one_that_is_too_long(self, add: Serai) -> None:
        """Refused, with nothing of it."""
        ran = add("--key-stdin", stdin=b"x" * 49_153)
        assert (ran.code, ran.words) == (Exit.USAGE, "serai: the key in stdin is longer than 48 KiB")

    def test_a_key_file_that_others_can_read(self, front: LicenseFront, add: Serai, serai: Serai) -> None:
        """The operator is told what to do, by every command that needs the file."""
        add("--key-stdin", stdin=CANARY.encode())
        front.key_file.chmod(0o644)
        for ran in (serai("server", "set-key", "solver", "--key-stdin", stdin=CANARY.encode()), serai("server", "rotate-key")):
            assert ran.code == Exit.ERROR
            assert "`chmod 600" in ran.err

    def test_no_command_shows_it(self, front: LicenseFront, add: Serai, serai: Serai) -> None:
        """A canary through every command and every refusal: it is in no output, log line, database page or file, plain or in base64."""
        key = CANARY.encode() + b"\n"
        said = [add("--key-stdin", stdin=key), add("--key-stdin", stdin=key), add("--key-stdin", seats="solver=0", stdin=key)]
        elsewhere = ("--address", "h", "--product", "licenses/nope", "--provider", PROVIDER)
        said.append(serai("server", "add", "x", *elsewhere, "--key-stdin", stdin=key))
        for name in ("solver", "other"):
            said.append(serai("server", "set-key", name, "--key-stdin", stdin=key))
            said += [serai("server", verb, name, *json) for verb in ("show", "probe") for json in ((), ("--json",))]
        said += [
            serai("server", "list"),
            serai("server", "list", "--json"),
            serai("server", "rotate-key"),
            serai("server", "rotate-key", "--json"),
        ]
        good = front.key_file.read_bytes()
        front.key_file.write_bytes(b"damaged\n")
        said += [serai("server", "set-key", "solver", "--key-stdin", stdin=key), serai("server", "rotate-key")]
        assert "is damaged" in said[-1].err + said[-2].err
        front.key_file.write_bytes(good)
        assert front.do(front.servers.reach("example/licenses/solver")).key == CANARY.encode()
        said += [serai("server", "set-address", "solver", "--address", "h"), serai("server", "set-address", "x", "--address", "h")]
        said += [serai("server", "set-seats", "solver", "--feature", "solver=1"), serai("server", "remove", "solver")]
        texts = {f"command {i}": (ran.out + ran.err).encode() for i, ran in enumerate(said)}
        texts |= {str(file): file.read_bytes() for file in front.folder.iterdir() if file.is_file()}
        assert any("serai.db" in name for name in texts)
        assert "call refused" in front.log
        encoded = base64.b64encode(b".." + CANARY.encode()).rstrip(b"=")[4:-4]
        for where, text in texts.items():
            assert CANARY.encode() not in text, where
            assert encoded not in text, where

    def test_rotation(self, front: LicenseFront, add: Serai, serai: Serai) -> None:
        """Every key is sealed anew, in the store too."""
        add("--key-stdin", stdin=CANARY.encode())
        (before,) = front.do(front.store.licenses.servers())
        assert serai("server", "rotate-key").out.startswith("1 key sealed anew")
        (after,) = front.do(front.store.licenses.servers())
        assert after.sealed != before.sealed
        assert front.do(front.servers.reach("example/licenses/solver")).key == CANARY.encode()
        assert serai("server", "set-key", "solver", "--no-key").out == "license server solver has no key now\n"
        assert serai("server", "rotate-key", "--json").json == {"resealed": 0}
