"""``deploytool fleet``: throwaway fleets to play with, and their inventories."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deploytool.rehearsal.fleets.model import FleetStatus, Throwaway

app = typer.Typer(
    name="fleet",
    help="A throwaway fleet on this machine, to play and to rehearse with.",
    no_args_is_help=True,
)


class FleetKind(Enum):
    """Which kind of throwaway fleet."""

    LOCAL = "local"
    CONTAINER = "container"


KindOption = Annotated[
    FleetKind,
    typer.Option("--fleet", help="local: sshd on loopback, no root. container: podman or Docker."),
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Where it lives; default .deploytool/fleets/KIND."),
]
HostsOption = Annotated[int, typer.Option("--hosts", min=1, max=64, help="How many hosts.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def _open(kind: FleetKind, folder: Path | None) -> Throwaway:
    from deploytool.rehearsal.fleets import open_fleet

    return open_fleet(kind.value, folder)


def _say(line: str) -> None:
    """Progress goes to stderr, so that stdout holds the result and nothing else."""
    typer.echo(line, err=True)


def _print_json(document: dict[str, object]) -> None:
    typer.echo(json.dumps(document, indent=2))


def _as_json(status: FleetStatus) -> dict[str, object]:
    return {
        "fleet": status.kind,
        "folder": str(status.folder),
        "state": status.state,
        "hosts": [
            {"name": h.name, "state": h.state, "address": h.address, "port": h.port}
            for h in status.hosts
        ],
    }


@app.command()
def up(
    kind: KindOption = FleetKind.LOCAL,
    hosts: HostsOption = 8,
    folder: FolderOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Bring a throwaway fleet up, ready to deploy to, and write its inventory."""
    fleet = _open(kind, folder)
    inventory = fleet.up(hosts, _say)
    if as_json:
        _print_json({**_as_json(fleet.status()), "inventory": str(inventory)})
        return
    typer.echo(f"{hosts} hosts are up. Their inventory: {inventory}")
    typer.echo(f"Look at them:  deploytool status -i {inventory}")
    typer.echo(f"Take them away: {_command('down', kind, folder)}")


@app.command()
def down(
    kind: KindOption = FleetKind.LOCAL,
    folder: FolderOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take a throwaway fleet away, also one that was left half-made."""
    fleet = _open(kind, folder)
    removed = fleet.down(_say)
    if as_json:
        _print_json({"fleet": kind.value, "folder": str(fleet.folder), "removed": list(removed)})
    elif removed:
        typer.echo(f"The {kind.value} fleet is gone. Removed: {', '.join(removed)}.")
    else:
        typer.echo(f"There is no {kind.value} fleet in {fleet.folder}: nothing to do.")


@app.command()
def status(
    kind: KindOption = FleetKind.LOCAL,
    folder: FolderOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Say what is there of a throwaway fleet now."""
    fleet = _open(kind, folder)
    seen = fleet.status()
    if as_json:
        _print_json(_as_json(seen))
        return
    if seen.state == "absent":
        typer.echo(f"There is no {kind.value} fleet in {seen.folder}.")
        typer.echo(f"Bring one up: {_command('up', kind, folder)}")
        return
    for host in seen.hosts:
        typer.echo(f"{host.name:<10} {host.state:<8} {host.address}:{host.port}")
    running = sum(host.state == "running" for host in seen.hosts)
    typer.echo(f"{running} of {len(seen.hosts)} hosts are running; the fleet is {seen.state}.")
    if seen.state == "incomplete":
        typer.echo(f"Take it away: {_command('down', kind, folder)}")


def _command(verb: str, kind: FleetKind, folder: Path | None) -> str:
    return f"deploytool fleet {verb} --fleet {kind.value}{f' --folder {folder}' if folder else ''}"
