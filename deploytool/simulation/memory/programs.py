"""Artifacts for computers in memory: bytes that say what they do when they are run.

What a real one has to offer is in docs/contract.md.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Literal, Protocol

MAGIC = b"#!simulated\n"


@dataclass(frozen=True)
class Program:
    """What an artifact's bytes do. ``flags``: what it says of its flags, and nothing else.

    ``how``: whether the kernel executes it, or an interpreter that keeps its file open does, or one
    that read the file and closed it (``read``).
    """

    name: str
    version: str
    version_line: str
    how: Literal["exe", "fd", "read"] = "fd"
    flag_table: str | None = None
    wire: str | None = None
    table: str | None = None
    """The flags that it has, as whoever gives it some reads them (``Service.flags_of``)."""

    @staticmethod
    @functools.lru_cache(maxsize=256)
    def load(content: bytes) -> Program | None:
        """The program in these bytes; None where no computer could run them."""
        head, _, rest = content.partition(b"\n")
        if head + b"\n" != MAGIC:
            return None
        try:
            return Program(**json.loads(rest.partition(b"\n")[0]))
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Build:
    """An artifact and its manifest, as bytes."""

    program: Program
    artifact: bytes
    manifest: bytes

    @property
    def release(self) -> str:
        """The digest that it is known by."""
        return hashlib.sha256(self.artifact).hexdigest()

    @property
    def label(self) -> str:
        """The manifest's digest."""
        return hashlib.sha256(self.manifest).hexdigest()


def build(
    version: str,
    *,
    name: str = "router",
    padding: int = 256,
    how: Literal["exe", "fd", "read"] = "fd",
) -> Build:
    """A build; the same arguments give the same bytes."""
    program = Program(name, version, f"{name} {version}", how)
    said = {"name": name, "version": version, "version_line": f"{name} {version}", "how": how}
    artifact = MAGIC + json.dumps(said).encode() + b"\n" + b"." * padding
    manifest = {
        "format": 1,
        "name": name,
        "sha256": hashlib.sha256(artifact).hexdigest(),
        "size": len(artifact),
        "version": version,
        "version_line": program.version_line,
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")) + "\n"
    return Build(program, artifact, text.encode())


class Flags(Protocol):
    """What the flags of one process do; the certificates are another room's business."""

    def answer(self, words: tuple[str, ...], given: bytes) -> tuple[int, str, str]:
        """Exit code, standard output and errors of ``flag STEP [FLAG]``."""

    epoch: int
    """The newest epoch that was ever accepted on this host."""

    def armed(self) -> list[str]:
        """The flags that are obeyed now."""
