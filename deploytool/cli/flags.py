"""``deploytool flags``: what each bit means, and who obeys it."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploytool.cli.options import DEFAULT_STORE, InventoryOption, JsonOption, StoreOption
from deploytool.cli.output import finish, say
from deploytool.fleet.paths import folder_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploytool.arming.report import Report
    from deploytool.arming.table import Purpose
    from deploytool.fleet.model import Inventory
    from deploytool.parity.model import RoundAnswers
    from deploytool.registry.lint import Linted

app = typer.Typer(no_args_is_help=True, help="What each bit means, and who obeys it.")


@app.command()
def lint(
    registry: Annotated[
        Path, typer.Option("--registry", help="The flag registry, as it is to become.")
    ] = Path("router_binary/flags.yaml"),
    repo: Annotated[
        Path | None,
        typer.Option("--repo", help="The git repository; else the one that the registry is in."),
    ] = None,
    branch: Annotated[
        str | None,
        typer.Option("--branch", help="The release branch; else the one that is checked out."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    inventory: Annotated[
        Path | None,
        typer.Option("--inventory", "-i", help="Hold it against every build live on this fleet."),
    ] = None,
    excuse: Annotated[
        list[str] | None,
        typer.Option(
            "--excuse",
            metavar="ID",
            help="A commit or artifact that nobody can read and no bit depends on; repeat.",
        ),
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Hold the registry against history, releases and what is live."""
    del json
    from deploytool.registry.lint import LintRequest, conclude
    from deploytool.registry.lint import lint as hold

    _check_store(store)
    again = _again(registry, repo, branch, store, inventory, excuse or [])
    asked = LintRequest(
        registry, repo or registry.resolve().parent, branch, store, tuple(excuse or ())
    )
    linted = hold(asked, None if inventory is None else _seen(inventory))
    error = conclude(linted, again)
    if error is None:
        say(f"{registry}: every rule holds, against {linted.against}.")
    finish(_said(linted), error)


def _check_store(store: Path) -> None:
    """A store that was named and isn't there holds nothing against anybody.

    Raises:
        InputError: there is no such folder.
    """
    from deploytool.errors import InputError

    if store.parts[-2:] != DEFAULT_STORE.parts and not store.is_dir():
        raise InputError(
            f"There is no store {store}.",
            "Nothing was touched, and nothing is proven about any flag.",
            "Name the store's folder with --store DIR, or leave it out.",
        )


def _seen(path: Path) -> RoundAnswers:
    from deploytool.fleet.inventory import load_inventory
    from deploytool.fleet.remote import connect_fleet
    from deploytool.parity.round import probe_request, take_round

    inventory = load_inventory(path)
    hosts = connect_fleet(inventory)
    try:
        return take_round(hosts, probe_request(disk=False), inventory.ssh.command_timeout_s)
    finally:
        for host in hosts.values():
            host.close()


def _again(
    registry: Path,
    repo: Path | None,
    branch: str | None,
    store: Path,
    inventory: Path | None,
    excuses: list[str],
) -> str:
    """The command that was given, to be pasted."""
    words = ["deploytool flags lint", "--registry", quote(str(registry))]
    for option, value in (("--repo", repo), ("--branch", branch), ("-i", inventory)):
        words += [] if value is None else [option, quote(str(value))]
    words += [] if store == DEFAULT_STORE else ["--store", quote(str(store))]
    words += [word for excuse in excuses for word in ("--excuse", quote(excuse))]
    return " ".join(words)


def _said(linted: Linted) -> dict[str, Any]:
    return {
        "registry": linted.registry,
        "refusals": [
            {"rule": r.rule.value, "place": r.place, "text": r.text, "remedy": r.remedy}
            for r in linted.refusals
        ],
        "sources": [
            {"kind": s.kind, "place": s.place, "entries": len(s.entries), "trouble": s.trouble}
            for s in linted.sources
        ],
    }


FlagArgument = Annotated[
    str, typer.Argument(metavar="FLAG", help="The flag's name in the registry.")
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="Your private key, or the public half of one that your agent holds; "
        "else the first of yours that may sign for this fleet.",
    ),
]


@app.command()
def arm(
    flag: FlagArgument,
    inventory: InventoryOption,
    key: KeyOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Turn a flag on, on every host or on none.

    It takes a fresh proof of parity, a certificate that your key signs, and two phases. Whatever
    goes wrong after the first commit is withdrawn everywhere, and that is observed.
    """
    del json
    import tempfile

    from deploytool.arming.certificate import NAMESPACE
    from deploytool.arming.keys import find_key
    from deploytool.arming.table import Purpose
    from deploytool.fleet.inventory import load_inventory

    fleet = load_inventory(inventory)
    _check_name(flag)
    with tempfile.TemporaryDirectory(prefix="deploytool-") as scratch:
        mine = find_key(fleet.allowed_signers, key, Path(scratch))
        say(f"Signing as {mine.name}, with {mine.file}.")
        _change(fleet, inventory, flag, Purpose.ARM, mine.signing(NAMESPACE), key)


@app.command()
def disarm(flag: FlagArgument, inventory: InventoryOption, *, json: JsonOption = False) -> None:
    """Turn a flag off: the senders first, then every host, and look.

    It needs no proof, no key and no lock, and may be given again at any time.
    """
    del json
    from deploytool.arming.runner import signs_nothing
    from deploytool.arming.table import Purpose
    from deploytool.fleet.inventory import load_inventory

    _check_name(flag)
    _change(load_inventory(inventory), inventory, flag, Purpose.DISARM, signs_nothing)


def _check_name(flag: str) -> None:
    import re

    from deploytool.errors import InputError

    if re.fullmatch(r"[A-Z][A-Z0-9_]{0,31}", flag) is None:
        raise InputError(
            f"{flag!r} is not the name of a flag.",
            "Nothing was touched.",
            "A name is of capital letters, digits and _; deploytool flags status lists them",
        )


def _change(
    fleet: Inventory,
    path: Path,
    flag: str,
    purpose: Purpose,
    sign: Callable[[bytes], str],
    key: Path | None = None,
) -> None:
    """Arms or disarms, shows what came of it, and ends the command."""
    from deploytool.arming.outcome import conclude
    from deploytool.arming.runner import Runner
    from deploytool.arming.senders import SenderCommands
    from deploytool.arming.table import Purpose
    from deploytool.cli.disarming import GOES_ON
    from deploytool.cli.interrupt import interruptible
    from deploytool.cli.notices import say_notices
    from deploytool.cli.screen import PlainScreen
    from deploytool.errors import Interrupted
    from deploytool.fleet.remote import connect_fleet
    from deploytool.home import home
    from deploytool.parity.round import probe_request, take_round
    from deploytool.release.store import known_releases

    then = GOES_ON if purpose is Purpose.DISARM else "finishing this step, then turning it off"
    hosts = connect_fleet(fleet)
    outside = SenderCommands(fleet, folder_of(path))
    try:
        with interruptible(then) as pending, PlainScreen() as shown:
            report = Runner(
                fleet,
                hosts,
                flag,
                outside,
                shown,
                purpose=purpose,
                sign=sign,
                interrupted=pending,
                known=known_releases(home(path) / DEFAULT_STORE.name),
            ).run()
        if purpose is Purpose.DISARM:  # what it looked for lies behind it: this delays nothing
            say_notices(take_round(hosts, probe_request(disk=False), fleet.ssh.command_timeout_s))
    except KeyboardInterrupt as again:  # the second Ctrl-C
        raise Interrupted(
            f"{flag}: you broke it off, and did not let it come to an end.",
            "It may be on at some hosts, or used by the senders; what was not settled lapses.",
            f"deploytool flags disarm {flag} -i {quote(str(path))}",
        ) from again
    finally:
        for host in hosts.values():
            host.close()
    error = conclude(report, str(path), str(key) if key else None)
    count = len(fleet.names)
    if error is None and report.epoch is not None:
        window = f", all within {report.window_s:.2f} s" if report.window_s is not None else ""
        say(
            f"ARMED: {flag} on all {count} hosts (epoch {report.epoch}{window}). "
            "The senders use it."
        )
    elif error is None:
        say(f"OFF: {flag} was observed off on all {count} hosts; the senders don't use it.")
    finish(_report_document(report), error)


def _report_document(report: Report) -> dict[str, Any]:
    return {
        "flag": report.flag,
        "bit": report.bit,
        "release": report.release,
        "epoch": report.epoch,
        "state": report.state.value,
        "states": [state.value for state in report.path],
        "hosts": dict(report.flag_states),
        "senders_use_it": report.in_use,
        "window_s": report.window_s,
        "obstacles": [{"host": o.host, "rule": o.rule, "text": o.text} for o in report.obstacles],
        "trouble": dict(sorted(report.trouble.items())),
    }


@app.command()
def status(inventory: InventoryOption, *, json: JsonOption = False) -> None:
    """Show each flag on each host, and what the senders do.

    A flag is armed, off, unknown, not running with its process, or of another meaning. "epoch"
    is the number of the certificate that armed it. Exit 5 where not all hosts are alike or known.
    """
    del json
    import time

    from deploytool.arming.checks import SenderObservation
    from deploytool.arming.hosts import FlagHosts
    from deploytool.arming.senders import SenderCommands, of_now
    from deploytool.arming.status import remedy, rows
    from deploytool.cli.flagtable import document, lines, show
    from deploytool.cli.notices import say_notices
    from deploytool.errors import HostFault, NotProven
    from deploytool.fleet.inventory import load_inventory
    from deploytool.fleet.remote import connect_fleet
    from deploytool.parity.round import probe_request, take_round

    fleet = load_inventory(inventory)
    hosts = connect_fleet(fleet)
    try:
        deadline_s = fleet.ssh.command_timeout_s
        seen = take_round(hosts, probe_request(disk=False), deadline_s)
        shown = FlagHosts(hosts, deadline_s, lambda _host, _text, _fault: None).observe()
    finally:
        for host in hosts.values():
            host.close()
    senders: SenderObservation | HostFault
    try:
        senders = of_now(SenderCommands(fleet, folder_of(inventory)).observe(), time.time())
    except HostFault as fault:
        senders = fault
    found = rows(seen, shown)
    show(found, fleet.names, senders)
    left = say_notices(seen)
    odd = lines(found, seen, senders)
    error = None
    if odd:
        error = NotProven(
            f"The flags of {fleet.fleet} are not the same everywhere, or not known.",
            *remedy(found, seen, quote(str(inventory))),
            odd,
        )
    finish({**document(found, senders), "under_way": left}, error)
