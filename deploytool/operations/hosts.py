"""Making bare hosts ready, showing what they lack, letting one in, and taking one out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploytool.core.finding import Finding
from deploytool.errors import HostFault, Refused
from deploytool.operations.connect import connected
from deploytool.operations.proving import probe
from deploytool.operations.workspace import Workspace, holder

if TYPE_CHECKING:
    from deploytool.fleet.prepare import Admin, Prepared
    from deploytool.parity.model import Evidence, Expected, RoundAnswers


@dataclass(frozen=True)
class StrikeResult:
    """What became of taking a host off the list of members.

    ``epoch``: of the list without it; 0: no list that holds had it. ``failed``: why a host does not
    keep that list; those that did not answer get it from the next preparation.
    """

    epoch: int
    failed: Mapping[str, HostFault]


def _untold(_line: str) -> None:
    """Stands for a caller that shows nothing."""


@dataclass(frozen=True)
class HostCheck:
    """What hosts showed, what each must show, and all that they lack."""

    answers: RoundAnswers
    expected: Mapping[str, Expected]
    lacking: tuple[Finding, ...]


@dataclass(frozen=True)
class LetInResult:
    """What became of letting a host in: what was said, and what the host showed afterwards.

    ``trouble``: why it was not let in, or that this is not known; else empty.
    """

    said: str
    trouble: str
    answer: Evidence | HostFault


def prepare_hosts(
    space: Workspace,
    admin: Admin,
    only: tuple[str, ...] = (),
    *,
    tell: Callable[[str], None] = _untold,
) -> Mapping[str, Prepared | HostFault]:
    """Makes hosts ready to be deployed to; what was done on each, or why it could not be done.

    Args:
        space: the fleet.
        admin: the account to prepare with, and the key that the deploy account lets in.
        only: these hosts, where not all of them.
        tell: is given a line for each host that answered.

    Raises:
        InputError: a name is no declared host's.
    """
    from deploytool.fleet.prepare import prepare_fleet
    from deploytool.fleet.select import select_hosts

    return prepare_fleet(space.path, admin, tell, hosts=select_hosts(space.inventory, only))


def check_hosts(space: Workspace, only: tuple[str, ...] = ()) -> HostCheck:
    """What each host lacks before a release can be deployed to it. It changes nothing.

    Raises:
        InputError: a name is no declared host's.
    """
    from deploytool.fleet.select import select_hosts
    from deploytool.parity.judge import expect
    from deploytool.rollout.checks import readiness

    chosen = select_hosts(space.inventory, only)
    seen = probe(space, chosen, surroundings=True)
    expected = {name: expect(space.inventory, name, None) for name in chosen}
    return HostCheck(seen, expected, readiness(seen, expected))


def let_host_in(space: Workspace, host: str, admin: Admin, reason: str) -> LetInResult:
    """Lets a stopped host serve again, as root on it, where the inventory names no signers.

    Raises:
        InputError: it is no declared host.
        Refused: the inventory names signers: two people start a host.
    """
    from deploytool.fleet.letting_in import let_in
    from deploytool.fleet.select import select_hosts
    from deploytool.parity.round import probe_request, take_round
    from deploytool.stop.escalation import in_words

    select_hosts(space.inventory, (host,))
    if space.inventory.signers is not None:
        raise Refused(
            "START_SIGNERS",
            "Refused by START_SIGNERS: the inventory names signers.",
            "Nothing was changed: with signers, two people start a host.",
            f"deploytool start -i {space.named} --host {host} --reason TEXT --by YOU",
        )
    said, trouble = "", ""
    try:
        said = let_in(space.inventory, host, admin, in_words(holder()), in_words(reason))
    except HostFault as fault:
        trouble = str(fault)
    with connected(space.inventory, only=(host,)) as hosts:
        return LetInResult(
            said, trouble, take_round(hosts, probe_request(), space.deadline_s)[host]
        )


def retire_host(space: Workspace, host: str) -> None:
    """Stops a host's service for good, and keeps it from coming back with a reboot.

    Raises:
        InputError: it is no declared host.
        HostFault: it was not done, or that is not known.
    """
    from deploytool.fleet.retire import stop_for_good
    from deploytool.fleet.select import select_hosts

    select_hosts(space.inventory, (host,))
    with connected(space.inventory, only=(host,)) as hosts:
        stop_for_good(hosts[host], holder(), space.deadline_s)


def strike_host(
    space: Workspace, host: str, admin: Admin, *, tell: Callable[[str], None] = _untold
) -> StrikeResult:
    """Takes a host off the list of members that the others keep.

    Args:
        space: the fleet; the host need not be declared any more.
        host: its name.
        admin: the account that writes the list.
        tell: is given a line for what was written, and for each host that did not answer.
    """
    from deploytool.fleet.membership import strike_member
    from deploytool.fleet.prepare import root_shells

    if space.inventory.service.supervisor != "systemd":
        return StrikeResult(0, {})
    shells = root_shells(space.inventory, admin)
    made, failed = strike_member(space.inventory, host, shells, tell)
    return StrikeResult(0 if made is None else made.epoch, failed)


def purge_host(space: Workspace, host: str, admin: Admin) -> tuple[tuple[str, ...], str]:
    """Takes away what preparations brought to a retired host: what was removed, and what was left.

    Raises:
        InputError: it is no declared host.
        HostFault: it was not all done, or that is not known; the same once more goes on.
    """
    from deploytool.fleet.prepare import purge
    from deploytool.fleet.select import select_hosts

    select_hosts(space.inventory, (host,))
    return purge(space.inventory, host, admin)


def install_signers(
    space: Workspace, admin: Admin, *, tell: Callable[[str], None] = _untold
) -> Mapping[str, str]:
    """Puts the signers file on every host; by host, empty where it was seen to have it, or why not.

    Args:
        space: the fleet, as it was read after the file was written.
        admin: the account to install with.
        tell: is given a line for each host that answered.
    """
    from deploytool.fleet.prepare import prepare_fleet
    from deploytool.parity.judge import expect
    from deploytool.parity.rules import signers_rule

    outcomes = prepare_fleet(space.path, admin, tell)
    found: dict[str, str] = {}
    for name, item in probe(space).items():
        outcome = outcomes[name]
        if isinstance(item, HostFault):
            found[name] = str(outcome if isinstance(outcome, HostFault) else item)
        else:
            findings = signers_rule(expect(space.inventory, name, None), item)
            found[name] = "; ".join(map(str, findings))
    return found
