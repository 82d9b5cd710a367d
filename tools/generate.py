"""Write proto/gen and docs/api from proto/, or with --check tell whether they are what would be written.

With --imports it only lays out the protos of googleapis that ours import, where buf looks for them (buf.yaml): they come with
googleapis-common-protos, whose version the lock pins, so buf needs no network.

Uses the protoc inside grpcio-tools, so the pinned Python environment is all that it needs. `make generate` and `make check`
call it; nobody edits proto/gen or docs/api by hand. `tools/contract` makes the documents, from the modules that were made just before.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import cast

from google.api import annotations_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "proto"
TARGET = ROOT / "proto" / "gen"
DOCUMENTS = ROOT / "docs" / "api"
IMPORTS = ROOT / ".venv" / "googleapis"
"""Where buf finds what our protos import."""
_IMPORTED = ("google/api/annotations.proto", "google/api/http.proto")
_DETAILS = "google/rpc/error_details.proto"
"""No proto of ours imports it, but our errors carry it: whoever turns them into JSON (Envoy) needs its descriptor."""


def generate(target: Path) -> None:
    """Write the generated package `serai` and the folder `docs` below `target`; raises SystemExit when protoc refuses."""
    protos = sorted(str(p.relative_to(SOURCE)) for p in (SOURCE / "serai").rglob("*.proto"))
    scripts = Path(sysconfig.get_path("scripts"))
    _run(
        [
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out={target}",
            f"--mypy_grpc_out={target}",
            *protos,
        ]
    )
    descriptors = target / "serai" / "descriptors.binpb"
    _run([f"--descriptor_set_out={descriptors}", "--include_imports", "--include_source_info", *protos, _DETAILS])
    for folder in [target / "serai", *(p for p in (target / "serai").rglob("*") if p.is_dir())]:
        (folder / "__init__.py").touch()
    (target / "serai" / "py.typed").touch()
    # A proto without a service still makes an empty gRPC module; it only confuses readers.
    for module in (target / "serai").rglob("*_pb2_grpc.py"):
        if "class " not in module.read_text():
            module.unlink()
            module.with_suffix(".pyi").unlink(missing_ok=True)
    _write_documents(target)


def _write_documents(target: Path) -> None:
    """In a process of its own, in which `serai` is the package that was just made."""
    path = os.pathsep.join([str(target), str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-m", "contract", str(target)], check=True, env={**os.environ, "PYTHONPATH": path})
    (target / "package").rename(target / "serai" / "openapi")


def _run(arguments: list[str]) -> None:
    run = cast("Callable[[list[str]], int]", protoc.main)  # pyright: ignore[reportUnknownMemberType] - grpcio-tools has no types
    code = run(["protoc", f"-I{SOURCE}", f"-I{files('grpc_tools') / '_proto'}", f"-I{_googleapis()}", *arguments])
    if code != 0:
        raise SystemExit(code)


def _googleapis() -> Path:
    """The folder that "google/api/annotations.proto" is relative to."""
    return Path(annotations_pb2.__file__).parents[2]


def lay_out_imports() -> None:
    """Copy what our protos import of googleapis to where buf looks for it."""
    for name in _IMPORTED:
        (IMPORTS / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_googleapis() / name, IMPORTS / name)


def differences(left: Path, right: Path) -> list[str]:
    """Paths below either folder whose contents are not the same."""
    names = {p.relative_to(d) for d in (left, right) for p in d.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    same = (n for n in names if (left / n).is_file() and (right / n).is_file() and filecmp.cmp(left / n, right / n, shallow=False))
    return sorted(str(n) for n in names - set(same))


def main() -> None:
    if "--imports" in sys.argv[1:]:
        lay_out_imports()
        return
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        (fresh / "serai").mkdir()
        generate(fresh)
        made = {fresh / "serai": TARGET / "serai", fresh / "docs": DOCUMENTS}
        if "--check" in sys.argv[1:]:
            drift = [f"{place.relative_to(ROOT)}/{name}" for folder, place in made.items() for name in differences(folder, place)]
            if drift:
                print("these are not what proto/ makes; run `make generate`:\n  " + "\n  ".join(drift))
                raise SystemExit(1)
            return
        for folder, place in made.items():
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(folder, place)


if __name__ == "__main__":
    main()
