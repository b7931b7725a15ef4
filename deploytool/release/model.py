"""The manifest of a release, as docs/contract.md section 2 says. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from deploytool.fleet.fields import Line, Name
from deploytool.fleet.model import Digest

Hex64 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Program = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9@._+-]{1,64}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}$")]


NO_RELEASE = "0" * 64
"""Stands for the digest of a release that not even its digest is known of."""
KNOWN_AT_MOST = 512
"""So many releases a request names at most; a host remembers those that it was asked for."""


class FlagTable(BaseModel):
    """The artifact's flags: digest of the table, digest of the wire format, the entries."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, defer_build=True)

    table: Hex64
    wire: Hex64
    entries: tuple[dict[str, object], ...] = ()


class Manifest(BaseModel):
    """What a release says of itself. Unknown members are mistakes, so that nothing hides in one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    name: Name
    version: Version
    sha256: Hex64
    size: Annotated[int, Field(ge=1, le=8 * 1024**3)]
    version_line: Annotated[Line, StringConstraints(pattern=r'^[^"\\]*$')]
    requires: Annotated[tuple[Program, ...], Field(max_length=32)] = ()
    revision: Line | None = None
    clean: bool | None = None
    modules: tuple[Line, ...] = ()
    flags: FlagTable | None = None
    rehearsal_only: bool = False

    @property
    def label(self) -> str:
        """How a person calls it: ``router 2026.1 (1f3a9c24)``; what is not known is left out."""
        digest = "" if self.sha256 == NO_RELEASE else f"({self.sha256[:8]})"
        return " ".join(filter(None, (self.name, self.version, digest)))

    @staticmethod
    def bare(name: str, release: str) -> Manifest:
        """What stands for a release that only its digest is known of; nothing matches it."""
        return Manifest.model_construct(
            name=name, version="", sha256=release, size=1, version_line="unknown"
        )

    def canonical(self) -> bytes:
        """The one spelling of this manifest in bytes: what a host holds, and what is digested."""
        value = self.model_dump(mode="json", by_alias=True)
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return (text + "\n").encode("utf-8")

    def digest(self) -> Digest:
        """SHA-256 of the canonical bytes."""
        return Digest(hashlib.sha256(self.canonical()).hexdigest())

    @staticmethod
    def parse(text: bytes) -> Manifest:
        """A manifest from its bytes.

        Raises:
            ValueError: it is not valid, or not in its canonical spelling.
        """
        manifest = Manifest.model_validate_json(text)
        if manifest.canonical() != text:
            raise ValueError("it is not in canonical form (sorted keys, no blanks, one line)")
        return manifest

    @staticmethod
    def of(text: bytes | None, release: str | None) -> Manifest | None:
        """A manifest from its bytes, where it can be read and speaks of that release."""
        if text is None:
            return None
        try:
            manifest = Manifest.parse(text)
        except ValueError:
            return None
        return manifest if manifest.sha256 == release else None


@dataclass(frozen=True)
class Release:
    """A manifest with the path of the artifact that it was found true of."""

    manifest: Manifest
    artifact: str

    @property
    def digest(self) -> Digest:
        """The release's identity."""
        return Digest(self.manifest.sha256)

    @property
    def label(self) -> str:
        """How a person calls it."""
        return self.manifest.label
