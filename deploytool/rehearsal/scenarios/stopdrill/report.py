"""The drill's table: rungs and times, a row a host, for people and as it is kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def row_text(row: Mapping[str, Any]) -> str:
    """One host: where its ladder ended, when, by which rungs, and its last child order."""
    rungs = ", ".join(
        f"{step['rung']} {step['event']} {step['at_s']:.2f} s" for step in row["steps"]
    )
    return f"{row['host']}: {row['end']} {row['at_s']:.2f} s after the key ({rungs}); {last(row)}"


def last(row: Mapping[str, Any]) -> str:
    """When the witness saw the host's last child order."""
    seconds = row["last_child_s"]
    if seconds is None:
        why = f": {row['silence']}" if row.get("silence") else ""
        return "no child order of it was seen" if row["silent"] else f"silence not seen{why}"
    side = "after" if seconds >= 0 else "before"
    why = f" ({row['silence']})" if row.get("silence") else ""
    unsure = "" if row["silent"] else f", and perhaps not its last{why}"
    return f"last child order {abs(seconds) * 1000:.0f} ms {side} the key{unsure}"


def ends(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Where each host's ladder ended."""
    return {host: str(row["end"]) for host, row in rows.items()}
