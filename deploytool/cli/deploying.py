"""What ``deploytool plan``, ``deploy``, ``resume`` and ``rollback`` do, say, and end with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shlex import quote

from pydantic import ValidationError

from deploytool.cli.disarming import disarm_first, name_them, naming
from deploytool.cli.interrupt import interruptible
from deploytool.cli.notices import way_back
from deploytool.cli.output import finish, inventory_named, say
from deploytool.cli.screen import RolloutScreen, round_document, show_halts, show_round
from deploytool.core.observer import Observer
from deploytool.errors import InputError
from deploytool.operations import rollouts
from deploytool.operations.rollouts import RolloutEnd, find_candidate
from deploytool.operations.workspace import Workspace
from deploytool.parity.model import Parity
from deploytool.release.model import Release
from deploytool.rollout.model import Plan, Purpose
from deploytool.rollout.recovery import InterruptedRollout, describe_interrupted


def plan(inventory: Path, release: str, out: Path | None, store: Path) -> None:
    """Makes a plan and shows it."""
    space = Workspace.open(inventory, store=store)
    candidate = find_candidate(space, release)
    made = rollouts.plan(candidate)
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
    try:
        out.write_text(plan.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"The plan can't be written to {out}: {error.strerror}",
            "Nothing was touched.",
            "Name a file in a folder that is there, and yours: --out FILE",
        ) from error


def _bound(path: Path | None) -> Plan | None:
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
    inventory: Path,
    release: str,
    plan_file: Path | None,
    store: Path,
    journal: Path,
    *,
    take_over: bool,
    disarm: bool,
    halted: bool,
) -> None:
    """Deploys, and ends the command."""
    bound = _bound(plan_file)
    space = Workspace.open(inventory, store=store, journal=journal)
    candidate = find_candidate(space, release)
    purpose = Purpose.SUPERSEDE if take_over else Purpose.DEPLOY
    off = disarm_first(space, candidate.release, purpose, bound, wished=disarm)
    _run(
        space, candidate.release, purpose,
        lambda shown, pending: rollouts.deploy(
            candidate, bound=bound, take_over=take_over, halted=halted, observer=shown,
            interrupted=pending,
        ),
        off,
    )  # fmt: skip


def _find_interrupted(space: Workspace, purpose: Purpose) -> InterruptedRollout:
    """What an interrupted rollout was about, by what the hosts show; said before it is acted on."""
    found = rollouts.find_interrupted(space, purpose)
    for line in describe_interrupted(found):
        say(line)
    return found


def resume(
    inventory: Path, store: Path, journal: Path, *, forward: bool, halted: bool, disarm: bool
) -> None:
    """Finishes what an interrupted rollout left, and ends the command."""
    space = Workspace.open(inventory, store=store, journal=journal)
    found = _find_interrupted(space, Purpose.RESUME)
    off = disarm_first(space, found.release, Purpose.RESUME, forward=forward, wished=disarm)
    say("Finishing it: taking the locks over, then staging, switching and proving what is missing.")
    _run(
        space, found.release, Purpose.RESUME,
        lambda shown, pending: rollouts.resume(
            space, found, forward=forward, halted=halted, observer=shown, interrupted=pending
        ),
        off,
    )  # fmt: skip


def rollback(inventory: Path, store: Path, journal: Path, *, halted: bool, disarm: bool) -> None:
    """Undoes what an interrupted rollout left, and ends the command."""
    space = Workspace.open(inventory, store=store, journal=journal)
    found = _find_interrupted(space, Purpose.ROLLBACK)
    off = disarm_first(space, found.release, Purpose.ROLLBACK, wished=disarm)
    say("Undoing it: taking the locks over, then bringing every touched host back and proving it.")
    _run(
        space, found.release, Purpose.ROLLBACK,
        lambda shown, pending: rollouts.rollback(
            space, found, halted=halted, observer=shown, interrupted=pending
        ),
        off,
    )  # fmt: skip
