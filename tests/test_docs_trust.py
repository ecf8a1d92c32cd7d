"""The jobs that docs/trust.md shows, run as the services would run them, against an S3 server of this machine."""

import os
import re
from pathlib import Path

import pytest
import yaml
from faces.commands import run
from pages import ROOT, Shell, blocks

from build_tests.testing import BuildWorkspace
from tests.cache.servers import ACCESS, SECRET, Server, moto_command, s3_client

PAGE = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
SETTINGS, GITHUB, GITLAB = [yaml.safe_load(body) for language, body in blocks(PAGE) if language == "yaml"]


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The bucket of the page: what a job's environment says of it, and how many objects are in it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    server = Server(moto_command(""), str(tmp_path)).start()
    client = s3_client(server.port)
    s3 = SETTINGS["build_system"]["cache"]["s3"]
    client.create_bucket(Bucket=s3["bucket"], CreateBucketConfiguration={"LocationConstraint": s3["region"]})
    environ = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}", "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    yield environ, lambda: client.list_objects_v2(Bucket=s3["bucket"]).get("KeyCount")
    client.close()
    server.stop()


def github(job):
    step = job["steps"][-1]
    return {name: str(value) for name, value in step["env"].items()}, step["run"]


def gitlab(job):
    return job["variables"], job["script"]


def filled(text, known):
    """A job's text with what its service puts in for `${{ NAME }}` and $NAME."""
    return re.sub(r"\$\{\{ ([\w.]+) \}\}|\$(CI_\w+|CACHE_SIGNING_KEY)", lambda found: known[found[1] or found[2]], text)


def checkout(folder, settings):
    """A clone with a user's folders of its own."""
    ws = BuildWorkspace(folder)
    shout = {"command": "tr a-z A-Z <in.txt >out.txt", "inputs": ["in.txt"], "outputs": ["out.txt"]}
    ws.components(settings, text={"steps": {"shout": shout}})
    ws.write("text/in.txt", "hello\n")
    return ws


@pytest.mark.parametrize(
    ("jobs", "parts", "names"),
    [(GITHUB["jobs"], github, ("main", "pull-request")), (GITLAB, gitlab, ("main", "merge-request"))],
    ids=["github", "gitlab"],
)
def test_a_pull_request_reads_what_main_built_and_writes_nothing(jobs, parts, names, bucket, tmp_path):
    environ, stored = bucket
    said = run(checkout(tmp_path / "first", {}), "cache", "keygen").stdout
    public, private = re.search(r"ed25519:[\w+/=]+", said)[0], Path(re.search(r": (/\S+main-k1\.key)", said)[1])
    settings = yaml.safe_load(yaml.safe_dump(SETTINGS, allow_unicode=True).replace("ed25519:…", public))
    known = {
        "secrets.CACHE_SIGNING_KEY": private.read_text(), "CACHE_SIGNING_KEY": str(private), "runner.temp": str(tmp_path),
        "github.event.number": "7", "CI_MERGE_REQUEST_IID": "7",
    }  # fmt: skip
    said, counts = [], []
    for job in names:
        variables, script = parts(jobs[job])
        variables = {name: filled(value, known) for name, value in variables.items()}
        shell = Shell(checkout(tmp_path / job, settings), **environ, **variables)
        said.append(shell.run(f"set -e\n{script}"))
        counts.append(stored())
        assert shell.status == 0, said
    assert "1 built" in said[0]
    assert counts[0] > 0
    assert "cache: 1 from s3" in said[1]
    assert counts[1] == counts[0]
    assert "SIGNING" not in str(parts(jobs[names[1]]))
