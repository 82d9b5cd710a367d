"""The folder of a socket that a group may enter, also when its maker is killed on the way."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from serai_server.rpc.socket_place import SocketInUse, socket_place

GROUP = str(os.getgid())
OTHER = 12_345
"""Somebody else's number."""


class Killed(BaseException):
    """What nobody catches, in the place of a signal."""


def test_a_missing_folder_is_open_to_the_group(tmp_path: Path) -> None:
    """It may pass and not look around, and through the folders above that are missing too; without a group nobody may.
    One that is there stays as it is."""
    with socket_place(tmp_path / "a" / "b" / "tools.sock", group=GROUP):
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o710
        assert (tmp_path / "a").stat().st_mode & stat.S_IXGRP
    (tmp_path / "a").chmod(0o750)
    with socket_place(tmp_path / "a" / "own.sock", group=GROUP):
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o750
    with socket_place(tmp_path / "c" / "own.sock"):
        assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


@pytest.mark.parametrize("at", ["chown", "chmod", "rename"])
def test_a_kill_while_it_is_made_leaves_no_folder_that_the_group_cannot_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """The next start makes it whole."""

    def killed(*_arguments: object, **_words: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(os, at, killed)
        with pytest.raises(Killed), socket_place(tmp_path / "run" / "tools.sock", group=GROUP):
            pass
    assert not (tmp_path / "run").exists()
    with socket_place(tmp_path / "run" / "tools.sock", group=GROUP):
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o710


@pytest.mark.parametrize(("rights", "owner", "taken"), [(0o777, 0, False), (0o1777, 0, True), (0o1777, OTHER, False), (0o775, 0, True)])
def test_a_folder_in_which_everybody_may_write(tmp_path: Path, rights: int, owner: int, taken: bool) -> None:
    """Is refused: whoever puts a socket of their own there is sent what is meant for us. Not where the sticky bit keeps others off ours."""
    folder = tmp_path / "shared"
    folder.mkdir()
    if owner:
        if os.geteuid():
            pytest.skip("only root can have a folder of somebody else")
        os.chown(folder, owner, -1)
    folder.chmod(rights)
    if taken:
        with socket_place(folder / "x.sock", "this.setting"):
            return
    with pytest.raises(SocketInUse, match=r"everybody .* may write in .*set another this\.setting"):
        socket_place(folder / "x.sock", "this.setting").__enter__()
    assert not (folder / "x.sock").exists()
