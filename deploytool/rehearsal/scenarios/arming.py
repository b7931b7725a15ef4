"""A flag is armed on eight of eight, and on nothing less; while it is armed nobody deploys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploytool.arming.table import Purpose
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.members import Member, with_hosts
from deploytool.fleet.prepared import host_files
from deploytool.rehearsal.arming import Changed, change, inventory_with_senders
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.scenarios.model import Scenario, Showing
from deploytool.rehearsal.stage import Stage
from deploytool.rehearsal.trading import Trading

FLAG, BIT = "RETAIL_LIQUIDITY", 4
_PARENTS = 400
_HELD_BACK_S = 1.0


def flag_arming(stage: Stage, showing: Showing) -> None:
    """Seven new and one old: refused. Eight of eight: armed, used, and disarmed with one away."""
    first = stage.deploy(stage.candidate)
    showing.point(first.exit_code == 0, f"the build with the flag is deployed: {first.text}")
    if first.exit_code != 0:
        return
    with stage.trading() as trading:
        control = trading.flow.gateway.control.resolve()
        whole = inventory_with_senders(stage.fleet, control, "senders.yaml")
        victim = stage.last_host
        trading.ready((stage.candidate, stage.baseline))
        _one_is_old(stage, showing, whole, control)
        trading.ready((stage.candidate,))
        _eight_of_eight(stage, showing, trading, whole)
        _one_is_away(stage, showing, control, victim)
        books = trading.reconcile()
        showing.point(books.equal, f"client, routers and market agree: {books}")


def _one_is_old(stage: Stage, showing: Showing, whole: Path, control: Path) -> None:
    """The old build comes to one host, by an inventory that names no other."""
    victim = stage.last_host
    alone = inventory_with_senders(stage.fleet, control, "alone.yaml", only=(victim,))
    with _a_fleet_of_its_own(stage, victim):
        old = stage.by(alone).deploy(stage.baseline)
    showing.point(old.exit_code == 0, f"{victim} alone goes back to the old build: {old.text}")
    refused = change(whole, FLAG, Purpose.ARM)
    named = {o.host for o in refused.report.obstacles if o.rule == "ARM_PARITY"}
    showing.point(
        refused.exit_code == 3 and named == {victim},
        f"seven new, one old: {refused}; in the way by its build: {', '.join(sorted(named))}",
    )
    showing.point(_armed(stage) == {}, f"no router changed: armed are {_armed(stage) or 'none'}")
    again = stage.by(whole).deploy(stage.candidate)
    showing.point(again.exit_code == 0, f"the fleet is deployed again: {again.text}")


@contextmanager
def _a_fleet_of_its_own(stage: Stage, host: str) -> Iterator[None]:
    """Has a host believe that it is the whole fleet: with root on it, and no other way."""
    if isinstance(stage.fleet, LocalFleet):
        yield  # it keeps no list of members
        return
    inventory, machines = load_inventory(stage.inventory), stage.machines
    path = host_files(inventory, host, "").members_path or ""
    machine = machines.inside(host, ("cat", "/etc/machine-id")).out.strip()
    member = Member(name=host, machine=machine, root=inventory.root(host))
    text = with_hosts(inventory.fleet, {}, [member]).text
    script = 'cp -p "$1" "$1.kept" && printf %s "$2" >"$1"'
    machines.inside(host, ("sh", "-c", script, "sh", path, text))
    try:
        yield
    finally:
        machines.inside(host, ("mv", "-T", f"{path}.kept", path))


def _eight_of_eight(stage: Stage, showing: Showing, trading: Trading, whole: Path) -> None:
    trading.flagged(_PARENTS, BIT)
    waiting = trading.held_back(_HELD_BACK_S)
    showing.point(waiting == _PARENTS, f"{waiting} of {_PARENTS} flagged parents are held back")
    armed = change(whole, FLAG, Purpose.ARM)
    window = armed.report.window_s or 0.0
    showing.point(
        armed.exit_code == 0 and set(_armed(stage)) == {h.name for h in stage.record.hosts},
        f"eight of eight: {armed}, on {len(_armed(stage))} hosts, all within {window:.2f} s",
    )
    trouble = trading.all_done(_PARENTS)
    showing.point(not trouble, trouble or f"{_PARENTS} flagged parents flowed through all hosts")
    for release in (stage.baseline, stage.candidate):
        ended = stage.by(whole).deploy(release)
        rules = {o.rule for o in ended.report.obstacles} if ended.report else set()
        showing.point(
            ended.exit_code == 3 and "FLAGS_ARMED" in rules and len(_armed(stage)) > 0,
            f"while it is armed, deploying {release.label} is refused: exit {ended.exit_code}",
        )


def _one_is_away(stage: Stage, showing: Showing, control: Path, victim: str) -> None:
    dark = inventory_with_senders(stage.fleet, control, "dark.yaml", dark=(victim,))
    odd = change(dark, FLAG, Purpose.DISARM)
    showing.point(
        odd.exit_code == 5 and _named(odd) == {victim} and set(_armed(stage)) == {victim},
        f"disarming with {victim} out of reach: {odd}; armed: {', '.join(_armed(stage))}",
    )
    showing.point(odd.report.in_use is False, "the senders have withdrawn it all the same")
    whole = inventory_with_senders(stage.fleet, control, "senders.yaml")
    off = change(whole, FLAG, Purpose.DISARM)
    showing.point(off.exit_code == 0 and _armed(stage) == {}, f"in reach again: {off}")


def _named(changed: Changed) -> set[str]:
    return {line.split(":")[0] for line in changed.error.details} if changed.error else set()


def _armed(stage: Stage) -> dict[str, list[str]]:
    """What each host's process says is armed, by an evidence round."""
    taken = stage.status().round
    said = {
        item.host: list((item.evidence.status or {}).get("armed") or ())  # type: ignore[call-overload]
        for item in (taken.hosts if taken else ())
        if item.evidence is not None
    }
    return {host: names for host, names in said.items() if names}


FLAG_ARMING = Scenario(
    "flag-arming",
    "a flag on eight of eight hosts, and on nothing less",
    flag_arming,
    factor_at_most=4.0,  # a certificate holds for half a minute after the look, on any host
)
