"""Judges what is beside the service on its host: processes, ports, and what may start it. Pure.

Which process is what to the service is told by the agent (``agent.acting``); what that means for a
proof is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploytool.agent.model import Other
from deploytool.core.finding import Finding, Level
from deploytool.parity.model import Evidence, Expected
from deploytool.parity.rules import named, short, unseen, wrong

_WAYS = {
    "executes": "executes",
    "maps": "maps",
    "interprets": "interprets",
    "port": "holds",
    "venue": "is connected to",
}
_EFFECTS = frozenset({"port", "venue"})
"""What is never done in passing: a client command that a person runs only executes a release."""
_FORBIDDEN = ("Permission denied", "Operation not permitted")
_DETAIL_AT_MOST = 160


def strays(evidence: Evidence) -> tuple[int, ...]:
    """Processes that run a release, act as the service, or hold its port, and are not of it."""
    service = set(evidence.shown.group)
    acting = {other.pid for other in evidence.others("acts")}
    holders = {owner.pid for owner in evidence.shown.owners if evidence.stayed(owner.pid)}
    return tuple(sorted((acting | holders) - service))


def lodgers(evidence: Evidence) -> tuple[int, ...]:
    """Processes that only run as the service's account, and were there to the end of the round."""
    return tuple(sorted(other.pid for other in evidence.others("account")))


def strays_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """What acts as the service is the service: systemd ends what it knows, and nothing else.

    Without systemd a switch ends every process of this root itself.
    """
    for pid in strays(evidence) if expected.unit_sha is not None else ():
        found = next((other for other in evidence.others("acts") if other.pid == pid), None)
        does = f": {found.detail[:100]}" if found is not None and found.detail else ""
        yield wrong("release and ports", "the service's alone", f"{named(evidence, pid)}{does}")


def acting_rule(_expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """Only the service runs a release of it, wherever that lies, or sends where it sends.

    What held a port or a connection counts although it ended during the round: it had its effects.
    """
    for other in evidence.shown.others:
        stayed = evidence.stayed(other.pid)
        if other.role != "acts" or not (stayed or _EFFECTS.intersection(other.ways)):
            continue
        who = _does(evidence, other) + ("" if stayed else ", and ended during the round")
        if other.ways == ("port",):
            yield wrong("ports", "the service's alone", who)
            continue
        copy = f" ({short(other.release)})" if other.release else ""
        yield wrong("running code", "the service alone", f"a second copy in {who}{copy}")


def _does(evidence: Evidence, other: Other) -> str:
    does = ", ".join(_WAYS.get(way, way) for way in other.ways)
    return f"{named(evidence, other.pid)}, which {does} {other.detail[:_DETAIL_AT_MOST]}"


def account_rule(_expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """Only the service runs as the service's account: what else does could act as it next."""
    for other in evidence.others("account"):
        what = f" ({other.detail[:_DETAIL_AT_MOST]})" if other.detail else ""
        yield wrong(
            "service's account", "used by the service alone", f"{named(evidence, other.pid)}{what}"
        )


def sight_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """All of the host was inspected: what can't be seen may act."""
    if expected.unit_sha is not None and not evidence.shown.whole:
        yield unseen("processes", "those of the whole host", "only some of them can be seen")
    for other in evidence.others("unseen"):
        why = other.detail[:_DETAIL_AT_MOST]
        if any(word in why for word in _FORBIDDEN):
            why += " (root lacks CAP_SYS_PTRACE there, or a security module forbids it)"
        who = named(evidence, other.pid)
        yield unseen("running code", "to be visible", f"{who}, unseen: {why}")


def ports_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """Only processes of the service's control group listen where the service has to."""
    service = set(evidence.shown.group)
    for port in expected.ports:
        holders = {owner.pid for owner in evidence.shown.owners if owner.port == port}
        is_open = port in evidence.shown.open_ports
        if expected.release is None:
            if holders or is_open:
                who = f"held by process {min(holders)}" if holders else "held by a hidden process"
                yield wrong(f"port {port}", "closed", who)
        elif not holders and is_open:
            yield unseen(f"port {port}", "held by the service", "held by a process out of sight")
        elif not holders:
            yield wrong(f"port {port}", "held by the service", "no process listens")
        elif not holders <= service:
            who = f"held by process {min(holders - service)}"
            yield wrong(f"port {port}", "held by the service", who)


def starters_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """Only the service's unit starts it, after a reboot too."""
    if expected.unit_path is None or not expected.surroundings:
        return
    what, own = "what starts the service", "its own unit alone"
    if evidence.shown.starters is None:
        yield unseen(what, own, "units, timers, cron and rc files were not inspected")
    for starter in evidence.shown.starters or ():
        if starter.names == "unreadable":
            yield unseen(what, own, f"{starter.path} can't be read, and may name anything")
        else:
            yield wrong(what, own, f"{starter.path}, which names its {starter.names}")


def bystanders_rule(_expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """Processes that have to do with the service and are no reason to doubt it: they are named."""
    for other in evidence.shown.others:
        who, stayed = named(evidence, other.pid), evidence.stayed(other.pid)
        detail = other.detail[:_DETAIL_AT_MOST]
        if other.role == "acts" and not (stayed or _EFFECTS.intersection(other.ways)):
            yield note(f"{_does(evidence, other)}, and ended during the round")
        elif other.role == "reader" and stayed:
            yield note(f"{who} reads a release: {detail}")
        elif other.role == "neighbour" and stayed:
            yield note(f"{who} is a neighbour that the inventory names: {detail}")
        elif other.role == "client" and stayed:
            yield note(f"{who} was started by another run of the agent")


def note(text: str) -> Finding:
    """Something that is printed, and decides nothing."""
    return Finding(Level.NOTE, "beside the service", "", text)
