"""A path that is too long for a Unix socket is told before anything runs, wherever it comes from, and what to set."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.commands import ran
from serai_server.cli.config import ConfigError, parse
from serai_server.socket_path import LONGEST

LONG = "s" * (LONGEST + 1)
TEXT = """
[provider]
id = "example"
[core]
url = "https://cloud.example.org"
public_key_file = "core.pem"
refresh_token_file = "refresh"
[[products]]
category = "cpu"
id = "c1"
cpu = 2
memory_gib = 1
price_unit = "hour"
"""


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        (f'[server]\nsocket = "{LONG}"', "server.socket"),
        (f'[server.tools]\nsocket = "{LONG}"', "server.tools.socket"),
        (f'[gateway]\nsocket = "{LONG}"', "gateway.socket"),
        (f'[gateway.web]\nmode = "host"\ndomain = "apps.example.net"\nauthz_socket = "{LONG}"', "gateway.web.authz_socket"),
        (f'[gateway.web]\nmode = "path"\nauthz_socket = "{LONG}"', "gateway.web.authz_socket"),
    ],
)
def test_in_the_settings(change: str, setting: str) -> None:
    """With the path, because a short one in the file becomes long in its folder."""
    with pytest.raises(ConfigError) as caught:
        parse(TEXT + change, Path("/etc/serai/serai.toml"))
    (told,) = caught.value.problems
    assert told.startswith(f"{setting}: its path is longer than the 107 bytes that a Unix socket may have; set a shorter one")
    assert told.endswith(f"/etc/serai/{LONG}")


@pytest.mark.parametrize(
    ("more", "setting", "name"),
    [("", "gateway.socket", "gateway.sock"), ('[gateway]\nsocket = "/run/g.sock"\n', "gateway.envoy.admin_socket", "envoy-admin.sock")],
)
def test_those_that_up_makes_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, setting: str, name: str) -> None:
    """In a folder of which the server's own socket just fits."""
    folder = tmp_path / ("d" * (LONGEST - len(f"{tmp_path}//serai.sock")))
    file = tmp_path / "serai.toml"
    file.write_text(f'{TEXT}[server]\nstate_dir = "{folder}"\n{more}')
    told = ran(capsys, "up", "--config", str(file))
    assert told.code == 2
    assert told.err.startswith(f"serai: {file}: {setting}: its path is longer than the 107 bytes")
    assert f"a shorter server.state_dir if it is there: {folder}/{name}\n" in told.err
    assert not folder.exists()
