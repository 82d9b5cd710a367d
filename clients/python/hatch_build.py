"""Makes the stubs when the package is built, so that they are never older than the protos. An sdist has them already."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Stubs(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Raises CalledProcessError with buf's words shown when the protos cannot be read."""
        here = Path(self.root)
        checkout = here.parents[1]
        if not (checkout / "buf.yaml").is_file():
            return
        # Of this environment, whichever Python started the build: buf, its plugins, and `python` for ours.
        scripts = os.pathsep.join((str(Path(sys.executable).parent), sysconfig.get_path("scripts"), os.environ.get("PATH", "")))
        environment = {**os.environ, "PATH": scripts}
        subprocess.run([sys.executable, "tools/generate.py", "--imports"], cwd=checkout, env=environment, check=True)
        subprocess.run(["buf", "generate"], cwd=here, env=environment, check=True)
