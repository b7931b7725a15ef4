"""``deploytool host``: makes a bare host ready, shows what is missing, takes one out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploytool.cli import signers
from deploytool.cli.options import AdminKeyOption, InventoryOption, JsonOption

app = typer.Typer(no_args_is_help=True, help="Make a bare host ready; see what it lacks.")
app.add_typer(signers.app, name="signers")


HostsOption = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="HOST", help="Only this host; repeat for more."),
]


@app.command()
def prepare(
    inventory: InventoryOption,
    admin: Annotated[
        str | None,
        typer.Option("--admin", help="The account to prepare with: root, or one that may sudo."),
    ] = None,
    admin_key: AdminKeyOption = None,
    authorize: Annotated[
        Path | None,
        typer.Option("--authorize", help="The public key file that the deploy account lets in."),
    ] = None,
    host: HostsOption = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be changed, and change nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Make bare hosts ready to be deployed to.

    It installs accounts, folders, the agent, the unit and the one line of sudo rights. It may be
    run again at any time: what stands there already is left alone. It ends by logging in as the
    deploy account and asking the agent; what stands in the way is named.
    """
    del json
    from deploytool.cli import preparing

    preparing.prepare(inventory, admin, admin_key, authorize, host, dry_run=dry_run)


@app.command()
def check(
    inventory: InventoryOption, host: HostsOption = None, *, json: JsonOption = False
) -> None:
    """Show what each host lacks before a release can be deployed. It changes nothing."""
    del json
    from deploytool.cli import preparing

    preparing.check(inventory, host)


@app.command("let-in")
def let_in(
    host: Annotated[str, typer.Argument(help="The host's name in the inventory.")],
    inventory: InventoryOption,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept on the host.")],
    admin: Annotated[
        str | None, typer.Option("--admin", help="The account: root, or one that may sudo.")
    ] = None,
    admin_key: AdminKeyOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Let a stopped host trade again, as root on it.

    Only where the inventory names no signers: else two people do that, with deploytool start. The
    host writes the reason down.
    """
    del json
    from deploytool.cli import preparing

    preparing.let_in(host, inventory, reason, admin, admin_key)


@app.command()
def retire(
    host: Annotated[str, typer.Argument(help="The host's name in the inventory.")],
    inventory: InventoryOption,
    replacement_key: Annotated[
        Path | None,
        typer.Option(
            "--replacement-key",
            help="The public host key file of the machine that takes its place and its name.",
        ),
    ] = None,
    *,
    gone: Annotated[
        bool,
        typer.Option("--gone", help="It does not answer, and is known to be off for good."),
    ] = False,
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Take away all that preparations brought, releases too."),
    ] = False,
    admin: Annotated[
        str | None,
        typer.Option("--admin", help="The account that changes lists: root, or one that may sudo."),
    ] = None,
    admin_key: AdminKeyOption = None,
    json: JsonOption = False,
) -> None:
    """Take a host out of service for good, or let its replacement in.

    The service is stopped there and kept from coming back with a reboot, and the other hosts take
    it off their list of the fleet's members. With --gone it is not asked. With --replacement-key
    the new machine's key is pinned in the place of the old one's. With --purge the host is left as
    it was before it was prepared: accounts that a preparation made go too.
    """
    del json
    from deploytool.cli import preparing
    from deploytool.fleet.prepare import admin_of

    who = admin_of(admin, admin_key)
    preparing.retire(host, inventory, replacement_key, who, gone=gone, purge=purge)
