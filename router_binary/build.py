#!/usr/bin/env python3
"""Build one router: `build.py VERSION --out DIR [--source DIR] [--json]`.

The same sources give the same bytes on any machine, in any folder, time zone, user,
umask, at any time: names are sorted, times fixed, nothing is compressed. The file
carries a digest of its sources, not the git revision, so a commit that changes
something else doesn't change the release; `buildinfo.json` ties the two together.
"""

import argparse
import ast
import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
SHEBANG = b"#!/usr/bin/env -S python3 -IS\n"
EPOCH = (1980, 1, 1, 0, 0, 0)
RECIPE_KEYS = frozenset(
    ["version", "registry", "rehearsal_only", "strategies", "modules", "replace"]
)


class BuildError(Exception):
    """The build can't be made; nothing was written."""


def _load(path: Path, name: str) -> ModuleType:
    """Run one module of the source tree that is built, not of ours."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BuildError(f"can't load {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def source_folder(given: Path | None) -> Path:
    """Find the folder with `builds/` in it: given itself, or the checkout around it."""
    if given is None:
        return HERE
    for folder in (given / "router_binary", given):
        if (folder / "builds").is_dir():
            return folder.resolve()
    raise BuildError(f"{given}: no router sources there (expected a folder `builds`)")


def read_recipe(source: Path, version: str, registry: ModuleType) -> tuple[Path, dict[str, Any]]:
    """Find `builds/VERSION.yaml`, today's or history's."""
    homes = (source, source / "history")
    for home in homes:
        path = home / "builds" / f"{version}.yaml"
        if path.is_file():
            recipe = registry.read_yaml(path)
            if set(recipe) != RECIPE_KEYS or recipe["version"] != version:
                raise BuildError(f"{path}: keys must be {sorted(RECIPE_KEYS)}, version {version!r}")
            return home, recipe
    known = sorted(p.stem for home in homes for p in (home / "builds").glob("[0-9]*.yaml"))
    raise BuildError(f"no build {version!r}; there are: {', '.join(known)}")


def collect(source: Path, home: Path, recipe: dict[str, Any]) -> dict[str, bytes]:
    """Read the chosen modules as `name in the file -> bytes`."""
    files = {
        "__main__.py": (source / "boot" / "__main__.py").read_bytes(),
        "router/__init__.py": (source / "router" / "__init__.py").read_bytes(),
    }
    for module in recipe["modules"]:
        files[f"router/{module}.py"] = (source / "router" / f"{module}.py").read_bytes()
    for module, path in recipe["replace"].items():
        files[f"router/{module}.py"] = (home / path).read_bytes()
    _check_complete(files)
    return files


def _check_complete(files: dict[str, bytes]) -> None:
    """Fail here where a module that is imported wasn't chosen; else it fails on the host."""
    for name, text in files.items():
        for node in ast.walk(ast.parse(text, name)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("router"):
                base = node.module or ""
                wanted = [base] if "." in base else [f"{base}.{a.name}" for a in node.names]
                missing = [w for w in wanted if f"{w.replace('.', '/')}.py" not in files]
                if missing:
                    raise BuildError(f"{name} imports {missing}, which the build doesn't have")


def check_handlers(files: dict[str, bytes], flags: dict[str, Any]) -> None:
    """Each flag's handler must be in the file: a meaning without code is a lie."""
    for entry in flags["entries"]:
        if entry["state"] != "active":
            continue
        module, _, attribute = entry["handler"].partition(":")
        tree = ast.parse(files.get(f"{module.replace('.', '/')}.py", b""))
        if attribute not in {getattr(node, "name", None) for node in tree.body}:
            raise BuildError(f"flag {entry['name']}: no {entry['handler']} in this build")


def pack(files: dict[str, bytes]) -> bytes:
    """Make a zipapp whose bytes depend on its contents only."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o100444 << 16
            archive.writestr(entry, files[name])
    return SHEBANG + buffer.getvalue()


def git_state(source: Path) -> tuple[str | None, bool | None]:
    """Revision, and whether the sources are what it says; nulls outside git."""
    try:
        # An installed source may lie in a folder of somebody else's repository.
        _git(source, "ls-files", "--error-unmatch", "registry.py")
        revision = _git(source, "rev-parse", "HEAD")
        changed = _git(source, "status", "--porcelain", "--ignored=no", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return revision, not changed


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout.strip()


def build(version: str, source: Path) -> tuple[bytes, dict[str, Any]]:
    """Give the artifact's bytes and its build info."""
    registry = _load(source / "registry.py", "router_registry")
    home, recipe = read_recipe(source, version, registry)
    flags = registry.load_table(home / recipe["registry"])
    files = collect(source, home, recipe)
    check_handlers(files, flags)
    flags["wire"] = _load(source / "router" / "wire.py", "router_wire").DIGEST
    inside = {
        "name": "router",
        "version": version,
        "version_line": f"router {version}",
        "rehearsal_only": recipe["rehearsal_only"],
        "strategies": recipe["strategies"],
        "modules": sorted(name[:-3].replace("/", ".") for name in files),
        "flags": flags,
    }
    hashes = {name: hashlib.sha256(text).hexdigest() for name, text in files.items()}
    inside["source"] = "sha256:" + registry.digest([inside, hashes])
    files["build.json"] = registry.canonical(inside) + b"\n"
    data = pack(files)
    revision, clean = git_state(source)
    outside = {key: inside[key] for key in sorted(inside) if key != "strategies"}
    return data, outside | {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "requires": ["python3", "ssh-keygen"],
        "revision": revision,
        "clean": clean,
    }


def write(path: Path, data: bytes, mode: int) -> None:
    """Replace a file in one step, whatever the umask."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def main() -> int:
    """Build, write both files, say what was made."""
    parser = argparse.ArgumentParser(description="Build one router, reproducibly.")
    parser.add_argument("version", help="name of a file in builds/, without .yaml")
    parser.add_argument("--out", type=Path, required=True, help="folder for router, buildinfo.json")
    parser.add_argument("--source", type=Path, help="checkout to build from (default: this one)")
    parser.add_argument("--json", action="store_true", help="print the build info")
    options = parser.parse_args()
    sys.dont_write_bytecode = True
    try:
        data, info = build(options.version, source_folder(options.source))
        options.out.mkdir(parents=True, exist_ok=True)
        write(options.out / "router", data, 0o755)
        text = json.dumps(info, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
        write(options.out / "buildinfo.json", text.encode("utf-8"), 0o644)
    except (BuildError, OSError, ValueError, KeyError, SyntaxError) as error:
        print(f"build.py: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(text, end="")
    else:
        print(f"router {options.version} {info['sha256']} {options.out / 'router'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
