"""The gateway's Unix sockets: whose they are, and what of others stands in their place."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest
from serai_gateway.listeners import listeners, unix_listener
from serai_gateway.settings import GatewaySettings

GROUP = str(os.getgid())
OTHER = 12_345
"""Somebody else's number."""


class Killed(BaseException):
    """What nobody catches, in the place of a signal."""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_rights(tmp_path: Path) -> None:
    """The socket is its owner's alone unless the settings say otherwise; a folder that is missing lets its group pass, and nobody else. One
    that is there stays as it is, and so do the process's own rights for new files."""
    before = os.umask(0o022)
    try:
        with unix_listener(tmp_path / "own" / "g.sock", "s"):
            assert (mode(tmp_path / "own"), mode(tmp_path / "own" / "g.sock")) == (0o700, 0o600)
        with unix_listener(tmp_path / "shared" / "g.sock", "s", 0o660, GROUP):
            assert (mode(tmp_path / "shared"), mode(tmp_path / "shared" / "g.sock")) == (0o710, 0o660)
        (tmp_path / "shared").chmod(0o750)
        with unix_listener(tmp_path / "shared" / "g.sock", "s", 0o660, GROUP):
            assert mode(tmp_path / "shared") == 0o750
    finally:
        assert os.umask(before) == 0o022
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["own", "shared"]


@pytest.mark.parametrize("at", ["chown", "chmod", "rename"])
def test_a_kill_leaves_no_folder_that_the_group_cannot_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """The next start makes it whole."""

    def killed(*_arguments: object, **_words: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(os, at, killed)
        with pytest.raises(Killed), unix_listener(tmp_path / "run" / "g.sock", "s", 0o660, GROUP):
            pass
    assert not (tmp_path / "run").exists()
    with unix_listener(tmp_path / "run" / "g.sock", "s", 0o660, GROUP):
        assert mode(tmp_path / "run") == 0o710


def test_what_a_killed_one_left_is_replaced(tmp_path: Path) -> None:
    """What somebody listens on is not, and neither is what is no socket; there is no such group: words that say what to do."""
    path = tmp_path / "g.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with unix_listener(path, "gateway.socket"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        with pytest.raises(OSError, match="another gateway listens on it; stop that first, or set another gateway") as told:
            unix_listener(path, "gateway.socket").__enter__()
        assert told.value.errno == errno.EADDRINUSE
    path.write_text("mine")
    with pytest.raises(OSError, match="it is there and is no socket"):
        unix_listener(path, "gateway.socket").__enter__()
    assert path.read_text() == "mine"
    with pytest.raises(OSError, match="there is no group 'nobody-has-this'"):
        unix_listener(tmp_path / "other.sock", "gateway.socket", 0o660, "nobody-has-this").__enter__()
    with pytest.raises(OSError, match="too long"):
        unix_listener(tmp_path / ("x" * 120), "gateway.socket").__enter__()


def test_what_the_settings_name(tmp_path: Path) -> None:
    """A port, a socket, or both. When the socket cannot be had, the port is free again."""
    by_both = GatewaySettings(port=0, socket=str(tmp_path / "g.sock"))
    with listeners(GatewaySettings(port=0)) as found:
        assert (len(found.sockets), found.port) == (1, found.sockets[0].getsockname()[1])
    with listeners(by_both, tcp=False) as found:
        assert ([one.family for one in found.sockets], found.port) == ([socket.AF_UNIX], 0)
    with listeners(by_both) as found:
        assert [one.family for one in found.sockets] == [socket.AF_INET, socket.AF_UNIX]
        port = found.port
    (tmp_path / "g.sock").write_text("mine")
    taken = GatewaySettings(port=port, socket=str(tmp_path / "g.sock"))
    with pytest.raises(OSError, match="no socket"):
        listeners(taken).__enter__()
    with listeners(GatewaySettings(port=port)) as found:
        assert found.port == port


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
        with unix_listener(folder / "x.sock", "this.setting"):
            return
    with pytest.raises(OSError, match=r"everybody .* may write in .*set another this\.setting"):
        unix_listener(folder / "x.sock", "this.setting").__enter__()
    assert not (folder / "x.sock").exists()
