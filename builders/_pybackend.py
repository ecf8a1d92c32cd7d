"""The script that calls a project's build backend, as PEP 517 says, in the project's own environment.

What the backend made is packed anew, so that neither clock, umask, owner nor order of a folder is in the result. It
runs as `python -c`, with KIND OUT BACKEND BACKEND_PATH [ARGUMENT …]:

    wheel OUT …
    sdist OUT … FOLDER …        leaving these folders out
    site OUT … WHEEL|FOLDER …   unpacks wheels, and adds the project's own metadata where BACKEND is not ""

It has no single quotes, since a shell must quote it.
"""

EPOCH = "315532800"
"""1980, in seconds since 1970: the first second that a zip file can hold, so that wheels repeat byte for byte."""
SCRIPT = r"""
import sys

sys.path[:] = [path for path in sys.path if path]  # nothing beside the manifest may hide a module
import base64
import gzip
import hashlib
import importlib
import io
import os
import re
import shutil
import tarfile
import tempfile
import zipfile

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "315532800"))


def mode(bits):
    return 0o755 if bits & 0o100 else 0o644


def portable(name, data):
    # poetry-core writes where a neighbour lies on this machine.
    if os.path.basename(name) in ("METADATA", "PKG-INFO"):
        return re.sub(rb"(?m)^(Requires-Dist: [^@;\n]+?) @ file:///[^;\n]*", rb"\1", data)
    return data


def recorded(record, name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    line = name.encode() + b",sha256=" + digest + b"," + str(len(data)).encode()
    return re.sub(rb"(?m)^" + re.escape(name.encode()) + rb",.*$", lambda found: line, record)


def wheel(made, out):
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        files = {entry.filename: old.read(entry) for entry in old.infolist() if not entry.is_dir()}
        changed = {name: better for name, data in files.items() if (better := portable(name, data)) != data}
        for record in [name for name in files if name.endswith(".dist-info/RECORD")]:
            for name, data in changed.items():
                files[record] = recorded(files[record], name, data)
        files.update(changed)
        for name in sorted(files, key=lambda name: (".dist-info/" in name, name)):
            info = zipfile.ZipInfo(name)
            info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3
            info.external_attr = (0o100000 | mode(old.getinfo(name).external_attr >> 16)) << 16
            new.writestr(info, files[name])


def sdist(made, out, *ours):
    with tarfile.open(made) as old, open(out, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, EPOCH) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
            for entry in sorted(old.getmembers(), key=lambda entry: entry.name):
                if any(f"{entry.name}/".partition("/")[2].startswith(f"{path}/") for path in ours):
                    continue
                data = portable(entry.name, old.extractfile(entry).read()) if entry.isreg() else b""
                info = tarfile.TarInfo(entry.name)
                info.type, info.linkname, info.size, info.mtime = entry.type, entry.linkname, len(data), EPOCH
                info.mode = 0o755 if entry.isdir() else mode(entry.mode)
                new.addfile(info, io.BytesIO(data))


def unpack(archive, out):
    with zipfile.ZipFile(archive) as file:
        for entry in file.infolist():
            place = re.sub(r"^[^/]+\.data/(?:(?:purelib|platlib)/|(?=scripts/))", "", entry.filename)
            if entry.is_dir() or re.match(r"[^/]+\.data/", place):
                continue
            path = os.path.join(out, re.sub("^scripts/", "bin/", place))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as target:
                target.write(file.read(entry))
            os.chmod(path, mode(entry.external_attr >> 16))


def copied(source, target):
    with open(source, "rb") as old, open(target, "wb") as new:
        new.write(portable(source, old.read()))


def site(out, built, archives):
    os.makedirs(out, exist_ok=True)
    for place in archives:
        names = [place] if place.endswith(".whl") else [os.path.join(place, name) for name in sorted(os.listdir(place))]
        for name in names:
            if name.endswith(".whl"):
                unpack(name, out)
    if built is not None and hasattr(built, "prepare_metadata_for_build_wheel"):
        with tempfile.TemporaryDirectory() as made:
            name = built.prepare_metadata_for_build_wheel(made)
            shutil.copytree(os.path.join(made, name), os.path.join(out, name), copy_function=copied)


def backend(name, paths):
    sys.path[:0] = filter(None, paths.split(":"))
    module, _, attributes = name.partition(":")
    found = importlib.import_module(module)
    for part in filter(None, attributes.split(".")):
        found = getattr(found, part)
    return found


def main(kind, out, name, paths, *arguments):
    with tempfile.TemporaryDirectory() as made:
        # setuptools leaves build/ and *.egg-info beside the sources and puts what it finds there into the next wheel,
        # modules deleted since too; so they go to a folder of their own. Other backends do not read the file.
        config = os.path.join(made, "setup.cfg")
        with open(config, "w") as file:
            file.write(f"[build]\nbuild_base = {made}/build\n[egg_info]\negg_base = {made}\n")
        os.environ["DIST_EXTRA_CONFIG"] = config
        leftover = not os.path.exists(".pdm-build")
        built = backend(name, paths) if name else None
        try:
            if kind == "site":
                return site(out, built, arguments)
            fresh = os.path.join(made, "out")
            os.makedirs(fresh)
            file = getattr(built, f"build_{kind}")(fresh)
            os.makedirs(out, exist_ok=True)
            pack = {"wheel": wheel, "sdist": sdist}[kind]
            return pack(os.path.join(fresh, file), os.path.join(out, file), *arguments)
        finally:
            if leftover:
                shutil.rmtree(".pdm-build", ignore_errors=True)


main(*sys.argv[1:])
"""
