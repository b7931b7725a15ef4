"""Artifacts for simulated hosts: bytes that say what they do when they are run."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass

from deploytool.release.model import FlagTable, Manifest

_MAGIC = b"#!simulated\n"


@dataclass(frozen=True)
class Program:
    """What an artifact's bytes do when a simulated machine runs them."""

    name: str
    version: str
    version_line: str
    flags: FlagTable | None = None

    @staticmethod
    @functools.lru_cache(maxsize=64)
    def load(content: bytes) -> Program | None:
        """The program in these bytes; None where no machine could run them."""
        head, _, rest = content.partition(b"\n")
        if head + b"\n" != _MAGIC:
            return None
        try:
            said = json.loads(rest.partition(b"\n")[0])
            flags = said.get("flags")
            table = FlagTable.model_validate_json(json.dumps(flags)) if flags else None
            return Program(said["name"], said["version"], said["version_line"], table)
        except (ValueError, KeyError, TypeError):
            return None


def build(
    version: str, *, name: str = "router", padding: int = 256, flags: FlagTable | None = None
) -> tuple[Manifest, bytes]:
    """An artifact and its manifest; the same arguments give the same bytes."""
    line = f"{name} {version}"
    said: dict[str, object] = {"name": name, "version": version, "version_line": line}
    if flags is not None:
        said["flags"] = flags.model_dump(mode="json")
    content = _MAGIC + json.dumps(said).encode() + b"\n" + b"." * padding
    digest = hashlib.sha256(content).hexdigest()
    manifest = Manifest(
        name=name,
        version=version,
        sha256=digest,
        size=len(content),
        version_line=line,
        flags=flags,
    )
    return manifest, content
