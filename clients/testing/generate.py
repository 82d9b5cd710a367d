"""Write the committed generated code of the clients anew from the protos; `make generate` does it.

A client whose toolchain is missing here is named and left as it is.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from testing.languages import CLIENTS, LANGUAGES, Language, run


def generate(language: Language, into: Path) -> None:
    """Run `buf generate` as the client's buf.gen.yaml says, with its output below `into`. Raises AssertionError."""
    lay_out = [sys.executable, "tools/generate.py", "--imports"]
    subprocess.run(lay_out, cwd=CLIENTS.parent, stdin=subprocess.DEVNULL, check=True)
    run((*language.plugins, ("buf", "generate", "--output", str(into))), language.folder)


def main() -> None:
    for language in LANGUAGES:
        if not language.committed:
            continue
        if reason := language.missing():
            print(f"not generated: {reason}", file=sys.stderr)
            continue
        generate(language, language.folder)


if __name__ == "__main__":
    main()
