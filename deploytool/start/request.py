"""A request to start a host again: its one spelling, and how it is signed. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from shlex import quote

NAMESPACE = "start.deploytool"
NO_STOP = "none"
"""The stop that a request names for a host which nobody stopped: its router halted by itself."""
LIFETIME_S = 3600
CLOCK_SKEW_S = 30
BYTES_AT_MOST = 48 * 1024


@dataclass(frozen=True)
class StartRequest:
    """Who asks to start which host of which fleet, why, and which latch that releases.

    ``latch`` is the artifact's own where it has one. It may keep that through a second stop; so
    ``stop`` names the stop that the host showed. ``issued`` and ``expires`` in seconds since the
    epoch.
    """

    by: str
    host: str
    fleet: str
    latch: str
    reason: str
    issued: int
    expires: int
    stop: str

    def canonical(self) -> bytes:
        """The bytes that are signed: canonical JSON, one line."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode("utf-8") + b"\n"

    @staticmethod
    def parse(content: bytes) -> StartRequest:
        """A request from the bytes that were signed.

        Raises:
            ValueError: it is none, or not in its one spelling, or is good for too long.
        """
        said = json.loads(content)
        if not isinstance(said, dict) or set(said) != set(StartRequest.__annotations__):
            raise ValueError("it has not exactly the members of a request")
        for key, value in said.items():
            if key in {"issued", "expires"}:
                fits = type(value) is int
            else:
                fits = isinstance(value, str) and 0 < len(value) <= 1000
            if not fits:
                raise ValueError(f"{key} is not what a request has there")
        found = StartRequest(**said)
        if found.canonical() != content:
            raise ValueError("it is not in canonical form (sorted keys, no blanks, one line)")
        if not 0 < found.expires - found.issued <= LIFETIME_S:
            raise ValueError(f"it must expire after it was issued, within {LIFETIME_S} s")
        return found


def signing(files: tuple[str, ...]) -> str:
    """The command with which the second person signs."""
    return f"ssh-keygen -Y sign -n {NAMESPACE} -f KEY {' '.join(map(quote, files))}"
