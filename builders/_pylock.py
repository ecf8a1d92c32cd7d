"""A program that makes requirement lines of a pylock.toml (PEP 751) or pdm.lock, as text: a step hands it to python.

It runs as `python -c`, with LOCK NAME …, the extras and groups that are wanted. Folders of this repository are left
out: they are components with wheels. Which index a file came from is not handed on: hashes tell which file is meant.
It has no single quotes, since a shell must quote it.
"""

NAMES = ("pdm.lock", "pylock.toml")
FLATTEN = r"""
import re, sys

try:
    import tomllib
except ImportError:  # before 3.11 pip has the same
    from pip._vendor import tomli as tomllib

path, wanted = sys.argv[1], {"default", *sys.argv[2:]}
with open(path, "rb") as file:
    lock = tomllib.load(file)
wanted.update(lock.get("default-groups", ()))
asked = re.compile(r"([\"\x27])([^\"\x27]+)\1\s+(not\s+)?in\s+(?:extras|dependency_groups)")
always, never = "python_version > \"0\"", "python_version < \"0\""


def marker(package):
    # No installer knows what was chosen here, so this is answered in words that each knows.
    return asked.sub(lambda m: never if (m[2] in wanted) is bool(m[3]) else always, package.get("marker", ""))


def hashes(package):
    files = [*package.get("wheels", ()), *(package[key] for key in ("sdist", "archive") if key in package)]
    yield from ("%s:%s" % pair for one in files for pair in one.get("hashes", {}).items())
    yield from (one["hash"] for one in package.get("files", ()))


def requirement(package):
    name, version, archive = package["name"], package.get("version"), package.get("archive", package)
    vcs = package.get("vcs") or {"type": "git", "url": package.get("git"), "commit-id": package.get("revision")}
    inner = "#subdirectory=" + vcs["subdirectory"] if vcs.get("subdirectory") else ""
    if vcs.get("url"):
        return "%s @ %s+%s@%s%s" % (name, vcs["type"], vcs["url"], vcs["commit-id"], inner)
    if archive.get("url"):
        return "%s @ %s" % (name, archive["url"])
    return "%s==%s" % (name, version) if version else name


for package in lock.get("packages", lock.get("package", ())):
    chosen = wanted & set(package.get("groups", wanted))
    if not chosen or "directory" in package or "path" in package or package.get("extras"):
        continue
    if "path" in package.get("vcs", {}) or "path" in package.get("archive", {}):
        sys.exit("%s: %s lies on the disk: only folders are read from there" % (path, package["name"]))
    words = [requirement(package)] + (["; " + marker(package)] if marker(package) else [])
    print(" ".join(words) + "".join(" \\\n    --hash=" + one for one in dict.fromkeys(hashes(package))))
"""
