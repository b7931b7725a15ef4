"""A router that hears nobody: no halt, no status, no SIGTERM. It trades all the same.

It is today's router with one line changed: its loop never looks at what is urgent, which is the
control socket and the pipe that signals come through. Only killing it ends it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from deploytool.errors import InputError
from deploytool.release.build import build
from deploytool.release.model import Release

VERSION = "2026.1"
_HEARS = "for fd, events in self._urgent.poll(0, BATCH):"
_DEAF = "for fd, events in []:"
_REAL = "rehearsal_only: false"
_ONLY_HERE = "rehearsal_only: true"


def build_deaf(store: Path, source: Path) -> Release:
    """Builds it from a copy of the router's source; it is marked as one for rehearsals only.

    Raises:
        InputError: the source isn't what it was when this was written.
    """
    with tempfile.TemporaryDirectory(prefix="deaf-") as folder:
        copy = Path(folder) / "source"
        shutil.copytree(source, copy)
        _change(copy / "router" / "loop.py", _HEARS, _DEAF)
        _change(copy / "builds" / f"{VERSION}.yaml", _REAL, _ONLY_HERE)
        return build(store, copy, VERSION)


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise InputError(
            f"{path.name} of the router has no single {old!r}.",
            "The drill's deaf router can't be built; no fleet was touched.",
            "Change deploytool/rehearsal/scenarios/stopdrill/ignores_signals.py along with the "
            "router's loop.",
        )
    path.write_text(text.replace(old, new), encoding="utf-8")
