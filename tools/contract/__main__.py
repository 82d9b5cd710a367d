"""`python -m contract OUT`: writes the documents below the folder OUT.

`tools/generate.py` runs this on the modules that it has just made.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

from contract.comments import Comments
from contract.files import descriptor_set, own_files
from contract.pages import Pages
from contract.schemas import Schema
from contract.served import served
from contract.ucloud import UCloudDocument
from contract.v1 import V1Document

ROOT = Path(__file__).resolve().parents[2]
GENERATIONS = ("2021", "2026")


def documents(comments: Comments, version: str) -> dict[str, Schema]:
    """By the file's name."""
    found = {f"ucloud-{generation}.json": UCloudDocument(generation, comments, version).make() for generation in GENERATIONS}
    return {**found, "v1.json": V1Document(served(own_files(descriptor_set())), comments, version).make()}


def main() -> None:
    out = Path(sys.argv[1])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for folder in (out / "docs", out / "package"):
        folder.mkdir()
    comments = Comments(descriptor_set())
    for name, text in Pages(own_files(descriptor_set()), comments).make().items():
        (out / "docs" / name).write_text(text.rstrip("\n") + "\n", "utf-8")
    for name, document in documents(comments, str(project["version"])).items():
        # For people and for diffs the one, to be served the other.
        (out / "docs" / name).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
        (out / "package" / name).write_text(json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
