"""Whether the inventory lists the fleet: what the hosts' own lists of members say of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deploytool.core.finding import Finding, Level
from deploytool.fleet.members import Member, Members, agree, belongs
from deploytool.parity.model import Evidence, Expected
from deploytool.parity.rules import unseen, wrong

_NAMED = 8
"""So many hosts are named in one line."""


def list_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The host keeps a list of this fleet's members."""
    if expected.unit_sha is None:
        return  # without root there is no list that could be believed
    kept = evidence.members
    if not isinstance(kept, Members):
        why = kept or "the agent did not show it"
        yield unseen("list of members", "one that a preparation wrote", why)
    elif kept.fleet != expected.fleet:
        found = f"one of the fleet {kept.fleet}"
        yield unseen("list of members", f"one of the fleet {expected.fleet}", found)


def listed(
    declared: frozenset[str], evidence: Mapping[str, Evidence]
) -> Iterator[tuple[str, Finding]]:
    """The inventory lists the members of the list that holds, and no others.

    A host that keeps an older one has nothing to say about it. Where lists contradict each other,
    each of them counts.
    """
    kept = _kept(evidence)
    newest = agree(kept).newest
    for host, members in kept.items() if declared else ():
        if newest is not None and members != newest:
            continue
        if lacking := sorted(members.names - declared):
            yield (
                host,
                Finding(
                    Level.UNKNOWN,
                    "members",
                    "each in the inventory",
                    f"not in it: {_named(lacking)} (epoch {members.epoch})",
                    aspect="unlisted",
                    facts={"hosts": " ".join(lacking), "epoch": members.epoch},
                ),
            )
        if strange := sorted(declared - members.names):
            found = f"no members: {_named(strange)} (epoch {members.epoch})"
            yield host, unseen("hosts of the inventory", "members", found, "strange")


def _named(hosts: list[str]) -> str:
    more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
    return f"{', '.join(hosts[:_NAMED])}{more}"


def lists(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """Each host that keeps a list keeps the newest one, which replaced all others."""
    agreed = agree(_kept(evidence))
    newest = agreed.newest
    wanted = f"epoch {newest.epoch}, as others" if newest else "one that replaced all others"
    for host, why in agreed.lacking.items():
        yield host, unseen("list of members", wanted, why)


def memberships(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """Each host is the member of its name: the same machine, with the same release root."""
    kept = _kept(evidence)
    for host, seen in evidence.items():
        if seen.members is None or not kept:
            continue
        member = belongs(kept, host)
        if member is None:
            yield host, wrong("member", "on the list of members", "taken off it, or never on it")
        elif member.identity != seen.identity:
            yield host, wrong("member", "the machine that the list has", _other(member, seen))


def _kept(evidence: Mapping[str, Evidence]) -> dict[str, Members]:
    shown = {host: seen.members for host, seen in evidence.items()}
    return {host: item for host, item in shown.items() if isinstance(item, Members)}


def _other(member: Member, seen: Evidence) -> str:
    if member.machine == seen.machine:
        return f"the release root {seen.root}, not {member.root}"
    return f"machine-id {seen.machine[:12]}, not {member.machine[:12]}"
