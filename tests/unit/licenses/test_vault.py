"""The vault: what is sealed comes back, through rotations, losses and crashes at any step, and no word of it is ever secret."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from serai_server.licenses.servers import vault as vault_module
from serai_server.licenses.servers.vault import Vault, VaultError

CANARY = b"SERVER lic1 0050569a 27000\nFEATURE solver acme 1.0 SIGN=canary-5d41402abc4b2a76"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "licenses.key"


def keys_of(file: Path) -> list[bytes]:
    return [line for line in file.read_bytes().splitlines() if not line.startswith(b"#")]


def rotate(vault: Vault, rows: dict[str, bytes]) -> None:
    vault.begin_rotation(first=not rows)
    rows.update({name: vault.reseal(name, sealed) for name, sealed in rows.items()})
    vault.end_rotation()


class TestSealing:
    def test_what_is_sealed_comes_back(self, file: Path) -> None:
        """Byte for byte, NUL and no text included; in the sealed form nothing of it can be seen."""
        vault = Vault(file)
        key = CANARY + b"\0\xff\0"
        sealed = vault.seal("matlab", key, first=True)
        assert CANARY[:20] not in sealed
        assert Vault(file).unseal("matlab", sealed) == key

    def test_the_file_is_made_for_its_owner_only(self, file: Path) -> None:
        """It says what it is, and has one key; nothing else is left in the folder."""
        Vault(file).seal("matlab", CANARY, first=True)
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_text().startswith("# Serai")
        assert len(keys_of(file)) == 1
        assert list(file.parent.iterdir()) == [file]

    def test_a_second_key_uses_the_same_file(self, file: Path) -> None:
        """Also when it is said to be the first: a file that is there is never made anew."""
        vault = Vault(file)
        one = vault.seal("a", b"one", first=True)
        before = file.read_bytes()
        vault.seal("b", b"two", first=True)
        assert file.read_bytes() == before
        assert vault.unseal("a", one) == b"one"

    def test_it_is_bound_to_its_server(self, file: Path) -> None:
        """A row with another server's content is found, so no job gets the key of another product."""
        vault = Vault(file)
        sealed = vault.seal("a", CANARY, first=True)
        with pytest.raises(VaultError, match="that of another one"):
            vault.unseal("b", sealed)
        with pytest.raises(VaultError, match="that of another one"):
            vault.reseal("b", sealed)


class TestWhatGoesWrong:
    def test_a_lost_file_is_not_made_anew(self, file: Path) -> None:
        """While other keys are sealed with it: a copy could be put back, and would then miss the new key."""
        vault = Vault(file)
        sealed = vault.seal("a", CANARY, first=True)
        file.unlink()
        for work in (
            lambda: vault.unseal("a", sealed),
            lambda: vault.seal("b", CANARY, first=False),
            lambda: vault.begin_rotation(first=False),
            vault.end_rotation,
        ):
            with pytest.raises(VaultError, match="put your copy of it back"):
                work()
        assert not file.exists()

    def test_a_wrong_key_is_said(self, file: Path) -> None:
        """With what to do about it, and nothing of what is sealed."""
        vault = Vault(file)
        sealed = vault.seal("a", CANARY, first=True)
        file.write_bytes(Fernet.generate_key())
        with pytest.raises(VaultError, match="put back the copy of that file which belongs to this store") as raised:
            vault.unseal("a", sealed)
        assert b"canary" not in "".join(traceback.format_exception(raised.value)).encode()

    @pytest.mark.parametrize("content", [b"", b"# only words\n", b"not a key\n"])
    def test_a_damaged_file_is_said(self, file: Path, content: bytes) -> None:
        """Without the line that is damaged, which may be most of a key; the file stays as it is."""
        file.write_bytes(content)
        file.chmod(0o600)
        for work in (lambda: Vault(file).seal("a", CANARY, first=True), lambda: Vault(file).begin_rotation(first=True)):
            with pytest.raises(VaultError, match="is damaged") as raised:
                work()
            assert "not a key" not in "".join(traceback.format_exception(raised.value))
        assert file.read_bytes() == content

    def test_damaged_content_is_said(self, file: Path) -> None:
        """One changed byte is enough."""
        vault = Vault(file)
        sealed = bytearray(vault.seal("a", CANARY, first=True))
        sealed[20] = sealed[20] ^ 1
        with pytest.raises(VaultError, match="cannot be read with the keys of"):
            vault.unseal("a", bytes(sealed))

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
    def test_a_file_that_others_can_read_is_refused(self, file: Path, mode: int) -> None:
        """With the command that helps."""
        vault = Vault(file)
        sealed = vault.seal("a", CANARY, first=True)
        file.chmod(mode)
        with pytest.raises(VaultError, match=r"others can read or write .* `chmod 600"):
            vault.unseal("a", sealed)
        file.chmod(0o600)
        assert vault.unseal("a", sealed) == CANARY

    def test_no_folder(self, tmp_path: Path) -> None:
        """The setting is named."""
        with pytest.raises(VaultError, match=r"cannot be written: .*encryption_key_file"):
            Vault(tmp_path / "nowhere" / "licenses.key").seal("a", CANARY, first=True)

    def test_a_folder_in_its_place(self, file: Path) -> None:
        """Refused as well."""
        file.mkdir()
        with pytest.raises(VaultError, match="is no file"):
            Vault(file).seal("a", CANARY, first=True)

    def test_its_repr_has_no_key(self, file: Path) -> None:
        """Only where the file is."""
        vault = Vault(file)
        vault.seal("a", CANARY, first=True)
        assert keys_of(file)[0].decode() not in repr(vault) + str(vars(vault))


class TestRotation:
    def test_all_is_sealed_anew(self, file: Path) -> None:
        """The old key is gone, what it sealed is not readable with the file any more, and what is stored is."""
        vault, rows = Vault(file), dict[str, bytes]()
        rows["a"] = vault.seal("a", CANARY, first=True)
        rows["b"] = vault.seal("b", b"", first=False)
        old, before = keys_of(file), dict(rows)
        rotate(vault, rows)
        assert len(keys_of(file)) == 1
        assert keys_of(file) != old
        assert [vault.unseal(name, sealed) for name, sealed in rows.items()] == [CANARY, b""]
        with pytest.raises(VaultError):
            vault.unseal("a", before["a"])
        assert file.stat().st_mode & 0o777 == 0o600

    def test_nothing_to_rotate(self, file: Path) -> None:
        """A file is made, for the keys to come."""
        rotate(Vault(file), {})
        assert len(keys_of(file)) == 1

    def test_through_a_link(self, file: Path, tmp_path: Path) -> None:
        """A file that lies elsewhere stays there; the link stays a link."""
        real = tmp_path / "elsewhere"
        real.mkdir()
        vault = Vault(file)
        rows = {"a": vault.seal("a", CANARY, first=True)}
        file.rename(real / "key")
        file.symlink_to(real / "key")
        rotate(vault, rows)
        assert file.is_symlink()
        assert vault.unseal("a", rows["a"]) == CANARY

    def test_a_rotation_that_was_cut_off_is_finished_by_the_next(self, file: Path) -> None:
        """After each of its steps everything is readable, and so it is after the next rotation, with one key left."""
        vault = Vault(file)
        for steps in range(3):
            rows = {"a": vault.seal("a", CANARY, first=True)}
            vault.begin_rotation(first=False)
            assert vault.unseal("a", rows["a"]) == CANARY
            if steps > 0:
                rows["a"] = vault.reseal("a", rows["a"])
                assert vault.unseal("a", rows["a"]) == CANARY
            if steps > 1:
                vault.end_rotation()
            rotate(vault, rows)
            assert vault.unseal("a", rows["a"]) == CANARY
            assert len(keys_of(file)) == 1

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # of Python 3.12; the child uses no thread
    @pytest.mark.parametrize("call", ["unlink", "open", "fsync", "replace", "link"])
    @pytest.mark.parametrize("time", [1, 2, 3, 4])
    def test_killed_at_any_call_of_the_system(self, file: Path, call: str, time: int) -> None:
        """The process is killed before the n-th such call of a rotation, or of making the file: what was sealed is readable afterwards."""
        vault = Vault(file)
        sealed = vault.seal("a", CANARY, first=True)
        fresh = file.with_name("fresh.key")
        process = multiprocessing.get_context("fork").Process(target=_die_at, args=(file, fresh, sealed, call, time))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        assert vault.unseal("a", sealed) == CANARY, "nothing that the store does not have may be needed"
        rows = {"a": sealed}
        rotate(vault, rows)
        assert vault.unseal("a", rows["a"]) == CANARY
        again = Vault(fresh)
        assert again.unseal("n", again.seal("n", CANARY, first=True)) == CANARY


def _die_at(file: Path, fresh: Path, sealed: bytes, call: str, time: int) -> None:
    """A first file and a rotation up to the seal, in a process that dies at the given call."""
    left = time

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def work(*arguments: object, **named: object) -> object:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return work

    if call in ("unlink", "replace"):
        setattr(vault_module.Path, call, counted(getattr(Path, call)))
    else:
        setattr(vault_module.os, call, counted(getattr(os, call)))
    Vault(fresh).seal("n", CANARY, first=True)
    vault = Vault(file)
    vault.begin_rotation(first=False)
    vault.reseal("a", sealed)
