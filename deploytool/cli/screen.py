"""How a rollout looks while it goes on: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from enum import Enum
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploytool.cli.output import clean, colour, put, wants_json
from deploytool.fleet.protocol import one_line
from deploytool.parity.host_notices import halt_notices, notices
from deploytool.parity.model import Finding, Parity, Round, Verdict
from deploytool.parity.rules import TRADES_ON, first_trouble, short
from deploytool.rollout.model import State

_NOTES_SHOWN = 10
_STYLES = {Verdict.MATCH: "green", Verdict.MISMATCH: "bold red", Verdict.UNKNOWN: "bold yellow"}


def _stream() -> TextIO:
    return sys.stderr if wants_json() else sys.stdout


class PlainScreen:
    """A line for each thing that happens, with the seconds since the beginning."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _say(self, text: str) -> None:
        put(f"{time.monotonic() - self._began:6.1f}s  {one_line(text)}", _stream())

    def state(self, state: Enum, hosts: tuple[str, ...]) -> None:
        """Says what is done now, and where."""
        self._say(f"{state.value}: {', '.join(hosts) if hosts else 'nothing to do'}")

    def host(self, host: str, text: str, *, good: bool | None) -> None:
        """Says what one host reached."""
        self._say(f"  {host}: {'FAILED: ' if good is False else ''}{text}")


class LiveScreen:
    """One row a host, stage by stage; what went wrong stands below, where there is room for it."""

    _COLUMNS = ("seen", "locked", "staged", "activated", "verified", "unlocked")

    def __init__(self, hosts: tuple[str, ...], title: str) -> None:
        self._hosts = hosts
        self._title = title
        self._reached: dict[str, set[str]] = {host: set() for host in hosts}
        self._trouble: dict[str, str] = {}
        self._state = ""
        self._began = time.monotonic()
        console = Console(file=_stream(), no_color=not colour(_stream()))
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.refresh()
        self._live.stop()

    def state(self, state: State, hosts: tuple[str, ...]) -> None:
        """Shows what is done now."""
        self._state = f"{state.value} ({len(hosts)} of {len(self._hosts)} hosts)"
        if state is State.REVERTING:
            for host in hosts:  # from here on these are said of the old release
                self._reached[host] -= {"activated", "verified"}
        if state is State.STAGING:
            for host in self._hosts:
                if host not in hosts:
                    self._reached[host].add("staged")  # it holds the release already

    def host(self, host: str, text: str, *, good: bool | None) -> None:
        """Shows what one host reached, or what went wrong there."""
        if good is False:
            self._trouble[host] = text
        else:
            self._reached[host].add(text)

    def _table(self) -> Group:
        table = Table(title=self._title, title_justify="left")
        table.add_column("host", no_wrap=True)
        for column in self._COLUMNS:
            table.add_column(column, justify="center")
        for host in self._hosts:
            marks = [
                Text("ok", "green") if column in self._reached[host] else Text("·", "dim")
                for column in self._COLUMNS
            ]
            table.add_row(Text(host, "bold red" if host in self._trouble else ""), *marks)
        trouble = [
            Text(f"{host}: {clean(text)}", "bold red") for host, text in self._trouble.items()
        ]
        since = f"{self._state}, {time.monotonic() - self._began:.1f} s"
        return Group(table, *trouble, Text(since, "italic dim"))


def screen(hosts: tuple[str, ...], title: str) -> PlainScreen | LiveScreen:
    """A live table where there is a terminal to draw it on, else plain lines."""
    return LiveScreen(hosts, title) if _stream().isatty() else PlainScreen()


def show_round(taken: Round) -> None:
    """The parity table of one round."""
    stream = _stream()
    width = None if stream.isatty() else 160
    console = Console(file=stream, no_color=not colour(stream), width=width, highlight=False)
    table = Table(title_justify="left", box=None, pad_edge=False)
    for name in ("host", "verdict", "release", "process", "state", "reason"):
        table.add_column(name, overflow="fold", no_wrap=name in {"host", "verdict"})
    for item in taken.hosts:
        seen = item.evidence
        trading = str((seen.status or {}).get("trading_state", "-")) if seen else "-"
        table.add_row(
            item.host,
            Text(item.verdict.value, _STYLES[item.verdict]),
            Text(clean(short(item.release or "none"))),
            str(seen.main_pid or "-") if seen else "-",
            Text(clean(trading)),
            Text(clean(first_trouble(item))),
        )
    try:
        console.print(table)
    except BrokenPipeError:
        put("", stream)
    for item in taken.hosts:
        for note in item.notes[:_NOTES_SHOWN]:
            put(f"{item.host}: {note}", stream)
        if (more := len(item.notes) - _NOTES_SHOWN) > 0:
            put(f"{item.host}: {more} more of these (--json has all)", stream)
    if taken.parity is Parity.PARITY:
        put(f"Not covered (docs/proof.md): {'; '.join(taken.uncovered)}.", stream)


def show_halts(taken: Round, inventory: Path) -> None:
    """Says which hosts a stop holds, although all may be proven, and what lets them trade again."""
    _tell(halt_notices(taken.evidence, time.time()), taken, inventory)


def show_notices(taken: Round, inventory: Path) -> tuple[str, ...]:
    """What hosts say of a stop, or of a rollout that did not end; gives the lines."""
    lines = notices(taken.evidence, time.time())
    _tell(lines, taken, inventory)
    return lines


def _tell(lines: tuple[str, ...], taken: Round, inventory: Path) -> None:
    for line in lines:
        put(line, _stream())
    trading = {v.host for v in taken.hosts if any(f.what == TRADES_ON for f in v.findings)}
    if trading:
        put(f"STOPPED, AND SAY THAT THEY TRADE: {', '.join(sorted(trading))}", _stream())
    halted = {host for host, seen in taken.evidence.items() if seen.halt is not None}
    if held := [host for host in taken.evidence if host in halted - trading]:
        chosen = " ".join(f"--host {host}" for host in held)
        start = f"deploytool start -i {quote(str(inventory))} {chosen} --reason WHY --by YOU"
        put(f"Stopped, and not trading. When the cause is gone: {start}", _stream())


def round_document(taken: Round) -> dict[str, object]:
    """One round for programs: a row for each declared host, with every finding."""
    return {
        "verdict": taken.parity.value,
        "release": taken.release,
        "label": taken.label,
        "hosts": [
            {
                "host": item.host,
                "verdict": item.verdict.value,
                "release": item.release,
                "pid": item.evidence.main_pid if item.evidence else None,
                "status": dict(item.evidence.status or {}) if item.evidence else None,
                "findings": [_finding(finding) for finding in item.findings],
                "notes": [_finding(note) for note in item.notes],
            }
            for item in taken.hosts
        ],
        "not_covered": list(taken.uncovered),
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {
        "rule": finding.rule,
        "level": finding.level.value,
        "what": finding.what,
        "expected": finding.expected,
        "found": finding.found,
    }
