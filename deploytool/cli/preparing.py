"""What ``deploytool host`` does, says, and ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shlex import join, quote

from deploytool.cli.notices import say_notices, way_back
from deploytool.cli.output import finish, say
from deploytool.errors import FaultKind, HostFault, InputError, NotProven
from deploytool.fleet.model import Inventory
from deploytool.fleet.prepare import Admin, admin_of, read_public_key
from deploytool.fleet.retire import pin_replacement
from deploytool.fleet.select import select_hosts
from deploytool.operations.hosts import (
    check_hosts,
    let_host_in,
    prepare_hosts,
    purge_host,
    retire_host,
    strike_host,
)
from deploytool.operations.workspace import Workspace
from deploytool.parity.host_notices import last_of
from deploytool.parity.model import Evidence, Expected, Verdict
from deploytool.parity.remedies import readying
from deploytool.parity.table import ProofUse, judge_fleet, judge_host
from deploytool.parity.words import Trades, words


def prepare(
    inventory: Path,
    admin: str | None,
    admin_key: Path | None,
    authorize: Path | None,
    host: list[str] | None,
    *,
    dry_run: bool,
) -> None:
    """Carries out the command of this name, and ends it."""
    space = Workspace.open(inventory)
    chosen = select_hosts(space.inventory, tuple(host or ()))
    authorized = read_public_key(authorize) if authorize else None
    who = replace(admin_of(admin, admin_key), authorize=authorized, dry=dry_run)
    outcomes = prepare_hosts(space, who, chosen, tell=say)
    failed = {name: str(o) for name, o in outcomes.items() if isinstance(o, HostFault)}
    done = {n: o for n, o in outcomes.items() if not isinstance(o, HostFault)}
    changed = {name: list(outcome.changed) for name, outcome in done.items()}
    left = {name: outcome.left for name, outcome in done.items() if outcome.left}
    error = None
    if failed:
        error = NotProven(
            f"{len(failed)} of {len(outcomes)} hosts are NOT prepared.",
            "No release was touched. A deployment will be refused until they are.",
            _prepare_again(inventory, outcomes, admin, admin_key, authorize),
            tuple(f"{name}: {text}" for name, text in failed.items()),
        )
    elif dry_run:
        say("Nothing was changed.")
    else:
        say(f"All {len(outcomes)} hosts are prepared.")
    document = {"changed": changed, "left": left, "failed": failed, "dry_run": dry_run}
    finish(document, error)


def _dark(outcomes: Mapping[str, object]) -> str | None:
    """The first unreachable host. One that only rejects our login does not count."""
    kinds = {FaultKind.UNREACHABLE, FaultKind.HOST_KEY, FaultKind.TIMEOUT, FaultKind.LOST}
    found = (h for h, o in outcomes.items() if isinstance(o, HostFault) and o.kind in kinds)
    return next(found, None)


def _prepare_again(
    inventory: Path,
    outcomes: Mapping[str, object],
    admin: str | None,
    admin_key: Path | None,
    authorize: Path | None,
) -> str:
    """What to do where a host could not be prepared."""
    words = [*("deploytool", "host", "prepare", "-i", str(inventory))]
    for option, value in (
        ("--admin", admin), ("--admin-key", admin_key), ("--authorize", authorize),
    ):  # fmt: skip
        words += [] if value is None else [option, str(value)]
    dark = _dark(outcomes)
    first = f"See why {dark} gives no answer" if dark else "Fix what the lines name"
    return f"{first} (docs/runbook.md has what each means), then: {join(words)}"


def _after_check(
    inventory: Path,
    fleet: Inventory,
    seen: Mapping[str, Evidence | HostFault],
    expected: Mapping[str, Expected],
) -> str:
    """What to do where a host is not ready."""
    again = f"deploytool host check -i {quote(str(inventory))}"
    prepare = f"deploytool host prepare -i {quote(str(inventory))}{_as_root(fleet)}"
    if dark := _dark(seen):
        return (
            f"See why {dark} gives no answer (docs/runbook.md has what each means), then: {again}"
        )
    answers = {name: item for name, item in seen.items() if isinstance(item, Evidence)}
    if len(answers) < len(seen):
        return prepare  # it lets no one in yet, or has no agent
    judged = judge_fleet(
        (judge_host(h, expected[h], item, ProofUse.CHANGE) for h, item in answers.items()),
        ProofUse.CHANGE,
    )
    bad = [v for v in judged if v.verdict is not Verdict.MATCH]
    return readying(bad, str(inventory), prepare, again)


def _as_root(fleet: Inventory) -> str:
    """The option for preparing: without systemd the deploy account prepares its hosts itself."""
    return " --admin root" if fleet.service.supervisor == "systemd" else ""


def check(inventory: Path, host: list[str] | None) -> None:
    """Carries out the command of this name, and ends it."""
    fleet = (space := Workspace.open(inventory)).inventory
    found = check_hosts(space, tuple(host or ()))
    say_notices(found.answers)
    lacking, chosen = found.lacking, tuple(found.expected)
    missing = {name: [o.text for o in lacking if o.host == name] for name in chosen}
    for name in chosen:
        state = "ready" if not missing[name] else "NOT ready"
        say(f"{name}: {state}")
    for line in way_back(fleet, inventory):
        say(line)
    error = None
    if lacking:
        error = NotProven(
            f"{sum(map(bool, missing.values()))} of {len(chosen)} hosts are not ready.",
            "A deployment to this fleet will be refused.",
            _after_check(inventory, fleet, found.answers, found.expected),
            tuple(o.line for o in lacking),
        ).found(lacking)
    finish({"hosts": missing}, error)


def let_in(
    host: str, inventory: Path, reason: str, admin: str | None, admin_key: Path | None
) -> None:
    """Carries out the command of this name, and ends it."""
    space = Workspace.open(inventory)
    end = let_host_in(space, host, admin_of(admin, admin_key), reason)
    seen, said, trouble = last_of(end.answer), end.said, end.trouble
    last = words(seen)
    say(f"{host}: {last.text}{f' ({trouble or said})' if trouble or said else ''}")
    error = None
    if trouble or last.trades is not Trades.YES or last.unfinished:
        error = NotProven(
            f"{host}: {last.text}.",
            "It was not let in." if trouble else "It was let in; this is what it shows now.",
            f"deploytool status -i {space.named}",
            (trouble,) if trouble else (),
        )
    finish({"host": host, "state": seen.state or "not seen"}, error)


def retire(
    host: str,
    inventory: Path,
    replacement_key: Path | None,
    admin: Admin,
    *,
    gone: bool = False,
    purge: bool = False,
) -> None:
    """Carries out the command of this name, and ends it."""
    if gone and purge:
        raise InputError(
            "--purge takes things away on a host, and --gone says that it does not answer.",
            "Nothing was touched.",
            "Leave one of the two out.",
        )
    fleet = (space := Workspace.open(inventory)).inventory
    if not gone or replacement_key is not None:  # one that is gone may be gone from the file too
        select_hosts(fleet, (host,))
    key = read_public_key(replacement_key) if replacement_key is not None else None
    stopped = False
    if not gone:
        try:
            retire_host(space, host)
            stopped = True
            say(f"{host}: stopped, and it stays so after a reboot.")
        except HostFault as fault:
            if purge and _half_purged(fleet, fault):
                say(f"{host}: {fault}. Root looks whether its service runs.")
            else:
                raise _not_retired(host, inventory, replacement_key, fault) from fault
    epoch = _strike(space, host, admin)
    removed = _purge(space, host, admin, stopped=stopped) if purge else ()
    if key is not None:
        say(f"{host}: the replacement's key is pinned as {pin_replacement(fleet, host, key)}.")
        say(f"Next: deploytool host prepare -i {inventory} --host {host}{_as_root(fleet)}")
    elif host in fleet.names:
        say(f"Next: take {host} out of {inventory}, and lower 'expect' to {fleet.expect - 1}.")
    document: dict[str, object] = {
        "host": host,
        "stopped": not gone,
        "pinned": key is not None,
        "removed": list(removed),
        "members_epoch": epoch,
    }
    finish(document, None)


def _half_purged(fleet: Inventory, fault: HostFault) -> bool:
    """Whether a purge that broke off may have left this; a purge goes on where nothing runs."""
    kinds = {FaultKind.AUTH, FaultKind.RIGHTS, FaultKind.AGENT}
    return fleet.service.supervisor == "systemd" and fault.kind in kinds


def _not_retired(
    host: str, inventory: Path, replacement_key: Path | None, fault: HostFault
) -> NotProven:
    again = f"deploytool host retire {host} -i {quote(str(inventory))}"
    again += f" --replacement-key {quote(str(replacement_key))}" if replacement_key else ""
    return NotProven(
        f"{host} is NOT shown to be out of service: {fault}",
        "It may serve now, or come back; no other host was asked, and no key was pinned.",
        f"Once it answers: {again} (a lock that this left lets it through), "
        f"or switch it off, then: {again} --gone",
    )


def _strike(space: Workspace, host: str, admin: Admin) -> int:
    """Takes the host off the other hosts' list of members; gives the list's epoch, 0 without one.

    Raises:
        NotProven: a host that answered still lists it, or none answered.
    """
    end = strike_host(space, host, admin, tell=say)
    if end.failed:
        raise NotProven(
            f"{host} was NOT taken off the list of members on {len(end.failed)} hosts.",
            "As long as the list and the inventory differ, a deployment is refused.",
            "Fix what the lines name, then: "
            f"deploytool host retire {host} -i {space.named} --gone --admin root",
            tuple(f"{name}: {fault}" for name, fault in end.failed.items()),
        )
    return end.epoch


def _purge(space: Workspace, host: str, admin: Admin, *, stopped: bool) -> tuple[str, ...]:
    """Takes away what preparations brought there, and says it; only where nothing was seen to run.

    ``stopped``: its service was just stopped for good.
    """
    try:
        removed, left = purge_host(space, host, admin)
    except HostFault as fault:
        raise NotProven(
            f"{host} was stopped for good, and is NOT purged: {fault}"
            if stopped
            else f"{host} is neither shown to be out of service nor purged: {fault}",
            "Some of what preparations brought may be gone; no other host was asked.",
            "Fix what the line names, then: "
            f"deploytool host retire {host} -i {space.named} --purge --admin root",
        ) from fault
    for path in removed:
        say(f"{host}: removed {path}")
    if left:
        say(f"{host}: left {left}")
    return removed
