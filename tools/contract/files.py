"""The descriptors of all of Serai's protos, with their options: a new proto is in the documents without being named anywhere."""

from __future__ import annotations

from importlib import import_module
from importlib.resources import files
from typing import cast

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

FOLDER = "serai/"
"""Of our own files, in their names."""


def descriptor_set() -> FileDescriptorSet:
    """As it is packaged, with comments."""
    return FileDescriptorSet.FromString((files("serai") / "descriptors.binpb").read_bytes())


def own_files(descriptors: FileDescriptorSet) -> tuple[FileDescriptor, ...]:
    """Our files, in the order of their names."""
    names = sorted(file.name for file in descriptors.file if file.name.startswith(FOLDER))
    modules = (import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2") for name in names)
    return tuple(cast("FileDescriptor", module.DESCRIPTOR) for module in modules)
