"""What the path on which nothing changed asks of the machine, as JSON. Run in a process of its own by test_counts.py.

The interpreter's own work is left out: its imports stat through another name, and open files of known endings.
"""

import json
import os
import re
import sys

IMPORTED = re.compile(r"\.(py|pyc|so)(\.\d+)?$")
"""The digits: a .pyc that is being written."""
SPAWNS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"}
FINDERS = ("__editable__", "_distutils", "_virtualenv", "_cython", "cython_runtime")
"""What installations and compiled extensions put into sys.modules by themselves."""


class Counter:
    """Counts while `root` is set; names are relative to it."""

    def __init__(self):
        self.root = ""
        self.stats = {}
        self.opened, self.listed, self.spawned = [], [], []

    def audit(self, event, arguments):
        if not self.root:
            return
        if event in SPAWNS:
            self.spawned.append(event)
        elif event == "open" and isinstance(arguments[0], str) and not IMPORTED.search(arguments[0]):
            self.opened.append(self._relative(arguments[0]))
        elif event in {"os.scandir", "os.listdir"} and str(arguments[0]).startswith(self.root):
            self.listed.append(self._relative(arguments[0]))

    def counted(self, function):
        def count(path, *arguments, **options):
            if self.root and isinstance(path, str):
                name = self._relative(path)
                self.stats[name] = self.stats.get(name, 0) + 1
            return function(path, *arguments, **options)

        return count

    def _relative(self, path):
        return os.path.relpath(path, self.root)


def plan_everything(root):
    """Read the build file and decide every step, as every face does when nothing must run."""
    from build_tests.api import BuildOrchestrator
    from build_tests.checkout import Checkout, Wishes

    orchestrator = BuildOrchestrator.load(os.path.join(root, "build.yml"))
    checkout = Checkout(
        project=orchestrator.project, state_folder=os.path.join(root, ".pytest_cache", "d", "build"), say=print,
        wishes=Wishes(dry=True, workers=2),
    )  # fmt: skip
    return checkout.plan(orchestrator.labels), checkout.open().decider.table


def run_command(arguments):
    """The very command, in this process; its output goes to nobody."""
    import contextlib
    import io

    from build_tests.faces import cli

    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = cli.main(arguments)
    return status, out.getvalue()


def third_party(modules):
    """The top-level modules that are neither the standard library's nor ours."""
    tops = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"build_tests"}
    return sorted(name for name in tops if not name.startswith(FINDERS))


def main(root, arguments):
    """Without arguments: plan, as the faces do. With: run that command."""
    counter = Counter()
    os.stat, os.lstat, os.access = (counter.counted(function) for function in (os.stat, os.lstat, os.access))
    sys.addaudithook(counter.audit)
    before = set(sys.modules)
    counter.root = root
    if arguments:
        status, out = run_command(arguments)
        told = {"status": status, "out": out}
    else:
        plan, table = plan_everything(root)
        expected = sorted({planned.expected.value for planned in plan.steps})
        told = {"steps": len(plan.steps), "expected": expected, "hashes": table.hashes}
    counter.root = ""
    modules = sorted(sys.modules.keys() - before)
    found = {
        "stats": counter.stats, "opened": counter.opened, "listed": counter.listed, "spawned": counter.spawned,
        "modules": modules, "third_party": third_party(modules), **told,
    }  # fmt: skip
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]), sys.argv[2:])
