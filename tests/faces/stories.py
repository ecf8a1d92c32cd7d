"""A story of changes in one workspace: before each run what explain says, after it what ran and what explain --last says."""

import json
import os
import shutil
import subprocess
import time

from build_tests.checkout import Checkout, Wishes
from build_tests.core.globs import PathSet
from build_tests.core.plan import Expected
from build_tests.faces import explaincli
from build_tests.project import load_project
from build_tests.run.explaining import explain
from build_tests.run.step import Runner
from build_tests.testing import BuildWorkspace

GIT = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "tester") | {
    "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_COMMITTER_EMAIL": "t@example.org",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
}  # fmt: skip
COMES = {
    Expected.FRESH: {"fresh"}, Expected.RESTORE: {"restored"}, Expected.BUILD: {"built", "failed"},
    Expected.BEHIND: {"fresh", "restored", "built", "failed", "blocked"}, Expected.UNAVAILABLE: {"unavailable"},
    Expected.FAIL: {"failed"},
}  # fmt: skip


class Story:
    """A workspace, its environment, and the target that is built."""

    file = "build.yml"

    def __init__(self, folder):
        self.ws = BuildWorkspace(folder / "ws")
        self.environ = {**self.ws.environ, **GIT}
        self.target = None

    def git(self, *arguments):
        subprocess.run(["git", *arguments], cwd=self.ws.root, env=self.environ, check=True, capture_output=True)

    def commit(self, message):
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def append(self, path, text):
        self.ws.write(path, self.ws.read(path) + text)

    def remove(self, *paths):
        for path in paths:
            target = self.ws.root / path
            shutil.rmtree(target) if target.is_dir() else target.unlink()

    def edit(self, path, old, new):
        text = self.ws.read(path)
        assert old in text, f"{path} has no {old!r}"
        self.ws.write(path, text.replace(old, new, 1))

    def checkout(self, *, dry):
        project = load_project(str(self.ws.root / self.file), target=self.target)
        return Checkout(
            project=project, state_folder=str(self.ws.root / ".pytest_cache/d/build"), say=print, environ=self.environ,
            wishes=Wishes(dry=dry, workers=2),
        )  # fmt: skip

    def labels(self, project):
        """Of the steps that the story is about, in their order."""
        return project.graph.order

    def before(self):
        looking = self.checkout(dry=True)
        return explain(looking.open(), looking.plan(self.labels(looking.project)), context={})

    def done(self, order, graph):
        """A step's order as it is carried out."""
        return order

    def run(self):
        running = self.checkout(dry=False)
        labels = self.labels(running.project)
        build = running.begin(labels, {})
        runner = Runner(str(self.ws.root), PathSet.of(build.decider.excluded))
        try:
            build.advance()
            while (order := build.take()) is not None:
                build.finish(order.label, runner.run(self.done(order, running.project.graph)))
                build.advance()
        finally:
            runner.guardian.close()
            running.close(0, 0.0)
            running.release()
        return {label: build.records[label] for label in labels}


def told_of(story, changes):
    """The whole story as text, checked as it goes on."""
    lines = []
    for name, change in changes.items():
        change(story)
        time.sleep(0.03)  # two ticks of the clock of files: what is young is looked at again, and that is told apart
        lines += [f"== {name}", *chapter(story)]
    return "\n".join(lines) + "\n"


def chapter(story):
    explanation = story.before()
    records = story.run()
    for step in explanation.steps:
        record = records[step.planned.label]
        assert record.outcome.value in COMES[step.planned.expected], record
        if step.planned.expected in {Expected.BUILD, Expected.RESTORE}:
            assert record.reasons == [reason.to_json() for reason in step.planned.reasons]
    yield from explaincli.lines(explanation, set(records))
    yield "-- ran"
    yield from explaincli.told(records, list(records))


def cut_off(story, label):
    """As if the last run had been killed while the step ran."""
    from xxhash import xxh3_64_hexdigest

    line = json.dumps({"start": label}, separators=(",", ":"))
    story.ws.write(".build/journal", f"{xxh3_64_hexdigest(line.encode())} {line}\n")


def assert_golden(told, golden):
    if "UPDATE_GOLDEN" in os.environ:
        golden.write_text(told)
    assert told.splitlines() == golden.read_text().splitlines()
