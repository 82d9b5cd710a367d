"""Write proto/gen from proto/, or with --check tell whether proto/gen is what would be written.

Uses the protoc inside grpcio-tools, so the pinned Python environment is all that it needs. `make generate` and `make check`
call it; nobody edits proto/gen by hand.
"""

from __future__ import annotations

import filecmp
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import cast

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "proto"
TARGET = ROOT / "proto" / "gen"


def generate(target: Path) -> None:
    """Write the generated package `serai` below `target`; raises SystemExit when protoc refuses."""
    protos = sorted(str(p.relative_to(SOURCE)) for p in (SOURCE / "serai").rglob("*.proto"))
    scripts = Path(sysconfig.get_path("scripts"))
    well_known = str(files("grpc_tools") / "_proto")
    run = cast("Callable[[list[str]], int]", protoc.main)  # pyright: ignore[reportUnknownMemberType] - grpcio-tools has no types
    code = run(
        [
            "protoc",
            f"-I{SOURCE}",
            f"-I{well_known}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out={target}",
            f"--mypy_grpc_out={target}",
            f"--descriptor_set_out={target / 'serai' / 'descriptors.binpb'}",
            "--include_imports",
            "--include_source_info",
            *protos,
        ]
    )
    if code != 0:
        raise SystemExit(code)
    for folder in [target / "serai", *(p for p in (target / "serai").rglob("*") if p.is_dir())]:
        (folder / "__init__.py").touch()
    (target / "serai" / "py.typed").touch()
    # A proto without a service still makes an empty gRPC module; it only confuses readers.
    for module in (target / "serai").rglob("*_pb2_grpc.py"):
        if "class " not in module.read_text():
            module.unlink()
            module.with_suffix(".pyi").unlink(missing_ok=True)


def differences(left: Path, right: Path) -> list[str]:
    """Paths below either folder whose contents are not the same."""
    names = {p.relative_to(d) for d in (left, right) for p in d.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    same = (n for n in names if (left / n).is_file() and (right / n).is_file() and filecmp.cmp(left / n, right / n, shallow=False))
    return sorted(str(n) for n in names - set(same))


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        (fresh / "serai").mkdir()
        generate(fresh)
        if "--check" in sys.argv[1:]:
            drift = differences(fresh / "serai", TARGET / "serai")
            if drift:
                raise SystemExit("proto/gen is not what proto/ makes; run `make generate`:\n  " + "\n  ".join(drift))
            return
        shutil.rmtree(TARGET / "serai", ignore_errors=True)
        TARGET.mkdir(parents=True, exist_ok=True)
        shutil.copytree(fresh / "serai", TARGET / "serai")


if __name__ == "__main__":
    main()
