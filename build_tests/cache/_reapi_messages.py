"""The messages of the Remote Execution API and of ByteStream that we use, as a table of field names and numbers.

The numbers are the protocol; names of messages do not travel. The classes are made when they are first needed, in a
pool of their own, so that they do not meet those of another library in the same process.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

EXECUTION = "/build.bazel.remote.execution.v2"
ACTION_CACHE = f"{EXECUTION}.ActionCache"
STORAGE = f"{EXECUTION}.ContentAddressableStorage"
CAPABILITIES = f"{EXECUTION}.Capabilities"
BYTE_STREAM = "/google.bytestream.ByteStream"

SHA256 = 1
"""Of the enum DigestFunction."""

# name: number type, `*` before what is repeated. Fields that we neither read nor write are left out.
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Digest": {"hash": (1, "string"), "size_bytes": (2, "int64")},
    "Status": {"code": (1, "int32"), "message": (2, "string")},
    "Command": {"arguments": (1, "*string")},
    "Action": {"command_digest": (1, "Digest"), "input_root_digest": (2, "Digest")},
    "FileNode": {"name": (1, "string"), "digest": (2, "Digest")},
    "Directory": {"files": (1, "*FileNode")},
    "Tree": {"root": (1, "Directory")},
    "OutputFile": {"path": (1, "string"), "digest": (2, "Digest")},
    "OutputDirectory": {"path": (1, "string"), "tree_digest": (3, "Digest")},
    "ActionResult": {
        "output_files": (2, "*OutputFile"),
        "output_directories": (3, "*OutputDirectory"),
        "exit_code": (4, "int32"),
        "stdout_raw": (5, "bytes"),
        "stdout_digest": (6, "Digest"),
    },
    "GetActionResultRequest": {
        "instance_name": (1, "string"),
        "action_digest": (2, "Digest"),
        "inline_stdout": (3, "bool"),
        "digest_function": (6, "int32"),
    },
    "UpdateActionResultRequest": {
        "instance_name": (1, "string"),
        "action_digest": (2, "Digest"),
        "action_result": (3, "ActionResult"),
        "digest_function": (5, "int32"),
    },
    "FindMissingBlobsRequest": {
        "instance_name": (1, "string"),
        "blob_digests": (2, "*Digest"),
        "digest_function": (3, "int32"),
    },
    "FindMissingBlobsResponse": {"missing_blob_digests": (2, "*Digest")},
    "BlobToWrite": {"digest": (1, "Digest"), "data": (2, "bytes")},
    "BatchUpdateBlobsRequest": {
        "instance_name": (1, "string"),
        "requests": (2, "*BlobToWrite"),
        "digest_function": (5, "int32"),
    },
    "WrittenBlob": {"digest": (1, "Digest"), "status": (2, "Status")},
    "BatchUpdateBlobsResponse": {"responses": (1, "*WrittenBlob")},
    "BatchReadBlobsRequest": {
        "instance_name": (1, "string"),
        "digests": (2, "*Digest"),
        "digest_function": (4, "int32"),
    },
    "ReadBlob": {"digest": (1, "Digest"), "data": (2, "bytes"), "status": (3, "Status")},
    "BatchReadBlobsResponse": {"responses": (1, "*ReadBlob")},
    "GetCapabilitiesRequest": {"instance_name": (1, "string")},
    "CacheCapabilities": {"digest_functions": (1, "*int32"), "max_batch_total_size_bytes": (4, "int64")},
    "ServerCapabilities": {"cache_capabilities": (1, "CacheCapabilities")},
    "ReadRequest": {"resource_name": (1, "string"), "read_offset": (2, "int64")},
    "ReadResponse": {"data": (10, "bytes")},
    "WriteRequest": {
        "resource_name": (1, "string"),
        "write_offset": (2, "int64"),
        "finish_write": (3, "bool"),
        "data": (10, "bytes"),
    },
    "WriteResponse": {"committed_size": (1, "int64")},
}


class Messages:
    """The classes, as attributes by name."""

    def __init__(self, classes: Mapping[str, type[Any]]) -> None:
        self._classes = classes

    def __getattr__(self, name: str) -> type[Any]:
        return self._classes[name]


@cache
def messages() -> Messages:
    """Make the classes. Raises ImportError where protobuf is not installed."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    package = "pytest_build.reapi"
    file = descriptor_pb2.FileDescriptorProto(name="pytest_build/reapi.proto", package=package, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add(message, field, number, kind, package)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"{package}.{name}") for name in _MESSAGES}
    return Messages({name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()})


def _add(message: Any, name: str, number: int, kind: str, package: str) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    scalars = {
        "string": Field.TYPE_STRING,
        "bytes": Field.TYPE_BYTES,
        "int32": Field.TYPE_INT32,
        "int64": Field.TYPE_INT64,
        "bool": Field.TYPE_BOOL,
    }
    bare = kind.removeprefix("*")
    field = message.field.add(name=name, number=number)
    field.label = Field.LABEL_REPEATED if bare != kind else Field.LABEL_OPTIONAL
    field.type = scalars.get(bare, Field.TYPE_MESSAGE)
    if bare not in scalars:
        field.type_name = f".{package}.{bare}"
