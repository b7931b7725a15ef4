"""What a watch writes down for whoever has to do without it: renewals, the last sure picture."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploytool.stop.model import (
    Renewal,
)
from deploytool.stop.runtime_dir import candidates, owned
from deploytool.stop.witness import NOT_UNDERSTOOD

TYPE_CHECKING = False  # a stop reads the record, and has no time for what a verdict imports
if TYPE_CHECKING:
    from deploytool.parity.model import Verdict


class WatchRecord:
    """One file, replaced as a whole, for this user alone. It must be there before it is needed."""

    def __init__(self, path: str, fleet: str) -> None:
        self._path = Path(path)
        self._fleet = fleet
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def write(self, renewals: Mapping[str, Renewal], pictures: Mapping[str, Picture]) -> bool:
        """Whether it could be written. If not, the old one is taken away: it must not mislead."""
        document: dict[str, Any] = {
            "fleet": self._fleet,
            "boot": self._boot,
            "renewals": {host: asdict(one) for host, one in renewals.items()},
            "pictures": {h: {**asdict(p), "verdict": p.verdict.value} for h, p in pictures.items()},
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


@dataclass(frozen=True)
class Picture:
    """The last that was surely seen of a host. ``at`` in seconds since the epoch."""

    verdict: Verdict
    release: str | None
    text: str
    at: float


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
