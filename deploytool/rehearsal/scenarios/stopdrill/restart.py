"""Lets a stopped fleet trade again, as two people do: one asks, another one signs."""

from __future__ import annotations

import shutil
from pathlib import Path

from deploytool.fleet.signing import sign
from deploytool.rehearsal.fleets import files
from deploytool.rehearsal.scenarios.stopdrill.environment import Said, Setting

_NAMESPACE = "start.deploytool"


def start_again(here: Setting) -> tuple[Said, Said]:
    """How the start ended when the one who asks signed it, and when a second person did."""
    requests = here.folder / "requests"
    shutil.rmtree(requests, ignore_errors=True)
    words = ("--all", "--reason", "drill", "--by", files.SIGNER, "--out", str(requests))
    asked = here.run("start", *words)
    if asked.code != 0:
        return asked, asked
    _sign(requests, here.folder / files.SIGNER_IDENTITY)
    alone = here.run("start", "--request", str(requests))
    _sign(requests, here.folder / files.SECOND_IDENTITY)
    return alone, here.run("start", "--request", str(requests))


def _sign(requests: Path, key: Path) -> None:
    for request in sorted(requests.glob("*.request")):
        signature = sign(request.read_bytes(), key, _NAMESPACE)
        Path(f"{request}.sig").write_text(signature, encoding="ascii")
