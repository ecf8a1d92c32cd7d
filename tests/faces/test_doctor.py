import json

import pytest
from commands import run


def findings(ws, *arguments, **more):
    done = run(ws, "doctor", "--json", *arguments, **more)
    document = json.loads(done.stdout)
    assert document["version"] == 1
    assert document["ok"] == (done.returncode == 0)
    return done.returncode, {(one["subject"], one["name"]): one for one in document["findings"]}


def test_what_is_there_is_told_with_its_version_and_who_needs_it(build_workspace):
    ws = build_workspace
    ws.tool("node", 'echo "v22.3.0"')
    ws.components(web={"steps": {"bundle": {"command": ["node", "x.js"], "tools": [{"name": "node", "version": ">=20"}]}}})
    status, found = findings(ws)
    assert status == 0
    node = found["tools", "node >=20"]
    assert (node["health"], node["needed_by"]) == ("good", ["web:bundle"])
    assert node["found"].startswith("v22.3.0 (")
    assert ("engine", "container engine") not in found
    assert found["cache", "local"]["health"] == "good"
    assert found["disk", "checkout"]["health"] == "good"
    assert {"pytest", "pytest-xdist", "python"} <= {name for subject, name in found if subject == "pytest"}


def test_what_is_missing_or_too_old_is_told_with_the_way_to_get_it(build_workspace):
    ws = build_workspace
    ws.tool("node", 'echo "v18.1.0"')
    ws.components(
        web={"steps": {
            "bundle": {"command": "true", "tools": [{"name": "node", "version": ">=20"}]},
            "lint": {"command": "true", "tools": [{"name": "no-such-lint", "hint": "pip install no-such-lint"}]},
            "docs": {"command": "true", "tools": [{"name": "no-such-docs", "optional": True}]},
        }},
    )  # fmt: skip
    status, found = findings(ws)
    assert status == 1
    assert found["tools", "node >=20"]["found"] == ">=20 is needed, found v18.1.0"
    assert found["tools", "no-such-lint"]["hint"] == "pip install no-such-lint"
    assert found["tools", "no-such-docs"]["health"] == "note"
    text = run(ws, "doctor")
    assert text.returncode == 1
    assert "!! no-such-lint" in text.stdout
    assert "get it: pip install no-such-lint" in text.stdout
    assert text.stdout.splitlines()[-1] == "node >=20: >=20 is needed, found v18.1.0; needed by web:bundle"


def test_what_one_step_may_have_and_another_must_is_judged_as_the_one_that_must(build_workspace):
    ws = build_workspace
    ws.tool("gcc", "exit 1")
    ws.components(a={"steps": {"may": {"command": "gcc x"}}}, b={"steps": {"must": {"command": ["gcc", "x"]}}})
    done = run(ws, "doctor")
    assert done.returncode == 1, done.stdout
    assert "gcc: does not tell its version; needed by a:may, b:must" in done.stdout


def test_an_engine_that_is_not_there_and_a_tier_that_does_not_answer(build_workspace):
    ws = build_workspace
    ws.components(
        {"build_system": {"cache": {"storage": ["local", "redis"], "redis": {"url": "redis://127.0.0.1:1/0"}}}},
        a={"steps": {"image": {"command": "true", "outputs": [{"path": "a:1", "identity": "image"}]}}},
    )
    status, found = findings(ws, DOCKER_HOST="unix:///no/such/socket")
    assert status == 1
    assert found["engine", "container engine"]["needed_by"] == ["a:image"]
    assert found["cache", "redis"]["health"] == "note"
    assert found["cache", "redis"]["hint"] == "builds go on without it"


@pytest.mark.real("docker")
def test_an_image_that_nobody_here_makes_is_told_of(build_workspace):
    ws = build_workspace
    ws.components(a={"kind": "docker"}, b={"kind": "docker"})
    ws.write("a/Dockerfile", "FROM no-such-team/base:1\nCOPY --from=b /x /\n")
    ws.write("b/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
    status, found = findings(ws)
    assert status == 0
    assert {name for subject, name in found if subject == "engine"} == {"container engine", "no-such-team/base:1"}
    assert found["engine", "no-such-team/base:1"]["needed_by"] == ["a:image"]


def test_options_that_are_always_given_and_change_builds_are_named(build_workspace):
    ws = build_workspace
    ws.components(a={"steps": {"one": {"command": "true"}}})
    ws.write("pytest.ini", "[pytest]\naddopts = -p no:cacheprovider --timeout=60\n")
    status, found = findings(ws)
    assert status == 0
    assert found["pytest", "-p no:cacheprovider"]["health"] == "note"
    assert found["pytest", "--timeout"]["health"] == "note"
    assert ("pytest", "--reruns") not in found


def test_a_job_that_could_write_mains_scope_is_told_of(build_workspace):
    ws = build_workspace
    key = run(ws, "cache", "keygen", "main", "--file", str(ws.root / "main.key"))
    assert key.returncode == 0, key.stderr
    (public,) = [word.strip('"}') for word in key.stdout.split() if "ed25519:" in word]
    ws.components(
        {"build_system": {"cache": {"keys": {"main": {"k1": public}}, "read_scopes": ["main"]}}},
        a={"steps": {"one": {"command": "true"}}},
    )
    job = {"PYTEST_BUILD_SIGNING_KEY_FILE": str(ws.root / "main.key"), "GITHUB_EVENT_NAME": "pull_request"}
    done = run(ws, "doctor", **job)
    assert done.returncode == 1
    assert "!! trust" in done.stdout
    assert "it holds what can write scope main (k1, ed25519)" in done.stdout
