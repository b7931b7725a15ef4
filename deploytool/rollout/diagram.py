"""Draws the rollout's table as a Mermaid diagram, for docs/rollout.md. Pure."""

from __future__ import annotations

from deploytool.rollout.model import State
from deploytool.rollout.rules import ENDS, FIRST, TABLE


def mermaid() -> str:
    """The whole table, a line a row, in the table's own order."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {step.state.name}: {purpose.value}" for purpose, step in FIRST.items()]
    lines += [
        f"    {state.name} --> {step.state.name}: {event.name}"
        for (state, event), step in TABLE.items()
    ]
    lines += [f"    {state.name} --> [*]" for state in State if state in ENDS]
    return "\n".join(lines) + "\n"
