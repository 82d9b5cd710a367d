"""A plugin of buf: messages, stubs and types for Python, made by the protoc of grpcio-tools, as modules of serai_client.api.

protoc's own modules would be named after the protos, `serai.jobs.v1…`, and so is the server's package. Both must fit into one environment.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

_OUTPUTS = {"python": "", "grpc_python": "", "mypy": "quiet:", "mypy_grpc": "quiet:"}
"""What protoc makes, with what is asked of it."""
_IMPORT = re.compile(r"^from serai\.", re.MULTILINE)


def generate(request: CodeGeneratorRequest, scratch: Path) -> Iterator[CodeGeneratorResponse.File]:
    """Raises SystemExit when protoc refuses."""
    descriptors, made = scratch / "descriptors.binpb", scratch / "made"
    descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
    made.mkdir()
    run = cast("Callable[[list[str]], int]", protoc.main)  # pyright: ignore[reportUnknownMemberType] - grpcio-tools has no types
    code = run(
        [
            "protoc",
            f"--descriptor_set_in={descriptors}",
            *(f"--plugin=protoc-gen-{name}={shutil.which(f'protoc-gen-{name}')}" for name in ("mypy", "mypy_grpc")),
            *(f"--{name}_out={options}{made}" for name, options in _OUTPUTS.items()),
            *request.file_to_generate,
        ]
    )
    if code != 0:
        raise SystemExit(code)
    top = made / "serai"
    modules = [path for path in sorted(top.rglob("*.py*")) if not _is_empty(path)]
    folders = {folder for path in modules for folder in path.relative_to(top).parents}
    for folder in sorted(folders):
        yield CodeGeneratorResponse.File(name=str(folder / "__init__.py"), content="")
    for path in modules:
        yield CodeGeneratorResponse.File(name=str(path.relative_to(top)), content=_IMPORT.sub("from serai_client.api.", path.read_text()))


def _is_empty(module: Path) -> bool:
    """A proto without a service still makes a gRPC module; it only confuses readers."""
    return "_pb2_grpc." in module.name and "class " not in module.with_suffix(".py").read_text()


def main() -> None:
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    with tempfile.TemporaryDirectory() as scratch:
        answer = CodeGeneratorResponse(file=generate(request, Path(scratch)))
    answer.supported_features = CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    sys.stdout.buffer.write(answer.SerializeToString())


if __name__ == "__main__":
    main()
