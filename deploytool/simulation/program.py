"""Artifacts for simulated fleets, with the flags of a manifest."""

from __future__ import annotations

import hashlib
import json

from deploytool.release.model import FlagTable, Manifest
from deploytool.simulation.memory.programs import MAGIC


def build(
    version: str, *, name: str = "router", padding: int = 256, flags: FlagTable | None = None
) -> tuple[Manifest, bytes]:
    """An artifact and its manifest; the same arguments give the same bytes."""
    line = f"{name} {version}"
    said: dict[str, object] = {"name": name, "version": version, "version_line": line}
    if flags is not None:
        said |= {"flag_table": flags.table, "wire": flags.wire, "table": flags.model_dump_json()}
    content = MAGIC + json.dumps(said).encode() + b"\n" + b"." * padding
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
