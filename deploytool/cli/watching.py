"""What ``deploytool watch`` says, and what its end means."""

from __future__ import annotations

from datetime import datetime
from shlex import quote
from typing import Any

from deploytool.cli.output import say
from deploytool.errors import DeploytoolError, NotProven
from deploytool.watch.runner import WatchSummary


def told(line: str) -> None:
    """Says a line, with the time of day."""
    say(f"{datetime.now().astimezone():%H:%M:%S}  {line}")


def conclude(seen: WatchSummary, inventory: str) -> tuple[dict[str, Any], DeploytoolError | None]:
    """The document of a watch that has ended, and its error where it saw anything but good."""
    document = {
        "drifted": seen.drifted,
        "unknown": seen.unknown,
        "rounds": seen.rounds,
        "took_s": [round(seconds, 4) for seconds in seen.took_s],
        "pictures": {
            host: {"verdict": p.verdict.value, "release": p.release, "text": p.text, "at": p.at}
            for host, p in sorted(seen.pictures.items())
        },
    }
    bad = {**seen.unknown, **seen.drifted}
    if not bad and seen.rounds:
        return document, None
    return document, NotProven(
        f"Hosts that drifted: {len(seen.drifted)}; that are not known: {len(seen.unknown)}.",
        "Leases that this watch renewed are renewed no longer.",
        f"deploytool status -i {quote(inventory)}",
        tuple(f"{host}: {text}" for host, text in sorted(bad.items())),
    )
