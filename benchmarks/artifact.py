"""The artifact that is deployed: a real service by docs/contract.md, of any size.

A zipapp whose payload can't be compressed, so that no tool gains by trying.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

_SERVICE = Path(__file__).with_name("service.py")
_SHEBANG = b"#!/usr/bin/env -S python3 -I\n"


@dataclass(frozen=True)
class Artifact:
    """An executable file, and the line that it says its version with."""

    path: Path
    version: str

    @property
    def version_line(self) -> str:
        """The first line that it prints for ``--version``."""
        return f"payload {self.version}"


def make(folder: Path, version: str, size: int) -> Artifact:
    """Makes an executable of exactly ``size`` bytes that no other call ever made."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"router-{version}"
    source = _SERVICE.read_text().replace("@VERSION@", version)
    bare = _write(path, source, b"")
    if _write(path, source, os.urandom(size - bare)) != size:
        raise RuntimeError(f"{path} has {path.stat().st_size} bytes, not {size}")
    path.chmod(0o755)
    return Artifact(path, version)


def _write(path: Path, source: str, payload: bytes) -> int:
    with path.open("wb") as stream:
        stream.write(_SHEBANG)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("__main__.py", source)
            archive.writestr("payload", payload)
    return path.stat().st_size
