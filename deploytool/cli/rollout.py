"""``deploytool plan`` and ``deploy``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from deploytool.cli.disarming import disarm_first, name_them, naming
from deploytool.cli.interrupt import interruptible
from deploytool.cli.options import (
    DEFAULT_JOURNAL,
    DEFAULT_STORE,
    InventoryOption,
    JournalOption,
    JsonOption,
    ReleaseArgument,
    StoreOption,
)
from deploytool.cli.output import finish, inventory_named, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploytool.core.observer import Observer
    from deploytool.operations.rollouts import RolloutEnd
    from deploytool.operations.workspace import Workspace
    from deploytool.release.model import Release
    from deploytool.rollout.model import Plan, Purpose
    from deploytool.rollout.recovery import InterruptedRollout


DisarmOption = Annotated[
    bool,
    typer.Option(
        "--disarm", help="Turn off every armed flag first: the senders, then the hosts, observed."
    ),
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
    from deploytool.cli.notices import way_back
    from deploytool.operations.rollouts import find_candidate
    from deploytool.operations.rollouts import plan as make_plan
    from deploytool.operations.workspace import Workspace

    space = Workspace.open(inventory, store=store)
    candidate = find_candidate(space, release)
    made = make_plan(candidate)
    say(f"{candidate.release.label} to {space.inventory.fleet}: plan {made.id}")
    for item in made.hosts:
        say(f"  {item.host:<16} {item.action.value}")
    for number, wave in enumerate(made.waves, start=1):
        say(f"  wave {number}: {', '.join(wave)}")
    for line in way_back(space.inventory, inventory):
        say(line)
    if out is not None:
        _write(out, made)
        bound = f"{quote(release)} --plan {quote(str(out))}"
        say(f"Written to {out}: deploytool deploy -i {quote(str(inventory))} {bound}")
    finish({"plan": made.model_dump(mode="json")}, None)


def _write(out: Path, plan: Plan) -> None:
    from deploytool.errors import InputError

    try:
        out.write_text(plan.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"The plan can't be written to {out}: {error.strerror}",
            "Nothing was touched.",
            "Name a file in a folder that is there, and yours: --out FILE",
        ) from error


def _bound(path: Path | None) -> Plan | None:
    from pydantic import ValidationError

    from deploytool.errors import InputError
    from deploytool.rollout.model import Plan

    if path is None:
        return None
    try:
        return Plan.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise InputError(
            f"{path} is no plan: {' '.join(str(error).split())[:300]}",
            "Nothing was touched.",
            f"Make one: deploytool plan -i {inventory_named()} RELEASE --out {quote(str(path))}",
        ) from error


def _run(
    space: Workspace,
    wanted: Release,
    purpose: Purpose,
    rollout: Callable[[Observer, Callable[[], bool]], RolloutEnd],
    off: tuple[str, ...],
) -> None:
    """Runs a rollout to its end, shows it, and ends the command.

    ``off``: the flags that were turned off before; whatever goes wrong names them.
    """
    from deploytool.cli.screen import RolloutScreen, round_document, show_halts, show_round
    from deploytool.parity.model import Parity
    from deploytool.rollout.model import Purpose

    fleet = space.inventory
    title = f"{'undo' if purpose is Purpose.ROLLBACK else 'deploy'} {wanted.label} on {fleet.fleet}"
    with naming(off), interruptible() as pending, RolloutScreen(fleet.names, title) as shown:
        end = rollout(shown, pending)
    report, error = end.report, end.error
    if error is not None:
        name_them(error, off)
    if report.round is not None:
        show_round(report.round)
        show_halts(report.round, space.path)
    if error is None and report.round is not None:
        done = "is deployed and proven"
        if purpose is Purpose.ROLLBACK:
            done = "is what it was before, and proven"
        if report.already:
            done = "was proven to run already"
        if report.round.parity is Parity.PARITY:
            say(f"PARITY: {report.round.label} {done} on all {len(fleet.names)} hosts.", "green")
        else:
            say(f"All {len(fleet.names)} hosts are proven to run nothing, as before.")
    if error is None and report.journal is not None:
        say(f"But the journal lacks its end: {report.journal.what}")
    said = round_document(report.round) if report.round else {}
    trouble = {host: item.text for host, item in sorted(report.trouble.items())}
    path = [state.value for state in report.path]
    finish({**said, "already": report.already, "states": path, "trouble": trouble}, error)


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
    disarm: DisarmOption = False,
    json: JsonOption = False,
) -> None:
    """Put a release on every host and prove it, or bring back.

    It copies to all hosts before any is switched, verifies each by its running process, and proves
    parity at the end. When anything fails it brings back what it switched, and proves that.

    Ctrl-C brings back, too; a second one ends it at once, and "resume" or "rollback" end the rest.

    Exit codes: 0 proven on every host; 3 refused by a rule, nothing changed; 4 failed and brought
    back, proven; 5 MIXED or UNKNOWN: hosts and the next command are named; 130 you broke it off.
    """
    del json
    from deploytool.operations.rollouts import deploy as put
    from deploytool.operations.rollouts import find_candidate
    from deploytool.operations.workspace import Workspace
    from deploytool.rollout.model import Purpose

    bound = _bound(plan_file)
    space = Workspace.open(inventory, store=store, journal=journal)
    candidate = find_candidate(space, release)
    off = disarm_first(space, candidate.release, Purpose.DEPLOY, bound, wished=disarm)
    _run(
        space, candidate.release, Purpose.DEPLOY,
        lambda shown, pending: put(candidate, bound=bound, observer=shown, interrupted=pending),
        off,
    )  # fmt: skip


def _find_interrupted(space: Workspace, purpose: Purpose) -> InterruptedRollout:
    """What an interrupted rollout was about, by what the hosts show; said before it is acted on."""
    from deploytool.operations.rollouts import find_interrupted
    from deploytool.rollout.recovery import describe_interrupted

    found = find_interrupted(space, purpose)
    for line in describe_interrupted(found):
        say(line)
    return found


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
    json: JsonOption = False,
) -> None:
    """Finish what an interrupted deployment left, from any machine.

    What was under way is read from the hosts. It takes the locks over: whoever held them is refused
    by the hosts from then on. What was on the way back is finished by "rollback"; where that can't
    be done, --forward is the other end.
    """
    del json
    from deploytool.operations.rollouts import resume as finish_it
    from deploytool.operations.workspace import Workspace
    from deploytool.rollout.model import Purpose

    space = Workspace.open(inventory, store=store, journal=journal)
    found = _find_interrupted(space, Purpose.RESUME)
    off = disarm_first(space, found.release, Purpose.RESUME, forward=forward, wished=disarm)
    say("Finishing it: taking the locks over, then staging, switching and proving what is missing.")
    _run(
        space, found.release, Purpose.RESUME,
        lambda shown, pending: finish_it(
            space, found, forward=forward, observer=shown, interrupted=pending
        ),
        off,
    )  # fmt: skip


def rollback(
    inventory: InventoryOption,
    store: StoreOption = DEFAULT_STORE,
    journal: JournalOption = DEFAULT_JOURNAL,
    *,
    disarm: DisarmOption = False,
    json: JsonOption = False,
) -> None:
    """Undo what an interrupted deployment left, and prove it.

    Every host becomes what it was before. It takes the locks over: whoever held them is refused by
    the hosts from then on. A deployment that was proven is over, and nothing is left to undo: to go
    back from it, deploy the older release.
    """
    del json
    from deploytool.operations.rollouts import rollback as undo
    from deploytool.operations.workspace import Workspace
    from deploytool.rollout.model import Purpose

    space = Workspace.open(inventory, store=store, journal=journal)
    found = _find_interrupted(space, Purpose.ROLLBACK)
    off = disarm_first(space, found.release, Purpose.ROLLBACK, wished=disarm)
    say("Undoing it: taking the locks over, then bringing every touched host back and proving it.")
    _run(
        space, found.release, Purpose.ROLLBACK,
        lambda shown, pending: undo(space, found, observer=shown, interrupted=pending),
        off,
    )  # fmt: skip


def register(app: typer.Typer) -> None:
    """Puts the commands at the top level."""
    app.command()(plan)
    app.command()(deploy)
    app.command()(resume)
    app.command()(rollback)
