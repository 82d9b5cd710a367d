"""The images of the real agent's containers, made here of a static busybox: nothing is fetched from anywhere, and a second run finds them.

`acme/batch:1.0.0` has busybox's programs and the example program; `local/pause:1` is what a Nomad client keeps a bridge open with.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

IMAGE, PAUSE = "acme/batch:1.0.0", "local/pause:1"
_BATCH = Path(__file__).resolve().parents[2] / "examples" / "acme-batch" / "acme-batch"


@cache
def why_no_images() -> str | None:
    """The reason for which there are none; None = both are there."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "there is no dockerd here: what containers on a real agent do was not tried"
    missing = [name for name in (IMAGE, PAUSE) if not _is_there(name)]
    if not missing:
        return None
    busybox = shutil.which("busybox")
    if busybox is None or b"/ld-linux" in Path(busybox).read_bytes():
        return "there is no static busybox here to make images of (Debian: busybox-static): what containers do was not tried"
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder), Path(busybox))
        for name in missing:
            change = ["--change", 'ENTRYPOINT ["/bin/sleep","100000000"]'] if name == PAUSE else []
            _import(Path(folder), name, change)
    return None


def _is_there(name: str) -> bool:
    return not subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode


def _fill(root: Path, busybox: Path) -> None:
    for name in ("bin", "etc", "tmp", "usr/bin", "work", "proc", "dev", "sys"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(busybox, root / "bin" / "busybox")
    applets = subprocess.run([busybox, "--list"], capture_output=True, check=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    shutil.copy(_BATCH, root / "usr" / "bin" / "acme-batch")
    (root / "usr" / "bin" / "acme-batch").chmod(0o755)
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")


def _import(root: Path, name: str, change: list[str]) -> None:
    with subprocess.Popen(["tar", "-C", str(root), "--owner=0", "--group=0", "-c", "."], stdout=subprocess.PIPE) as archive:
        subprocess.run(["docker", "import", *change, "-", name], stdin=archive.stdout, check=True, capture_output=True)
