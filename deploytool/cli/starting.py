"""The two steps of ``deploytool start``: what is asked, and what comes of it."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator, Mapping
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
from deploytool.home import home
from deploytool.parity.host_notices import last_of
from deploytool.parity.words import Trades, Words, words
from deploytool.release.store import DEFAULT_STORE, known_releases
from deploytool.start.flag_checks import flag_objections
from deploytool.start.request import signing
from deploytool.start.runner import ask, begin, check, probe, read, write


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
        seen = probe(inventory, hosts, known_releases(home(path) / DEFAULT_STORE.name))
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
        seen = probe(inventory, hosts, known_releases(home(path) / DEFAULT_STORE.name))
        say_notices(seen)
        flags = flag_objections(inventory, hosts, seen, _senders(inventory, path))
        check(inventory, signed, seen, time.time(), str(path), flags)
        outcomes = begin(inventory, hosts, signed, seen, holder())
        after = probe(inventory, hosts)
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
