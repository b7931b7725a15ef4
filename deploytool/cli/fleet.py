"""``deploytool fleet``: throwaway fleets to play with, and their inventories."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploytool.cli.alive import alive
from deploytool.cli.options import JsonOption
from deploytool.cli.output import document, finish, path_hint, say

if TYPE_CHECKING:
    from deploytool.rehearsal.fleets.model import Progress
    from deploytool.rehearsal.fleets.throwaway import FleetStatus, Throwaway

app = typer.Typer(
    name="fleet",
    help="A throwaway fleet on this machine, to play and to rehearse with.",
    no_args_is_help=True,
)


class FleetKind(Enum):
    """Which kind of throwaway fleet."""

    LOCAL = "local"
    CONTAINER = "container"
    VAGRANT = "vagrant"


KindOption = Annotated[
    FleetKind,
    typer.Option(
        "--fleet",
        help="local: sshd on loopback, no root. container: podman or Docker. "
        "vagrant: virtual machines.",
    ),
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Where it lives; default .deploytool/fleets/KIND."),
]
HostsOption = Annotated[int, typer.Option("--hosts", min=1, max=64, help="How many hosts.")]


def _open(kind: FleetKind, folder: Path | None) -> Throwaway:
    from deploytool.rehearsal.fleets import open_fleet

    return open_fleet(kind.value, folder)


def _progress(line: str) -> None:
    typer.echo(line, err=True)


def _command(verb: str, kind: FleetKind, folder: Path | None) -> str:
    return f"deploytool fleet {verb} --fleet {kind.value}{f' --folder {folder}' if folder else ''}"


def _document(status: FleetStatus) -> dict[str, Any]:
    return {
        "fleet": status.kind,
        "folder": str(status.folder),
        "state": status.state,
        "hosts": [
            {"name": h.name, "state": h.state, "address": h.address, "port": h.port}
            for h in status.hosts
        ],
    }


def take_away(fleet: Throwaway, progress: Progress, again: str) -> tuple[str, ...]:
    """Takes a fleet away; gives what was removed.

    Raises:
        Interrupted: Ctrl-C broke that off; ``again`` is what goes on with it.
    """
    from deploytool.errors import Interrupted

    try:
        return fleet.down(progress)
    except KeyboardInterrupt as stop:
        raise Interrupted(
            "Interrupted while the throwaway fleet was being removed.",
            "What is left of it may still be running.",
            again,
        ) from stop


@app.command()
def up(
    kind: KindOption = FleetKind.LOCAL,
    hosts: HostsOption = 8,
    folder: FolderOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Bring a throwaway fleet up, and write its inventory."""
    del json
    from deploytool.errors import Interrupted

    fleet = _open(kind, folder)
    try:
        with alive(lambda: "... the fleet comes up") as heard:

            def progress(line: str) -> None:
                _progress(line)
                heard()

            inventory = fleet.up(hosts, progress)
    except KeyboardInterrupt as stop:
        raise Interrupted(
            "Interrupted while the fleet was coming up.",
            "What was begun of it is still there.",
            _command("down", kind, folder),
        ) from stop
    say(f"{hosts} {'host is' if hosts == 1 else 'hosts are'} up. The inventory: {inventory}")
    say("  make a release:  deploytool release build 2026.1")
    say(f"  deploy it:       deploytool deploy -i {inventory} 2026.1")
    say(f"  look at them:    deploytool status -i {inventory}")
    say(f"  take them away:  {_command('down', kind, folder)}")
    if (hint := path_hint()) is not None:
        say(hint)
    document({"exit": 0, **_document(fleet.status()), "inventory": str(inventory)})


@app.command()
def down(
    kind: KindOption = FleetKind.LOCAL, folder: FolderOption = None, *, json: JsonOption = False
) -> None:
    """Take a throwaway fleet away, also one that was left half-made."""
    del json
    fleet = _open(kind, folder)
    removed = take_away(fleet, _progress, _command("down", kind, folder))
    if removed:
        say(f"The {kind.value} fleet is gone. Removed: {', '.join(removed)}.")
    else:
        say(f"There is no {kind.value} fleet in {fleet.folder}: nothing to do.")
    document(
        {"exit": 0, "fleet": kind.value, "folder": str(fleet.folder), "removed": list(removed)}
    )


@app.command()
def status(
    kind: KindOption = FleetKind.LOCAL, folder: FolderOption = None, *, json: JsonOption = False
) -> None:
    """Say what is there of it now; exit 5 when it is not whole."""
    del json
    from deploytool.errors import NotProven

    seen = _open(kind, folder).status()
    if seen.state == "absent":
        say(f"There is no {kind.value} fleet in {seen.folder}.")
        say(f"Bring one up: {_command('up', kind, folder)}")
    for host in seen.hosts:
        say(f"{host.name:<10} {host.state:<8} {host.address}:{host.port}")
    running = sum(host.state == "running" for host in seen.hosts)
    if seen.state == "up":
        say(f"{running} of {len(seen.hosts)} hosts are running.")
    error = NotProven(
        f"{running} of {len(seen.hosts)} hosts of the throwaway fleet are running.",
        "It was never finished, or a host went down.",
        _command("down", kind, folder),
    )
    finish(_document(seen), error if seen.state == "incomplete" else None)
