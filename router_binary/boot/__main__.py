"""The first code of the router: take the release into memory, then run only that.

The file is resolved, opened and read once. Its SHA-256 is taken of those bytes and
every module is imported from them, so a link that is switched later brings nothing
into this process. The descriptor stays open: it shows the kernel what runs here.
"""

import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import sys
import types
import zipfile
from collections.abc import Sequence

MAX_BYTES = 16 * 1024 * 1024


class FromBytes(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Import the package `router` from sources held in memory, and from nowhere else."""

    def __init__(self, sources: dict[str, str], origin: str) -> None:
        self._sources = sources
        self._origin = origin

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the interface's
        target: types.ModuleType | None = None,  # noqa: ARG002 - the interface's
    ) -> importlib.machinery.ModuleSpec | None:
        """Own the whole package: a module that isn't in the file can't be imported."""
        if fullname.partition(".")[0] != "router":
            return None
        if fullname not in self._sources:
            raise ModuleNotFoundError(f"{fullname} is not in this release", name=fullname)
        origin = f"{self._origin}/{fullname.replace('.', '/')}.py"
        return importlib.util.spec_from_loader(
            fullname, self, origin=origin, is_package=fullname == "router"
        )

    def is_package(self, fullname: str) -> bool:
        """Only the root is one."""
        return fullname == "router"

    def get_source(self, fullname: str) -> str:
        """Also read by tracebacks."""
        return self._sources[fullname]

    def exec_module(self, module: types.ModuleType) -> None:
        """Compile from memory and run."""
        spec = module.__spec__
        origin = spec.origin if spec is not None and spec.origin else self._origin
        code = compile(self._sources[module.__name__], origin, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - this is what an importer does


def read_once(path: str) -> tuple[int, bytes]:
    """Open and read the release; the descriptor is left open on purpose."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    data = bytearray()
    while len(data) <= MAX_BYTES:
        piece = os.read(descriptor, 1 << 20)
        if not piece:
            return descriptor, bytes(data)
        data += piece
    raise SystemExit(f"router: {path} is larger than {MAX_BYTES} bytes: not a router")


def start(running: types.CodeType) -> int:
    """Load everything from one read of one file, and hand over."""
    path = os.path.realpath(sys.path.pop(0))
    descriptor, data = read_once(path)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        texts = {name: archive.read(name).decode("utf-8") for name in archive.namelist()}
    # Python itself read this first page of code through the link: it may be another build's.
    if compile(texts["__main__.py"], "", "exec", dont_inherit=True) != running:
        raise SystemExit("router: the release was switched while this process started; try again")
    info = json.loads(texts["build.json"])
    if sys.argv[1:] == ["--version"]:
        print(info["version_line"])
        return 0
    sources = {
        name[:-3].replace("/", ".").removesuffix(".__init__"): text
        for name, text in texts.items()
        if name.startswith("router/")
    }
    sha256 = hashlib.sha256(data).hexdigest()
    sys.meta_path.insert(0, FromBytes(sources, f"<router {sha256[:12]}>"))
    for cached in [entry for entry in sys.path_importer_cache if entry.startswith(path)]:
        del sys.path_importer_cache[cached]
    # What serves has every module before it listens; a client asks a question and is gone.
    if sys.argv[1:2] == ["serve"]:
        for name in sorted(sources):
            importlib.import_module(name)
    release = importlib.import_module("router.release").Release(
        sha256=sha256, path=path, descriptor=descriptor, info=info
    )
    return int(importlib.import_module("router.cli").main(sys.argv[1:], release))


if __name__ == "__main__":
    raise SystemExit(start(sys._getframe().f_code))
