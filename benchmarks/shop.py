"""examples/shop with its own plain Makefile against pytest-build: `python benchmarks/shop.py`.

Works in two temporary clones of this repository, one for each side, with the same tools, edits and branches. The
Makefile is what such a team would have: it runs everything, every time. Prints Markdown and writes it to
`benchmarks/shop.md` (`make bench-shop`). Needs what the shop needs (docs: examples/shop/README.md).
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import measure
import workspace
from measure import Taken

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.path.join(HERE, "shop.md")
SHOP = os.path.join("examples", "shop")
COMPONENTS = ("orders", "recommend", "web")
IMAGES = ("orders-image", "recommend-image", "web-image")
OURS = (os.path.join(os.path.dirname(sys.executable), "pytest-build"), "build", "-q")
"""The script: `python -m` would take the clone's own folder `build_tests` for the installed package."""
BRANCH = "another-branch"
EDITS = {
    "a comment in the proto": ("proto/shop.proto", "// Edit {number}.\n"),
    "Kotlin": ("orders/src/main/kotlin/shop/orders/Pricing.kt", "\ninternal const val EDIT = {number}\n"),
    "TypeScript": ("web/src/api.ts", "\nexport const edit = {number};\n"),
    "Python": ("recommend/src/shop_recommend/engine.py", "\nEDIT = {number}\n"),
}
"""What changes → the file, and what is added to it."""
SWITCHED = ("Python", "TypeScript")
"""What the other branch has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way of building the shop, in a clone of its own."""

    name: str
    root: str
    command: Sequence[str]

    def build(self) -> Taken:
        """Build everything. Raises RuntimeError with the end of the output."""
        return measure.take(self.command, self.root)

    def git(self, *arguments: str) -> None:
        """In the clone."""
        identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=self.root, check=True, stdout=subprocess.DEVNULL)

    def append(self, edit: str, number: int) -> None:
        """Make an edit; earlier ones of the same file are undone."""
        path, text = EDITS[edit]
        self.git("checkout", "--quiet", "HEAD", "--", os.path.join(SHOP, path))
        with open(os.path.join(self.root, SHOP, path), "a", encoding="utf-8") as file:
            file.write(text.format(number=number))


BASES = "base"
"""The component whose steps make the base images: the Makefile takes them as given, so nobody is timed for them."""


def sides(folder: str, repository: str, *, images: bool) -> list[Side]:
    """Both, cloned."""
    make = ["make", "-C", SHOP, "all" if images else "build"]
    ours = [*OURS, *COMPONENTS, *(IMAGES if images else ())]
    both = [
        Side(name="make", root=os.path.join(folder, "make"), command=make),
        Side(name="pytest-build", root=os.path.join(folder, "ours"), command=ours),
    ]
    for side in both:
        subprocess.run(["git", "clone", "--quiet", repository, side.root], check=True)
        side.git("checkout", "--quiet", "-b", BRANCH)
        for edit in SWITCHED:
            side.append(edit, 0)
        side.git("commit", "--quiet", "--all", "--message", "Another branch")
        side.git("checkout", "--quiet", "-")
    if images:
        measure.take([*OURS, BASES], both[1].root)
    return both


Scenario = tuple[str, Callable[[Side], None]]


def nothing(_side: Side) -> None:
    """No preparation."""


def scenarios(number: int) -> list[Scenario]:
    """In their order: each begins where the last one ended."""

    def edited(edit: str) -> Callable[[Side], None]:
        return lambda side: side.append(edit, number)

    def there(side: Side) -> None:
        side.git("checkout", "--quiet", "--force", BRANCH)

    def back(side: Side) -> None:
        side.git("checkout", "--quiet", "--force", "-")

    return [
        ("nothing changed", nothing),
        *((f"one edit: {edit}", edited(edit)) for edit in EDITS),
        ("branch switch, there", there),
        ("branch switch, back", back),
    ]


def run(both: Sequence[Side], rounds: int) -> dict[str, dict[str, list[Taken]]]:
    """Every scenario on both sides, interleaved. The first build is cold, and there is one of it."""
    runs: dict[str, dict[str, list[Taken]]] = {}
    steps: list[Scenario] = [("everything, in a fresh clone", nothing)]
    for number in range(1, rounds + 1):
        steps += scenarios(number)
    for name, prepare in steps:
        for side in both:
            prepare(side)
            measure.say(f"{side.name}: {name}")
            runs.setdefault(name, {}).setdefault(side.name, []).append(side.build())
    return runs


def report(runs: dict[str, dict[str, list[Taken]]]) -> str:
    """The table."""
    rows = []
    for scenario, by_side in runs.items():
        make, ours = measure.median(by_side["make"]), measure.median(by_side["pytest-build"])
        rows.append([scenario, f"{make:.1f} s", f"{ours:.1f} s", f"{(1 - ours / make) * 100:.0f} %"])
    return measure.table(["examples/shop", "make", "pytest-build", "cut"], rows)


def engine_answers() -> bool:
    """Whether docker can build images here."""
    try:
        found = subprocess.run(["docker", "info"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        return False
    return found.returncode == 0


def main() -> None:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1, help="how often each scenario is run; the median counts")
    parser.add_argument("--no-images", action="store_true", help="leave the images out, on both sides")
    parser.add_argument("--repository", default=os.path.dirname(HERE), help="what is cloned (its last commit)")
    options = parser.parse_args()
    images = not options.no_images
    measure.need("git", "make", "mvn", "npm", "protoc")
    if images and not engine_answers():
        raise SystemExit("no container engine answers: start one, or give --no-images")
    with measure.scratch() as folder:
        # Nothing of earlier days is restored.
        os.environ["XDG_CACHE_HOME"] = os.path.join(folder, "cache")
        text = report(run(sides(folder, options.repository, images=images), options.rounds))
    print(text)
    note = "" if images else "Without the images.\n\n"
    workspace.write(RESULTS, f"# The shop\n\nMade by `python benchmarks/shop.py`.\n\n{note}{text}")


if __name__ == "__main__":
    main()
