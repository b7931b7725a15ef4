"""The two steps of ``deploytool start``: what is asked, and what comes of it."""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

from deploytool.cli.notices import say_notices
from deploytool.cli.output import finish, say
from deploytool.errors import InputError, NotProven
from deploytool.fleet.select import select_hosts
from deploytool.operations.starting import request_start, start
from deploytool.operations.workspace import Workspace
from deploytool.parity.host_notices import last_of
from deploytool.parity.words import Trades, Words, words
from deploytool.start.request import signing
from deploytool.start.runner import write


def ask_for(
    path: Path,
    chosen: tuple[str, ...],
    reason: str | None,
    by: str | None,
    out: Path | None,
    *,
    every: bool,
) -> None:
    """Writes the requests, and says what the second person does with them.

    Raises:
        InputError: no reason was given, or not who is to be started.
        Refused: a rule forbids to start them.
    """
    if not reason or bool(chosen) == every:
        raise InputError(
            "Say why with --reason, and what with --host or --all.",
            "Nothing was started.",
            f"deploytool start -i {quote(str(path))} --all --reason TEXT --by YOU",
        )
    space = Workspace.open(path)
    if chosen:
        select_hosts(space.inventory, chosen)
    now, who = time.time(), by or getpass.getuser()
    requests = request_start(space, chosen, reason, who, shown=say_notices)
    folder = out or Path(f"start-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}")
    places = write(requests, folder)
    for one in requests:
        say(f"{one.host}: asked for by {one.by}, to release latch {one.latch}: {one.reason}")
    say(f"A second person signs: {signing(tuple(map(str, places)))}")
    say(f"and then: deploytool start -i {quote(str(path))} --request {quote(str(folder))}")
    finish({"requests": [str(place) for place in places], "folder": str(folder)}, None)


def do(path: Path, requests: tuple[Path, ...], signatures: tuple[Path, ...]) -> None:
    """Checks the signed requests, has the hosts check them too, and lets the hosts trade again.

    Raises:
        Refused: a rule forbids it; nothing was changed.
    """
    started = start(Workspace.open(path), requests, signatures, shown=say_notices)
    outcomes, after = started.outcomes, started.answers
    said = {host: words(last_of(after[host])) for host in outcomes}
    for host, one in said.items():
        say(f"{host}: {one.text}{f' ({outcomes[host]})' if outcomes[host] else ''}")
    finish(
        {
            "states": {host: last_of(after[host]).state or "not seen" for host in outcomes},
            "refused": {host: text for host, text in outcomes.items() if text},
        },
        unfinished(outcomes, said, str(path)),
    )


def unfinished(
    outcomes: Mapping[str, str], said: Mapping[str, Words], inventory: str
) -> NotProven | None:
    """What a start did not bring about, in words from the last look; None where all trade again.

    ``outcomes``: by host, what the start itself was told, empty where nothing was wrong.
    """
    not_trading = [host for host, one in said.items() if one.trades is Trades.NO]
    unseen = [host for host, one in said.items() if one.trades is Trades.UNKNOWN]
    trading = [host for host, one in said.items() if one.trades is Trades.YES]
    half = [host for host in trading if said[host].unfinished or outcomes[host]]
    bad = [*not_trading, *unseen, *half]
    if not bad:
        return None
    count = len(said)
    parts = (
        (not_trading, "do NOT trade"),
        (unseen, "MAY trade, which was not seen"),
        (half, "trade, and their start is not finished"),
    )
    others = count - len(bad)
    now = f"deploytool status -i {quote(inventory)}"
    if held := [host for host in half if said[host].unfinished]:
        named = " ".join(f"--host {host}" for host in held)
        now = f"Stop these again, and ask again: deploytool stop -i {quote(inventory)} {named}"
    return NotProven(
        " ".join(
            f"{len(hosts)} of {count} {text}: {', '.join(hosts)}." for hosts, text in parts if hosts
        ),
        f"The other {others} trade." if others else "No other host was to be started.",
        now,
        tuple(
            f"{host}: {said[host].text}" + (f": {outcomes[host]}" if outcomes[host] else "")
            for host in sorted(bad)
        ),
    )
