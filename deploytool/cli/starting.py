"""The two steps of ``deploytool start``: what is asked, and what comes of it."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

from deploytool.arming.senders import SenderCommands, senders_of
from deploytool.cli.notices import say_notices
from deploytool.cli.output import finish, say
from deploytool.errors import InputError, NotProven
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.model import Inventory
from deploytool.fleet.paths import folder_of
from deploytool.fleet.remote import RemoteHost, connect_fleet
from deploytool.fleet.select import select_hosts
from deploytool.parity.model import Evidence
from deploytool.stop.meaning import flag_objections
from deploytool.stop.request import signing
from deploytool.stop.start import ask, begin, check, look, read, write


@contextmanager
def _connected(inventory: Inventory) -> Iterator[dict[str, RemoteHost]]:
    hosts = connect_fleet(inventory)
    try:
        yield hosts
    finally:
        for host in hosts.values():
            host.close()


def _senders(inventory: Inventory, path: Path) -> SenderCommands | None:
    return senders_of(inventory, folder_of(path))


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
    inventory = load_inventory(path)
    if chosen:
        select_hosts(inventory, chosen)
    now = int(time.time())
    with _connected(inventory) as hosts:
        seen = look(inventory, hosts)
        flags = flag_objections(inventory, hosts, seen, _senders(inventory, path))
    say_notices(seen)
    who = by or getpass.getuser()
    requests = ask(inventory, seen, chosen, who, reason, now, str(path), flags)
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
    from deploytool.cli.interrupt import holder

    inventory = load_inventory(path)
    signed = read(requests, signatures)
    with _connected(inventory) as hosts:
        seen = look(inventory, hosts)
        say_notices(seen)
        flags = flag_objections(inventory, hosts, seen, _senders(inventory, path))
        check(inventory, signed, seen, time.time(), str(path), flags)
        outcomes = begin(inventory, hosts, signed, seen, holder())
        after = look(inventory, hosts)
    states = {}
    for host in outcomes:
        item = after[host]
        status = (item.status or {}) if isinstance(item, Evidence) else {}
        states[host] = str(status.get("trading_state", "not seen"))
        say(f"{host}: {states[host]}{': ' + outcomes[host] if outcomes[host] else ''}")
    bad = {h: text or f"it is {states[h]}" for h, text in outcomes.items() if text}
    bad |= {
        h: f"it is {state}" for h, state in states.items() if state != "ACTIVE" and h not in bad
    }
    error = None
    if bad:
        error = NotProven(
            f"{len(bad)} of {len(outcomes)} hosts do NOT trade again.",
            "The others do. What was refused there stays stopped.",
            f"deploytool status -i {quote(str(path))}",
            tuple(f"{host}: {text}" for host, text in sorted(bad.items())),
        )
    finish({"states": states, "refused": bad}, error)
