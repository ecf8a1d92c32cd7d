"""The OCI archive: the same bytes for the same image, and docker reads it."""

import hashlib
import io
import json
import os
import shlex
import subprocess
import tarfile

import pytest
from build_tests.builders import _ociarchive
from build_tests.builders.docker import DockerBuilder

from build_tests.core.builder import ManifestError

LAYER = b"a layer" * 1000


def saved(created, *, new):
    """What `docker save` gives: before docker 25 and since."""
    config = {
        "architecture": "amd64", "os": "linux", "created": created, "container": created,
        "config": {"Cmd": ["x"], "Hostname": created, "Env": None}, "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
        "history": [{"created": created, "created_by": "COPY"}],
    }  # fmt: skip
    names = ("blobs/sha256/c", "blobs/sha256/l") if new else ("c.json", "1/layer.tar")
    manifest = [{"Config": names[0], "RepoTags": ["shop/web:1"], "Layers": [names[1], "2/layer.tar"]}]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in ((names[0], json.dumps(config).encode()), (names[1], LAYER), ("manifest.json", json.dumps(manifest).encode())):
            head = tarfile.TarInfo(name)
            head.size, head.mtime = len(data), len(created)
            tar.addfile(head, io.BytesIO(data))
        link = tarfile.TarInfo("2/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, f"../{names[1]}"
        tar.addfile(link)
    buffer.seek(0)
    return tarfile.open(fileobj=buffer)


def archive(tar):
    out = io.BytesIO()
    _ociarchive.write(tar, "shop/web:1", out)
    return out.getvalue()


def test_neither_the_time_nor_the_release_of_docker_shows():
    first = archive(saved("2026-01-01", new=False))
    assert first == archive(saved("2027-02-02T00:00", new=True))
    assert first == archive(saved("2027", new=False))


def test_it_is_an_oci_layout_whose_digests_are_true():
    with tarfile.open(fileobj=io.BytesIO(archive(saved("2026", new=False)))) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (described,) = json.loads(files["index.json"])["manifests"]
    assert described["annotations"]["io.containerd.image.name"] == "docker.io/shop/web:1"
    manifest = json.loads(files["blobs/" + described["digest"].replace(":", "/")])
    assert [layer["size"] for layer in manifest["layers"]] == [len(LAYER)] * 2
    config = json.loads(files["blobs/" + manifest["config"]["digest"].replace(":", "/")])
    assert config["config"] == {"Cmd": ["x"]}
    assert config["history"] == [{"created": "1970-01-01T00:00:00Z", "created_by": "COPY"}]


def test_the_step_stands_behind_the_image(planned):
    steps = planned(DockerBuilder, {"app/Dockerfile": "FROM scratch\nCOPY x /\n"}, archive="out/app.tar", image="app:1")
    step = steps["archive"]
    assert step.depends_on == ("app:image",)
    assert [output.path for output in step.outputs] == ["app/out/app.tar"]
    assert step.command[:2] == ("python3", "-c")
    assert step.command[3:] == ("app:1", "out/app.tar")


def test_an_archive_in_the_images_own_context_is_refused(planned):
    with pytest.raises(ManifestError, match="would lie in the image's own context") as raised:
        planned(DockerBuilder, {"app/Dockerfile": "FROM scratch\nCOPY . /\n"}, archive="app.tar")
    assert raised.value.hint == "add it to app/.dockerignore"


@pytest.mark.real("docker")
def test_docker_loads_what_was_saved(planned, tmp_path):
    def docker(*words):
        return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()

    name = f"pytest-build-test/archive:{os.getpid()}"
    steps = planned(
        DockerBuilder, {"app/Dockerfile": "FROM scratch\nCOPY x /x\nENV A=1\nCMD [\"/x\"]\n", "app/x": "1"}, archive="a/app.tar", image=name
    )
    (tmp_path / "app/a").mkdir()
    digests = []
    try:
        for _ in range(2):
            build = steps["image"].command.replace('docker build "$@"', "docker build --no-cache")
            subprocess.run(["sh", "-ec", build], cwd=tmp_path / "app", check=True, capture_output=True)
            subprocess.run(steps["archive"].command, cwd=tmp_path / "app", check=True, capture_output=True)
            digests.append(hashlib.sha256((tmp_path / "app/a/app.tar").read_bytes()).hexdigest())
            docker("image", "rm", "--force", name)
        assert digests[0] == digests[1]
        assert os.listdir(tmp_path / "app/a") == ["app.tar"]
        docker("load", "--input", str(tmp_path / "app/a/app.tar"))
        assert json.loads(docker("image", "inspect", "--format={{json .Config.Cmd}}", name)) == ["/x"]
    finally:
        subprocess.run(shlex.split(f"docker image rm --force {name}"), check=False, capture_output=True)
