"""The first code of the router: take the release into memory, then run only that.

The file is resolved, opened and read once. Its SHA-256 is taken of those bytes and
every module is imported from them, so a link that is switched later brings nothing
into this process. The descriptor stays open: it shows the kernel what runs here.

A client asks one question and is gone, on a host that has other work to do. So it imports next
to nothing: half of what it costs would be modules of the standard library.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import os
import sys
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from collections.abc import Sequence

MAX_BYTES = 16 * 1024 * 1024


class FromBytes:
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
        return importlib.machinery.ModuleSpec(
            fullname, self, origin=origin, is_package=fullname == "router"
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Leave that to Python."""

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


def members(data: bytes) -> dict[str, bytes]:
    """Give what is in a zipapp whose members are stored as they are, as the builder packs it."""

    def number(at: int, width: int = 4) -> int:
        return int.from_bytes(data[at : at + width], "little")

    end = data.rindex(b"PK\5\6")
    before = end - number(end + 12) - number(end + 16)  # the line that names the interpreter
    at, found = before + number(end + 16), {}
    for _ in range(number(end + 10, 2)):
        local = before + number(at + 42)
        start = local + 30 + number(local + 26, 2) + number(local + 28, 2)
        content = data[start : start + number(at + 24)]
        packed = data[at : at + 4] != b"PK\1\2" or number(at + 10, 2) != 0
        if packed or zlib.crc32(content) != number(at + 16):
            raise SystemExit("router: this file is damaged, or no router")
        name = at + 46
        at = name + number(at + 28, 2)
        found[data[name:at].decode("utf-8")] = content
        at += number(name - 16, 2) + number(name - 14, 2)
    return found


def start(running: types.CodeType) -> int:
    """Load everything from one read of one file, and hand over."""
    path = os.path.realpath(sys.path.pop(0))
    descriptor, data = read_once(path)
    texts = {name: text.decode("utf-8") for name, text in members(data).items()}
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
    serving = sys.argv[1:2] == ["serve"]
    sha256 = ""
    if serving:
        import hashlib

        sha256 = hashlib.sha256(data).hexdigest()
    sys.meta_path.insert(0, FromBytes(sources, f"<router {sha256[:12] or info['version']}>"))
    for cached in [entry for entry in sys.path_importer_cache if entry.startswith(path)]:
        del sys.path_importer_cache[cached]
    # What serves has every module before it listens; a client asks a question and is gone.
    if serving:
        for name in sorted(sources):
            importlib.import_module(name)
    release = importlib.import_module("router.release").Release(
        sha256=sha256, path=path, descriptor=descriptor, info=info
    )
    return int(importlib.import_module("router.cli").main(sys.argv[1:], release))


if __name__ == "__main__":
    raise SystemExit(start(sys._getframe().f_code))
