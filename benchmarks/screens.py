"""Pictures of terminals for the documentation, of real runs: `python benchmarks/screens.py` writes docs/screens/*.svg.

A small workspace is built in a pseudo-terminal; what a person would have seen at one moment is drawn.
"""

import re
import sys
import tempfile
from html import escape
from pathlib import Path

from build_tests.testing import BuildWorkspace

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "session"))
from terminal import Terminal  # noqa: E402

FOLDER = ROOT / "docs" / "screens"
FONT = 'font-family="ui-monospace, DejaVu Sans Mono, monospace" font-size="14"'
COLUMN, ROW = 8.43, 18
COLOURS = {
    "default": "#d8dee9", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b", "blue": "#61afef",
    "magenta": "#c678dd", "cyan": "#56b6c2", "white": "#ffffff", "black": "#5c6370",
}  # fmt: skip
COMMAND = str(Path(sys.executable).with_name("pytest-build"))


def svg(screen):
    """A pyte screen as it is."""
    rows = [screen.buffer[y] for y in range(screen.lines)]
    while rows and not "".join(rows[-1][x].data for x in range(screen.columns)).strip():
        rows.pop()
    width, height = screen.columns * COLUMN + 20, len(rows) * ROW + 20
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" {FONT}>',
        f'<rect width="{width:.0f}" height="{height}" rx="6" fill="#1f2430"/>',
    ]
    for y, row in enumerate(rows):
        parts, x = [], 0
        while x < screen.columns:
            start, first = x, row[x]
            while x < screen.columns and (row[x].fg, row[x].bold) == (first.fg, first.bold):
                x += 1
            text = "".join(row[i].data for i in range(start, x))
            if x == screen.columns:
                text = text.rstrip()
            if text.strip():
                weight = ' font-weight="bold"' if first.bold else ""
                colour = COLOURS.get(first.fg, COLOURS["default"])
                place = f'x="{10 + start * COLUMN:.1f}" textLength="{len(text) * COLUMN:.1f}" xml:space="preserve"'
                parts.append(f'<tspan {place} fill="{colour}"{weight}>{escape(text)}</tspan>')
        lines.append(f'<text y="{10 + (y + 1) * ROW - 4}">{"".join(parts)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def workspace(folder):
    ws = BuildWorkspace(folder / "shop")

    def step(name, seconds, words, *needs):
        said = "; ".join(f"echo '{word}'; sleep {seconds / len(words):.2f}" for word in words)
        inputs = ["src.txt", *(f"//{need.replace(':', '/out-')}.txt" for need in needs)]
        return {name: {"command": f"{said}; cat src.txt >out-{name}.txt", "inputs": inputs, "outputs": [f"out-{name}.txt"]}}

    ws.components(
        proto={"steps": step("generate", 0.4, ["protoc shop.proto"])},
        orders={"steps": {**step("compile", 1.6, ["[INFO] Compiling 48 source files", "[INFO] Compiled"], "proto:generate"),
                          **step("package", 0.8, ["[INFO] Building jar: orders.jar"], "orders:compile")}},
        web={"steps": {**step("install", 1.2, ["added 312 packages"]),
                       **step("bundle", 2.0, ["webpack: 62 modules", "webpack: assets by status"], "web:install", "proto:generate")}},
        docs={"steps": step("pages", 0.6, ["rendering 14 pages"])},
    )  # fmt: skip
    for name in ("proto", "orders", "web", "docs"):
        ws.write(f"{name}/src.txt", "one\n")
    for name in ("metadata", "html", "randomly", "hypothesispytest", "anyio", "timeout", "rerunfailures"):
        ws.without_plugins.add(name)
    return ws


def keep(name, seen):
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.svg").write_text(svg(seen.screen))
    print(f"--- {name}\n{seen.text}")


def record(ws, name, when, *arguments, **more):
    with Terminal(ws.command("build.yml", "-v", "--no-header", *arguments), cwd=ws.root, env=ws.environ, **more) as seen:
        if when is not None:
            seen.until(when)
            keep(name, seen)
        assert seen.finish() == 0
        if when is None:
            keep(name, seen)


def edit(ws, text):
    for name in ("proto", "orders", "web", "docs"):
        ws.write(f"{name}/src.txt", text)


def main():
    with tempfile.TemporaryDirectory() as folder:
        ws = workspace(Path(folder))
        assert ws.build("-n2").status == 0
        edit(ws, "two\n")
        record(ws, "progress", lambda text: re.search(r"3 of 6 done, about \d+ s left, 2 running", text), "-n2", rows=20)
        edit(ws, "three\n")
        record(ws, "narrow", lambda text: re.search(r"3 of 6 done", text), "-n2", columns=40, rows=20)
        edit(ws, "four\n")
        record(ws, "output-all", None, "-n2", "--build-output=all", rows=30)
        with Terminal([COMMAND, "watch"], cwd=ws.root, env=ws.environ, columns=90, rows=24) as seen:
            seen.until("waiting for edits")
            ws.write("docs/src.txt", "five\n")
            seen.until(lambda text: text.count("waiting for edits") == 2)
            keep("watch", seen)
            seen.send("q")
            seen.finish()
        with Terminal([COMMAND, "profile"], cwd=ws.root, env=ws.environ, columns=100, rows=40) as seen:
            seen.finish()
            keep("profile", seen)


if __name__ == "__main__":
    main()
