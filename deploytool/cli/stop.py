"""``deploytool stop``, ``start`` and ``watch``: the kill switch, its release, who keeps watch."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from deploytool.cli.options import DEFAULT_STORE, InventoryOption, JsonOption, StoreOption
from deploytool.cli.output import finish

HostsOption = Annotated[
    list[str] | None, typer.Option("--host", metavar="HOST", help="This host; repeat for more.")
]
EveryOption = Annotated[bool, typer.Option("--all", help="Every declared host.")]


def stop(
    inventory: InventoryOption,
    host: HostsOption = None,
    release: Annotated[
        str | None,
        typer.Option(
            "--release", help="Every host that runs this release: its SHA-256 or the head."
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept on the hosts.")] = "",
    *,
    every: EveryOption = False,
    json: JsonOption = False,
) -> None:
    """Stop hosts now, without a question or a second person.

    Say which with one of --host, --all, --release. It needs no lock and no journal. Exit 0 only
    where every target stopped and the witness saw the silence; else 6, and who didn't.
    """
    from deploytool.cli.stopnow import run

    words = ["-i", str(inventory), *(word for name in host or () for word in ("--host", name))]
    words += ["--all"] * every + ["--json"] * json + ["--reason", reason]
    words += ["--release", release] if release else []
    raise typer.Exit(run(words))


def start(
    inventory: InventoryOption,
    host: HostsOption = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why it may trade again; it is signed with.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Who asks, as the signers file names them.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder for the requests, to be signed.")
    ] = None,
    request: Annotated[
        list[Path] | None,
        typer.Option(
            "--request", metavar="PATH", help="A signed request, or a folder of them: start now."
        ),
    ] = None,
    signature: Annotated[
        list[Path] | None,
        typer.Option(
            "--signature", metavar="FILE", help="Its signature, in the same order; else FILE.sig."
        ),
    ] = None,
    *,
    every: EveryOption = False,
    json: JsonOption = False,
) -> None:
    """Let stopped hosts trade again; a second person has to sign.

    First with --host or --all and --reason: that writes requests. A second person signs each with
    ssh-keygen -Y sign -n start.deploytool. Then with --request.
    """
    del json
    from deploytool.cli.starting import ask_for, do

    if request:
        do(inventory, tuple(request), tuple(signature or ()))
    else:
        ask_for(inventory, tuple(host or ()), reason, by, out, every=every)


class OnDrift(Enum):
    """What a watch does about a host that is seen to differ from what is declared."""

    REPORT = "report"
    STOP_HOST = "stop-host"


def watch(
    inventory: InventoryOption,
    release: Annotated[
        str | None,
        typer.Option("--release", help="What is declared; else what the fleet is proven to run."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    on_drift: Annotated[
        OnDrift, typer.Option("--on-drift", help="Say it only, or stop the host too.")
    ] = OnDrift.REPORT,
    every: Annotated[
        float, typer.Option("--every", min=0.5, max=3600, help="Seconds between two rounds.")
    ] = 5.0,
    lasting: Annotated[
        float | None, typer.Option("--for", min=1, help="End after so many seconds.")
    ] = None,
    *,
    until_drift: Annotated[
        bool, typer.Option("--until-drift", help="End at the first drift, with exit 5.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Keep looking, renew leases, and make a stop quicker.

    It keeps its lines to every host open until Ctrl-C, or --for SECONDS. It goes on when a host
    drifts, because the leases of the others hang on it. It ends with 0 where nothing ever drifted
    and all is known at the end, else with 5.
    """
    del json
    from deploytool.cli.interrupt import interruptible
    from deploytool.cli.watching import conclude, told
    from deploytool.operations.watching import watch as keep
    from deploytool.operations.workspace import Workspace

    with interruptible("the watch ends with its round") as pending:
        seen = keep(
            Workspace.open(inventory, store=store),
            release,
            every_s=every,
            lasting_s=lasting,
            stop_on_drift=on_drift is OnDrift.STOP_HOST,
            until_drift=until_drift,
            tell=told,
            interrupted=pending,
        )
    finish(*conclude(seen, str(inventory)))


def register(app: typer.Typer) -> None:
    """Puts the commands at the top level."""
    app.command()(stop)
    app.command()(start)
    app.command()(watch)
