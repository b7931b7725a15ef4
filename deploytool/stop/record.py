"""What a watch writes down for whoever has to do without it: renewals, the last sure picture."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploytool.stop.model import (
    Renewal,
)
from deploytool.stop.runtime_dir import candidates, owned
from deploytool.stop.witness import NOT_UNDERSTOOD


class WatchRecord:
    """One file, replaced as a whole, for this user alone. It must be there before it is needed."""

    def __init__(self, path: str, fleet: str) -> None:
        self._path = Path(path)
        self._fleet = fleet
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def write(
        self, renewals: Mapping[str, Renewal], pictures: Mapping[str, Mapping[str, object]]
    ) -> bool:
        """Whether it could be written. If not, the old one is taken away: it must not mislead.

        ``pictures`` as JSON: a stop reads the record too, and has no time for what a verdict
        imports.
        """
        document: dict[str, Any] = {
            "fleet": self._fleet,
            "boot": self._boot,
            "renewals": {host: asdict(one) for host, one in renewals.items()},
            "pictures": dict(pictures),
        }
        draft = self._path.with_suffix(".new")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(document).encode())
            draft.replace(self._path)
        except OSError:
            self.remove()
            return False
        return True

    def remove(self) -> None:
        """Takes it away."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def read_record(inventory: str) -> dict[str, Any]:
    """What a watch on this machine wrote down of its renewals; empty where nothing is of use.

    A record from before the last boot says nothing: this machine's clock may have been set since.
    """
    found: dict[str, Any] = {}
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        for path in reversed(candidates(inventory, ".json")):
            if owned(path):
                document = json.loads(Path(path).read_bytes())
                found |= document["renewals"] if document["boot"] == boot else {}
    except (OSError, *NOT_UNDERSTOOD):
        return {}
    return found
