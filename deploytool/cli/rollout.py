"""``deploytool plan`` and ``deploy``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from deploytool.cli.disarming import disarm_first, name_them, naming
from deploytool.cli.interrupt import holder, interruptible
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
from deploytool.fleet.paths import folder_of

if TYPE_CHECKING:
    from deploytool.fleet.model import Inventory
    from deploytool.release.model import Release
    from deploytool.rollout.model import Plan, Purpose


DisarmOption = Annotated[
    bool,
    typer.Option(
        "--disarm", help="Turn off every armed flag first: the senders, then the hosts, observed."
    ),
]


def _inputs(inventory_path: Path, store: Path, word: str) -> tuple[Inventory, Release]:
    """What is to be deployed where, once nothing that the gate refuses speaks against it."""
    import time

    from deploytool.errors import InputError, Refused
    from deploytool.fleet.inventory import load_inventory
    from deploytool.gate.check_deploy import check_deploy
    from deploytool.release.store import find

    inventory = load_inventory(inventory_path)
    release = find(store, word)
    if release.manifest.name != inventory.service.name:
        raise InputError(
            f"The release is {release.manifest.name!r}, the service is {inventory.service.name!r}.",
            "Nothing was touched.",
            "Name a release of this service; see: deploytool release list",
        )
    if release.manifest.rehearsal_only and not inventory.throwaway:
        raise Refused(
            "RELEASE_REHEARSAL_ONLY",
            f"{release.label} is for rehearsals only, {inventory.fleet} is no throwaway fleet.",
            "Nothing was changed.",
            "Deploy another release, or rehearse: deploytool fleet up --fleet local",
        )
    check_deploy(inventory_path, release, store, time.time())
    return inventory, release


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
    import secrets

    from deploytool.arming.senders import senders_of
    from deploytool.cli.notices import way_back
    from deploytool.fleet.remote import connect_fleet
    from deploytool.release.store import known_releases
    from deploytool.rollout.admission import admit
    from deploytool.rollout.model import Purpose
    from deploytool.rollout.outcome import refused

    fleet, wanted = _inputs(inventory, store, release)
    hosts = connect_fleet(fleet)
    try:
        asked = senders_of(fleet, folder_of(inventory))
        known = known_releases(store)
        found = admit(fleet, wanted.manifest, hosts, secrets.token_hex(8), asked, known)
    finally:
        for host in hosts.values():
            host.close()
    if found.plan is None:
        raise refused(found.obstacles, wanted, Purpose.DEPLOY, str(inventory))
    say(f"{wanted.label} to {fleet.fleet}: plan {found.plan.id}")
    for item in found.plan.hosts:
        say(f"  {item.host:<16} {item.action.value}")
    for number, wave in enumerate(found.plan.waves, start=1):
        say(f"  wave {number}: {', '.join(wave)}")
    for line in way_back(fleet, inventory):
        say(line)
    if out is not None:
        _write(out, found.plan)
        bound = f"{quote(release)} --plan {quote(str(out))}"
        say(f"Written to {out}: deploytool deploy -i {quote(str(inventory))} {bound}")
    finish({"plan": found.plan.model_dump(mode="json")}, None)


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
    inventory_path: Path,
    fleet: Inventory,
    wanted: Release,
    folder: Path,
    purpose: Purpose,
    bound: Plan | None = None,
    *,
    forward: bool = False,
    off: tuple[str, ...] = (),
    store: Path = DEFAULT_STORE,
) -> None:
    """Runs a rollout to its end, shows it, and ends the command.

    ``off``: the flags that were turned off before; whatever goes wrong names them.
    """
    from deploytool.fleet.remote import connect_fleet
    from deploytool.rollout.model import Purpose

    hosts = connect_fleet(fleet, early=True)
    title = f"{'undo' if purpose is Purpose.ROLLBACK else 'deploy'} {wanted.label} on {fleet.fleet}"
    try:
        # Read in while the hosts answer.
        import secrets

        from deploytool.arming.senders import senders_of
        from deploytool.cli.screen import round_document, screen, show_halts, show_round
        from deploytool.parity.model import Parity
        from deploytool.release.store import known_releases
        from deploytool.rollout.journal import Journal, journal_path
        from deploytool.rollout.outcome import conclude, cut_short
        from deploytool.rollout.runner import Runner

        # Never the bound plan's: two runs of one plan are two deployers.
        plan_id = secrets.token_hex(8)
        with (
            naming(off),
            Journal(journal_path(folder, fleet.fleet)) as journal,
            interruptible() as pending,
            screen(fleet.names, title) as shown,
        ):
            journal.begin(plan_id, purpose.value, fleet.fleet, wanted.digest, holder())
            report = Runner(
                fleet,
                wanted,
                hosts,
                holder(),
                shown,
                journal,
                plan_id=plan_id,
                purpose=purpose,
                bound=bound,
                interrupted=pending,
                forward=forward,
                known=known_releases(store),
                senders=senders_of(fleet, folder_of(inventory_path)),
            ).run()
    except KeyboardInterrupt as again:  # the second Ctrl-C
        cut = cut_short(wanted.label, str(inventory_path))
        name_them(cut, off)
        raise cut from again
    finally:
        for host in hosts.values():
            host.close()
    error = conclude(report, str(inventory_path))
    if error is not None:
        name_them(error, off)
    if report.round is not None:
        show_round(report.round)
        show_halts(report.round, inventory_path)
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
    trouble = dict(sorted(report.trouble.items()))
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
    from deploytool.rollout.model import Purpose

    bound = _bound(plan_file)
    fleet, wanted = _inputs(inventory, store, release)
    off = disarm_first(fleet, inventory, wanted, Purpose.DEPLOY, bound, wished=disarm)
    _run(inventory, fleet, wanted, journal, Purpose.DEPLOY, bound, off=off, store=store)


def _find_interrupted(
    inventory_path: Path, store: Path, journal: Path, purpose: Purpose
) -> tuple[Inventory, Release]:
    """What an interrupted rollout was about, by what the hosts show; said before it is acted on."""
    from deploytool.fleet.inventory import load_inventory
    from deploytool.fleet.remote import connect_fleet
    from deploytool.rollout.recovery import describe_interrupted, locate

    fleet = load_inventory(inventory_path)
    hosts = connect_fleet(fleet)
    try:
        found = locate(fleet, hosts, store, journal, str(inventory_path), purpose)
    finally:
        for host in hosts.values():
            host.close()
    for line in describe_interrupted(found):
        say(line)
    return fleet, found.release


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
    from deploytool.rollout.model import Purpose

    fleet, release = _find_interrupted(inventory, store, journal, Purpose.RESUME)
    off = disarm_first(fleet, inventory, release, Purpose.RESUME, forward=forward, wished=disarm)
    say("Finishing it: taking the locks over, then staging, switching and proving what is missing.")
    _run(
        inventory, fleet, release, journal, Purpose.RESUME,
        forward=forward, off=off, store=store,
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
    from deploytool.rollout.model import Purpose

    fleet, release = _find_interrupted(inventory, store, journal, Purpose.ROLLBACK)
    off = disarm_first(fleet, inventory, release, Purpose.ROLLBACK, wished=disarm)
    say("Undoing it: taking the locks over, then bringing every touched host back and proving it.")
    _run(inventory, fleet, release, journal, Purpose.ROLLBACK, off=off, store=store)


def register(app: typer.Typer) -> None:
    """Puts the commands at the top level."""
    app.command()(plan)
    app.command()(deploy)
    app.command()(resume)
    app.command()(rollback)
