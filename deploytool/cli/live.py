"""How a rollout looks on a terminal while it goes on: one table, drawn again and again."""

from __future__ import annotations

import time
from enum import Enum
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploytool.cli.output import clean, colour
from deploytool.rollout.model import State


class LiveScreen:
    """One row a host, stage by stage; what went wrong stands below, where there is room for it."""

    _COLUMNS = ("seen", "locked", "staged", "activated", "verified", "unlocked")

    def __init__(self, hosts: tuple[str, ...], title: str, stream: TextIO) -> None:
        self._hosts = hosts
        self._title = title
        self._reached: dict[str, set[str]] = {host: set() for host in hosts}
        self._trouble: dict[str, str] = {}
        self._state = ""
        self._began = time.monotonic()
        console = Console(file=stream, no_color=not colour(stream))
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

    def state(self, state: Enum, hosts: tuple[str, ...]) -> None:
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
