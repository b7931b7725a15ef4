"""``deploytool plan``, ``deploy``, ``resume`` and ``rollback``: what is typed for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploytool.cli.options import (
    DEFAULT_JOURNAL,
    DEFAULT_STORE,
    InventoryOption,
    JournalOption,
    JsonOption,
    ReleaseArgument,
    StoreOption,
)

DisarmOption = Annotated[
    bool,
    typer.Option(
        "--disarm", help="Turn off every armed flag first: the senders, then the hosts, observed."
    ),
]

HaltedOption = Annotated[
    bool,
    typer.Option("--halted", help="Hosts that are HALTED before it may be HALTED when it ends."),
]


def plan(
    inventory: InventoryOption,
    release: ReleaseArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the plan here, for: deploytool deploy --plan FILE"),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    *,
    json: JsonOption = False,
) -> None:
    """Show what a deployment would do on each host. It changes nothing.

    Exit 3 where a rule forbids it; what stands in the way is named, host by host.
    """
    del json
    from deploytool.cli import deploying

    deploying.plan(inventory, release, out, store)


def deploy(
    inventory: InventoryOption,
    release: ReleaseArgument,
    plan_file: Annotated[
        Path | None,
        typer.Option("--plan", help="Refuse when the fleet has moved since this plan was made."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    journal: JournalOption = DEFAULT_JOURNAL,
    *,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Take the place of a rollout that was interrupted or is on hold.",
        ),
    ] = False,
    disarm: DisarmOption = False,
    halted: HaltedOption = False,
    json: JsonOption = False,
) -> None:
    """Put a release on every host and prove it, or bring back.

    It copies to all hosts before any is switched, verifies each by its running process, and proves
    parity at the end. When anything fails it brings back what it switched, and proves that.

    Ctrl-C brings back, too; a second one ends it at once, and "resume" or "rollback" end the rest.

    A host that was ACTIVE has to be ACTIVE again: one that halts itself fails its wave. Where hosts
    were HALTED before, they stay so, and it ends with 5; with --halted it ends with 0.

    Exit codes: 0 proven on every host; 3 refused by a rule, nothing changed; 4 failed and brought
    back, proven; 5 MIXED or UNKNOWN: hosts and the next command are named; 130 interrupted.
    """
    del json
    from deploytool.cli import deploying

    deploying.deploy(
        inventory, release, plan_file, store, journal,
        take_over=take_over, disarm=disarm, halted=halted,
    )  # fmt: skip


def resume(
    inventory: InventoryOption,
    store: StoreOption = DEFAULT_STORE,
    journal: JournalOption = DEFAULT_JOURNAL,
    *,
    forward: Annotated[
        bool,
        typer.Option("--forward", help="Go on to the release although it was on the way back."),
    ] = False,
    disarm: DisarmOption = False,
    halted: HaltedOption = False,
    json: JsonOption = False,
) -> None:
    """Finish what an interrupted deployment left, from any machine.

    What was under way is read from the hosts. It takes the locks over: whoever held them is refused
    by the hosts from then on. What was on the way back is finished by "rollback"; where that can't
    be done, --forward is the other end.
    """
    del json
    from deploytool.cli import deploying

    deploying.resume(inventory, store, journal, forward=forward, halted=halted, disarm=disarm)


def rollback(
    inventory: InventoryOption,
    store: StoreOption = DEFAULT_STORE,
    journal: JournalOption = DEFAULT_JOURNAL,
    *,
    disarm: DisarmOption = False,
    halted: HaltedOption = False,
    json: JsonOption = False,
) -> None:
    """Undo what an interrupted deployment left, and prove it.

    Every host becomes what it was before. It takes the locks over: whoever held them is refused by
    the hosts from then on. A deployment that was proven is over, and nothing is left to undo: to go
    back from it, deploy the older release.
    """
    del json
    from deploytool.cli import deploying

    deploying.rollback(inventory, store, journal, disarm=disarm, halted=halted)


def register(app: typer.Typer) -> None:
    """Puts the commands at the top level."""
    app.command()(plan)
    app.command()(deploy)
    app.command()(resume)
    app.command()(rollback)
