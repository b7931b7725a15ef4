"""Flags x hosts: which flag is what where, and whether it means the same. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deploytool.arming.model import NOT_RUNNING, ON, FlagState, Shown
from deploytool.errors import HostFault
from deploytool.parity.model import Evidence
from deploytool.registry.model import FlagEntry, entries_of
from deploytool.release.model import Manifest

UNKNOWN, DIFFERS, ABSENT = "unknown", "meaning differs", "not in its build"


@dataclass(frozen=True)
class Cell:
    """One flag on one host: its state, and why where that is not one of the process's own words."""

    state: str
    epoch: int = 0
    since: int | None = None
    why: str = ""


@dataclass(frozen=True)
class FlagRow:
    """One flag over the fleet. ``activation`` is what most builds say."""

    name: str
    bit: int
    activation: str
    cells: Mapping[str, Cell]

    @property
    def same(self) -> bool:
        """Whether it is the same everywhere, by one certificate where it is armed; and known."""
        return self.alike(self.cells)

    def alike(self, hosts: Iterable[str]) -> bool:
        """The same of some hosts; true of none."""
        cells = [self.cells[host] for host in hosts]
        states = {(cell.state, cell.epoch if cell.state in ON else 0) for cell in cells}
        return len(states) <= 1 and not {state for state, _ in states} & {UNKNOWN, DIFFERS}


def _table(evidence: Evidence) -> tuple[FlagEntry, ...] | str:
    """What the host's active build says of each bit; else why that is not known."""
    if evidence.manifest is None:
        return "its release has no manifest that was read"
    try:
        manifest = Manifest.parse(evidence.manifest)
        entries = entries_of(manifest.flags, "its build") if manifest.flags else ()
    except ValueError as error:
        return f"its manifest can't be read: {error}"
    table = manifest.flags.table if manifest.flags else None
    if (evidence.status or {}).get("flag_table") != table:
        return "its process says another flag table than its manifest"
    return tuple(entry for entry in entries if not entry.reserved)


def rows(
    seen: Mapping[str, Evidence | HostFault], shown: Mapping[str, Shown | HostFault]
) -> tuple[FlagRow, ...]:
    """A row for each flag that any host's build has, by its bit."""
    tables = {h: _table(e) if isinstance(e, Evidence) else str(e) for h, e in seen.items()}
    entries = [e for table in tables.values() if not isinstance(table, str) for e in table]
    found = []
    for name in dict.fromkeys(entry.name for entry in sorted(entries, key=lambda e: e.bit)):
        alike = Counter(e.digest for e in entries if e.name == name)
        usual = next(e for e in entries if e.digest == alike.most_common(1)[0][0])
        cells = {
            host: Cell(NOT_RUNNING)
            if isinstance(item, Evidence) and item.idle
            else _cell(usual, tables[host], shown[host])
            for host, item in seen.items()
        }
        found.append(FlagRow(name, usual.bit, usual.activation, cells))
    return tuple(found)


def remedy(
    table: tuple[FlagRow, ...], seen: Mapping[str, Evidence | HostFault], inventory: str
) -> tuple[str, str]:
    """What it means that flags are not the same everywhere, and what to do now.

    ``inventory`` as it is pasted.
    """
    again = f"deploytool flags status -i {inventory}"
    here = [host for host, item in seen.items() if isinstance(item, Evidence) and not item.idle]
    if odd := [r.name for r in table if r.activation == "runtime" and not r.alike(here)]:
        means = (
            "A flag that is armed here and off there is obeyed by some hosts only; those where it "
            "is off reject what is flagged."
        )
        return means, " && ".join(f"deploytool flags disarm {f} -i {inventory}" for f in odd)
    if dark := [host for host, item in seen.items() if isinstance(item, HostFault)]:
        why = f"See why {dark[0]} gives no answer (docs/runbook.md has what each means)"
        return f"What {', '.join(dark)} obeys is UNKNOWN.", f"{why}, then: {again}"
    if len(here) < len(seen):
        return (
            "Where nothing runs nothing is obeyed; what is started there has every flag off.",
            f"See what is to be done first: deploytool status -i {inventory}",
        )
    return "What the lines name is not known, or not meant.", f"Fix it, then: {again}"


def _cell(usual: FlagEntry, table: tuple[FlagEntry, ...] | str, shown: Shown | HostFault) -> Cell:
    if isinstance(table, str):
        return Cell(UNKNOWN, why=table)
    own = next((entry for entry in table if entry.name == usual.name), None)
    if own is None:
        return Cell(ABSENT)
    if own.digest != usual.digest:
        return Cell(DIFFERS, why=f"bit {own.bit}: {own.meaning}")
    if isinstance(shown, HostFault):
        return Cell(UNKNOWN, why=str(shown))
    state: FlagState | None = next((f for f in shown.flags if f.name == usual.name), None)
    if state is None or state.bit != own.bit:
        return Cell(UNKNOWN, why="its process does not show it as its build declares it")
    return Cell(state.state, state.epoch, state.since)
