"""How a rollout looks while it goes on: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Self, TextIO

from deploytool.cli.output import colour, put, put_as_is, wants_json
from deploytool.core.text import one_line
from deploytool.fleet.exchange_log import LOG
from deploytool.parity.host_notices import halt_notices, notices
from deploytool.parity.model import Parity, Round, Verdict
from deploytool.parity.rules import first_trouble, short

if TYPE_CHECKING:
    from deploytool.cli.live import LiveScreen

_NOTES_SHOWN = 10
_COLOURS = {Verdict.MATCH: "32", Verdict.MISMATCH: "1;31", Verdict.UNKNOWN: "1;33"}
_PIPE_WIDTH = 160
"""Columns of a table that no terminal shows."""
_REASON_AT_LEAST = 20


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


class RolloutScreen:
    """A live table where there is a terminal to draw it on, else plain lines.

    Nothing is drawn, and nothing imported for it, before there is something to show. The lines of
    --verbose would come in the middle of a table that is drawn again and again.
    """

    def __init__(self, hosts: tuple[str, ...], title: str) -> None:
        self._hosts = hosts
        self._title = title
        self._ends = ExitStack()
        self._shown: PlainScreen | LiveScreen | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.close()

    def _begun(self) -> PlainScreen | LiveScreen:
        if self._shown is None:
            self._shown = self._fitting()
            self._ends.enter_context(self._shown)
        return self._shown

    def _fitting(self) -> PlainScreen | LiveScreen:
        if LOG.verbose or not _stream().isatty():
            return PlainScreen()
        from deploytool.cli.live import LiveScreen  # rich is slow to import

        return LiveScreen(self._hosts, self._title, _stream())

    def state(self, state: Enum, hosts: tuple[str, ...]) -> None:
        """Shows what is done now, and where."""
        self._begun().state(state, hosts)

    def host(self, host: str, text: str, *, good: bool | None) -> None:
        """Shows what one host reached."""
        self._begun().host(host, text, good=good)


def show_round(taken: Round) -> None:
    """The parity table of one round."""
    stream = _stream()
    rows = [("host", "verdict", "release", "process", "state", "reason")]
    for item in taken.hosts:
        seen = item.evidence
        trading = str((seen.status or {}).get("trading_state", "-")) if seen else "-"
        rows.append(
            (
                item.host,
                item.verdict.value,
                one_line(short(item.release or "none")) if seen else "?",
                str(seen.main_pid or "-") if seen else "-",
                one_line(trading),
                one_line(first_trouble(item)),
            )
        )
    colours = ["", *(_COLOURS[item.verdict] for item in taken.hosts)] if colour(stream) else []
    size = shutil.get_terminal_size((_PIPE_WIDTH, 1)).columns if stream.isatty() else _PIPE_WIDTH
    for line in columns(rows, colours, size):
        put_as_is(line, stream)
    for line in _notes(taken):
        put(line, stream)
    if taken.parity is Parity.PARITY:
        put(f"Not covered (docs/proof.md): {'; '.join(taken.uncovered)}.", stream)


def _notes(taken: Round) -> Iterator[str]:
    """What counts for nothing here and is worth knowing; the same of several hosts in one line."""
    said: dict[str, list[str]] = {}
    for item in taken.hosts:
        for note in item.notes[:_NOTES_SHOWN]:
            said.setdefault(str(note), []).append(item.host)
        if (more := len(item.notes) - _NOTES_SHOWN) > 0:
            said.setdefault(f"{more} more of these (--json has all)", []).append(item.host)
    everywhere = len(taken.hosts) if len(taken.hosts) > 1 else None
    for text, hosts in said.items():
        named = f"all {everywhere} hosts" if len(hosts) == everywhere else ", ".join(hosts)
        yield f"{named}: {text}"


def columns(rows: Sequence[tuple[str, ...]], colours: Sequence[str], width: int) -> Iterator[str]:
    """Lines of a table ``width`` columns wide; a long last cell goes on below itself.

    ``colours``: for each row, how a terminal shows its second cell (nothing: as it is).
    """
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
    before = sum(widths) + 2 * len(widths)
    room = max(_REASON_AT_LEAST, width - before)
    for number, row in enumerate(rows):
        cells = [cell.ljust(size) for cell, size in zip(row[:-1], widths, strict=True)]
        if colours and colours[number]:
            cells[1] = f"\033[{colours[number]}m{cells[1]}\033[0m"
        first, *more = textwrap.wrap(row[-1], room) or [""]
        yield "  ".join([*cells, first]).rstrip()
        for line in more:
            yield " " * before + line


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
    trading = {v.host for v in taken.hosts if any(f.rule == "halt" for f in v.findings)}
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
                "answered": item.evidence is not None,
                "release": item.release,
                "pid": item.evidence.main_pid if item.evidence else None,
                "status": dict(item.evidence.status or {}) if item.evidence else None,
                "findings": [finding.document() for finding in item.findings],
                "notes": [note.document() for note in item.notes],
            }
            for item in taken.hosts
        ],
        "not_covered": list(taken.uncovered),
    }
