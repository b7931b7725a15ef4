"""Zipapps that are made on the fly."""

from __future__ import annotations

import hashlib
import importlib._bootstrap_external as external
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from deploytool.registry.model import MEANING_KEYS, entries_of, table_digest
from deploytool.registry.source import parse_registry
from deploytool.release.model import FlagTable, Manifest

SHEBANG = b"#!/usr/bin/env python3\n"


def table(registry: str) -> FlagTable:
    """The flag table that a build of this registry carries."""
    written = parse_registry(registry, "flags.yaml")
    said: list[dict[str, Any]] = []
    for flag, entry in zip(
        (*written.registry.flags, *written.registry.reserved), written.entries, strict=True
    ):
        state = "reserved" if entry.reserved else "active"
        plain = json.loads(flag.model_dump_json())
        said.append({**plain, "state": state, "digest": entry.digest})
    assert all(set(MEANING_KEYS) <= set(row) or row["state"] == "reserved" for row in said[:1])
    found = FlagTable(table=table_digest(written.entries), wire="0" * 64, entries=tuple(said))
    assert len(entries_of(found, "made")) == len(said)
    return found


def zipapp(members: dict[str, str | bytes]) -> bytes:
    """A file that Python runs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return SHEBANG + buffer.getvalue()


def compiled(source: str) -> bytes:
    """What Python keeps of a module that it compiled."""
    code = compile(source, "module", "exec")
    return bytes(external._code_to_timestamp_pyc(code, 0, 0))  # type: ignore[attr-defined]


def manifest(content: bytes, flags: FlagTable | None, version: str = "1") -> Manifest:
    """A manifest that is true of these bytes."""
    return Manifest(
        name="router",
        version=version,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        version_line=f"router {version}",
        flags=flags,
    )


def put(folder: Path, content: bytes, name: str = "router") -> Path:
    """The artifact as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    path.chmod(0o755)
    return path
