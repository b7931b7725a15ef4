"""Registries as text, made of a few words."""

from __future__ import annotations


def flag(name: str, bit: int | str, **other: str | None) -> str:
    """An active flag in YAML; a value None leaves its key out."""
    values = {
        "meaning": f"Does {name.lower()}.",
        "handler": f"router.{name.lower()}:{name}",
        "since": '"2026.1"',
        "owner": "a desk",
        "activation": "always",
        "requires": "[]",
        **other,
    }
    lines = [f"    {key}: {value}\n" for key, value in values.items() if value is not None]
    return f"  - name: {name}\n    bit: {bit}\n{''.join(lines)}"


def runtime(name: str, bit: int, **other: str | None) -> str:
    """A flag that is armed and disarmed."""
    return flag(name, bit, **{"activation": "runtime", "requires": "[parity]", **other})


def reserved(name: str, bit: int | str, when: str = '"2012-08-01"') -> str:
    """A retired flag in YAML."""
    return f"  - bit: {bit}\n    name: {name}\n    why: It was retired.\n    when: {when}\n"


def registry(*entries: str) -> str:
    """A registry of these entries."""
    active = "".join(entry for entry in entries if entry.startswith("  - name"))
    old = "".join(entry for entry in entries if entry.startswith("  - bit"))
    return (
        "schema: 1\n"
        + (f"flags:\n{active}" if active else "flags: []\n")
        + (f"reserved:\n{old}" if old else "reserved: []\n")
    )


POWER_PEG = flag(
    "POWER_PEG",
    3,
    meaning="Keep trading at the far side of the market until the parent is filled.",
    handler="router.power_peg:PowerPeg",
)
RLP = flag(
    "RLP",
    3,
    meaning="Offer the parent to the exchange's retail liquidity programme first.",
    handler="router.rlp:RetailLiquidityProgram",
)
BEFORE = registry(flag("HIDDEN", 0), POWER_PEG)
"""What the eighth server read."""
INCIDENT = registry(flag("HIDDEN", 0), RLP)
"""The incident's own change: the bit of a flag that was still in an old build, given away."""
