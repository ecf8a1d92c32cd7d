"""Saves an image of the engine as an OCI archive that is the same, byte for byte, whenever the image is the same.

    python3 -c "$(cat _ociarchive.py)" REFERENCE FILE

A step runs this text as it stands, with whatever python3 there is, so it imports nothing but the standard library.
`docker save` alone won't do: its format depends on the engine's release, and times and ids of the building are in it.
What is left out of the configuration is what no container can notice. `docker load`, podman and skopeo read the result.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from typing import IO, Any

KEPT = ("architecture", "os", "variant", "config", "rootfs", "history")
UNNOTICED = (
    *("Hostname", "Domainname", "Image", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin"),
    "StdinOnce",
)
OCI = "application/vnd.oci.image."
EPOCH = "1970-01-01T00:00:00Z"


def source() -> str:
    """This file's text."""
    with open(__file__, encoding="utf-8") as file:
        return file.read()


def main(reference: str, path: str) -> None:
    """Ask the engine for the image and write the archive."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(path))) as scratch:
        saved = os.path.join(scratch, "saved")
        subprocess.run(["docker", "save", "--output", saved, reference], check=True)
        with tarfile.open(saved) as tar, open(os.path.join(scratch, "archive"), "wb") as out:
            write(tar, reference, out)
        os.replace(os.path.join(scratch, "archive"), path)


def write(tar: tarfile.TarFile, reference: str, out: IO[bytes]) -> None:
    """The archive of one image from what `docker save` gave, which may be of either format."""
    (saved,) = json.loads(_read(tar, "manifest.json"))
    config = json.dumps(_config(json.loads(_read(tar, saved["Config"]))), sort_keys=True).encode()
    layers = [_layer(tar, name) for name in saved["Layers"]]
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI + "manifest.v1+json",
        "config": _descriptor("config.v1+json", config),
        "layers": [described for _, described in layers],
    }
    blob = json.dumps(manifest, sort_keys=True).encode()
    names = {
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
        "io.containerd.image.name": _full(reference),
    }
    index = {"schemaVersion": 2, "manifests": [{**_descriptor("manifest.v1+json", blob), "annotations": names}]}
    docker = [
        {
            "Config": _place(manifest["config"]),
            "RepoTags": [reference],
            "Layers": [_place(described) for _, described in layers],
        }
    ]
    files: dict[str, Any] = {
        _place(manifest["config"]): config,
        _place(index["manifests"][0]): blob,  # type: ignore[index]
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps(index, sort_keys=True).encode(),
        "manifest.json": json.dumps(docker, sort_keys=True).encode(),
        **{_place(described): member for member, described in layers},
    }
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in sorted(files.items()):
            head = tarfile.TarInfo(name)
            data = io.BytesIO(content) if isinstance(content, bytes) else tar.extractfile(content)
            head.size = len(content) if isinstance(content, bytes) else content.size
            archive.addfile(head, data)


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise SystemExit(f"docker save gave no {name}")
    return file.read()


def _layer(tar: tarfile.TarFile, name: str) -> "tuple[tarfile.TarInfo, dict[str, Any]]":
    """A layer's file in what was saved, which an equal layer may stand for, and its description."""
    member = tar.getmember(name)
    while member.issym():
        member = tar.getmember(os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname)))
    file = tar.extractfile(member)
    if file is None:
        raise SystemExit(f"docker save gave no {name}")
    digest, kind = hashlib.sha256(), file.read(2)
    digest.update(kind)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    media = "layer.v1.tar+gzip" if kind == b"\x1f\x8b" else "layer.v1.tar"
    described = {"mediaType": OCI + media, "digest": "sha256:" + digest.hexdigest(), "size": member.size}
    return member, described


def _config(config: "dict[str, Any]") -> "dict[str, Any]":
    kept = {name: config[name] for name in KEPT if name in config}
    inner = config.get("config") or {}
    kept["config"] = {name: value for name, value in inner.items() if value and name not in UNNOTICED}
    kept["history"] = [{**entry, "created": EPOCH} for entry in config.get("history") or []]
    return {**kept, "created": EPOCH}


def _descriptor(media: str, blob: bytes) -> "dict[str, Any]":
    return {"mediaType": OCI + media, "digest": "sha256:" + hashlib.sha256(blob).hexdigest(), "size": len(blob)}


def _place(described: "Any") -> str:
    return "blobs/" + described["digest"].replace(":", "/")


def _full(reference: str) -> str:
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return reference
    return "docker.io/" + (reference if slash else "library/" + reference)


if __name__ == "__main__":
    main(*sys.argv[1:])
