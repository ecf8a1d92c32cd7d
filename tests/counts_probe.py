"""What the path on which nothing changed asks of the machine, as JSON. Run in a process of its own, see test_counts.py.

Imports of modules are not counted as files opened: the interpreter's own, and cached.
"""

import json
import os
import sys

IMPORTED = (".py", ".pyc", ".so")
SPAWNED = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"}

counts = {"stats": {}, "opened": [], "listed": [], "spawned": []}
calls = {"of": None}


def audit(event, arguments):
    if calls["of"] is None:
        return
    if event in SPAWNED:
        counts["spawned"].append(event)
    elif event == "open" and not str(arguments[0]).endswith(IMPORTED):
        counts["opened"].append(relative(arguments[0]))
    elif event in {"os.scandir", "os.listdir"} and str(arguments[0]).startswith(calls["of"]):
        counts["listed"].append(relative(arguments[0]))


def counted(function):
    def count(path, *arguments, **options):
        if calls["of"] is not None:
            name = relative(path)
            counts["stats"][name] = counts["stats"].get(name, 0) + 1
        return function(path, *arguments, **options)

    return count


def relative(path):
    path = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path)
    return path.removeprefix(calls["of"]).lstrip("/") if path.startswith("/") else path


def top_levels(names):
    """The top-level modules among these that are neither the standard library's nor ours."""
    tops = {name.partition(".")[0] for name in names}
    tops -= set(sys.stdlib_module_names) | {"build_tests", "__main__", "__mp_main__"}
    # Finders that the installation itself puts in (editable installs, virtual environments) are not ours either.
    return sorted(name for name in tops if not name.startswith(("__editable__", "_distutils", "_virtualenv", "a1_")))


def plan_everything(root):
    """Read the build file and decide every step, as the core does when nothing must run."""
    from build_tests.api import BuildOrchestrator
    from build_tests.checkout import Checkout, Wishes

    orchestrator = BuildOrchestrator.load(os.path.join(root, "build.yml"))
    checkout = Checkout(
        project=orchestrator.project, state_folder=os.path.join(root, ".pytest_cache", "d", "build"), say=print,
        wishes=Wishes(dry=True, workers=2),
    )  # fmt: skip
    plan = checkout.plan(orchestrator.labels)
    return plan, checkout.open().decider.table


def main(root):
    os.stat, os.lstat, os.access = counted(os.stat), counted(os.lstat), counted(os.access)
    before = set(sys.modules)
    sys.addaudithook(audit)
    calls["of"] = root
    plan, table = plan_everything(root)
    calls["of"] = None
    outcomes = sorted({planned.expected.value for planned in plan.steps})
    json.dump(
        {
            **counts, "steps": len(plan.steps), "expected": outcomes, "hashes": table.hashes, "read": table.bytes_hashed,
            "modules": sorted(sys.modules.keys() - before), "third_party": top_levels(sys.modules.keys() - before),
        },
        sys.stdout,
    )  # fmt: skip


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
