"""The table of flags and hosts, for people and for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploytool.arming.checks import SenderObservation
from deploytool.arming.model import NOT_RUNNING, ON
from deploytool.arming.status import DIFFERS, UNKNOWN, Cell, FlagRow
from deploytool.cli.output import clean, colour, put, say, wants_json
from deploytool.errors import HostFault
from deploytool.parity.model import Evidence

_STYLES = {
    "armed": "green",
    "provisional": "bold yellow",
    NOT_RUNNING: "bold yellow",
    UNKNOWN: "bold yellow",
    DIFFERS: "bold red",
}


def _since(cell: Cell) -> str:
    """When it was armed, by the host's clock, as people read it."""
    if cell.since is None or cell.state not in ON:
        return ""
    return time.strftime("%m-%d %H:%M:%SZ", time.gmtime(cell.since))


def show(
    rows: tuple[FlagRow, ...], hosts: tuple[str, ...], senders: SenderObservation | HostFault
) -> None:
    """Prints it: a row a flag, a column a host, the senders beside."""
    stream = sys.stderr if wants_json() else sys.stdout
    width = None if stream.isatty() else max(120, 34 + 18 * len(hosts))
    console = Console(file=stream, no_color=not colour(stream), width=width, highlight=False)
    table = Table(box=None, pad_edge=False)
    for name in ("flag", "bit", *hosts, "senders", "epoch", "since"):
        table.add_column(name, overflow="fold", no_wrap=name in {"flag", "bit", "epoch"})
    for row in rows:
        armed = [cell for cell in row.cells.values() if cell.state in ON]
        epochs = sorted({str(cell.epoch) for cell in armed})
        sinces = sorted({_since(cell) for cell in armed} - {""})
        cells = [Text(clean(c.state), _STYLES.get(c.state, "")) for c in row.cells.values()]
        used = [_used(row.bit, senders), ", ".join(epochs) or "-", sinces[0] if sinces else "-"]
        table.add_row(Text(clean(row.name)), str(row.bit), *cells, *used)
    try:
        console.print(table)
    except BrokenPipeError:
        put("", stream)
    if not rows:
        say("No build on any host that answered has a flag.")


def _used(bit: int, senders: SenderObservation | HostFault) -> str:
    if isinstance(senders, HostFault):
        return "unknown"
    return "use it" if bit in senders.bits else "don't"


def lines(
    rows: tuple[FlagRow, ...],
    seen: Mapping[str, Evidence | HostFault],
    senders: SenderObservation | HostFault,
) -> tuple[str, ...]:
    """A line for everything that is not the same everywhere, or not known; none where all is."""
    found = [f"{host}: {item}" for host, item in seen.items() if isinstance(item, HostFault)]
    here = [host for host, item in seen.items() if isinstance(item, Evidence) and not item.idle]
    found += [
        f"{host}: nothing runs there, and nothing obeys a flag there"
        for host, item in seen.items()
        if isinstance(item, Evidence) and item.idle
    ]
    for row in rows:
        if not row.alike(here):
            cells = {host: row.cells[host] for host in here}
            found += [
                f"{host}: {row.name}: {cell.state}{f': {cell.why}' if cell.why else ''}"
                for host, cell in cells.items()
            ]
        runtime = row.activation == "runtime"
        on = any(cell.state in ON for cell in row.cells.values())
        if (
            runtime
            and isinstance(senders, SenderObservation)
            and row.bit in senders.bits
            and not on
        ):
            found.append(f"senders: they use bit {row.bit} ({row.name}), which is off everywhere")
        if runtime and on and isinstance(senders, HostFault):
            found.append(f"senders: what they do is not known: {senders}")
    return tuple(dict.fromkeys(found))


def document(rows: tuple[FlagRow, ...], senders: SenderObservation | HostFault) -> dict[str, Any]:
    """The same for programs."""
    known = isinstance(senders, SenderObservation)
    return {
        "flags": [
            {
                "name": row.name,
                "bit": row.bit,
                "activation": row.activation,
                "same": row.same,
                "senders_use_it": row.bit in senders.bits
                if isinstance(senders, SenderObservation)
                else None,
                "hosts": {
                    host: {"state": c.state, "epoch": c.epoch, "since": c.since, "why": c.why}
                    for host, c in row.cells.items()
                },
            }
            for row in rows
        ],
        "senders": "observed" if known else str(senders),
    }
