"""Why a host may not be started, and what to do then. Pure.

One person asks, a second one signs: ``ssh-keygen -Y sign -n start.deploytool``. The router checks
the request itself (docs/wire.md, section 4); what is checked here is checked before it is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import quote

from deploytool.core.finding import Finding, Level, forbids
from deploytool.errors import HostFault
from deploytool.fleet.model import Inventory
from deploytool.parity.host_notices import down, last_of, trades
from deploytool.parity.judge import expect
from deploytool.parity.model import Evidence, HostVerdict
from deploytool.parity.table import ProofUse, judge_fleet, judge_host
from deploytool.parity.words import words
from deploytool.release.model import Manifest
from deploytool.start.request import CLOCK_SKEW_S, NO_STOP, StartRequest, signing


def latch_of(evidence: Evidence) -> str:
    """The latch that a request for this host has to name: the router's own where it has one.

    Empty where nothing holds it.
    """
    own = (evidence.status or {}).get("latch")
    if isinstance(own, str) and own:
        return own
    if evidence.halt is None:
        return ""
    return evidence.halt.artifact or evidence.halt.latch


def stop_of(evidence: Evidence) -> str:
    """The stop that holds a host, as a request names it; ``none`` for what halted by itself."""
    return (evidence.halt.latch if evidence.halt is not None else "") or NO_STOP


def fleet_objections(
    inventory: Inventory, seen: Mapping[str, Evidence | HostFault], manifest: Manifest | None
) -> Iterator[Finding]:
    """A fleet is started only where every host was seen, and all of them run, or hold, one release.

    A host that was fenced has nothing that runs; all else must be there.
    """
    verdicts = []
    for host, outcome in seen.items():
        if isinstance(outcome, HostFault):
            yield forbids(host, "START_UNSEEN", f"can't be seen: {outcome}")
            continue
        fenced = outcome.halt is not None and outcome.halt.fenced
        if outcome.halt is not None and trades(outcome):
            yield forbids(host, "START_TRADES", words(last_of(outcome)).text)
            continue
        expected = expect(inventory, host, manifest, verified=False)
        purpose = ProofUse.HELD if fenced or down(outcome) else ProofUse.START
        verdict = judge_host(host, expected, outcome, purpose)
        verdicts.append(verdict)
        if manifest is None:
            yield forbids(host, "START_MIXED", "no release is active on any host")
    for verdict in judge_fleet(verdicts, ProofUse.START):
        if (text := _worst(verdict)) is not None:
            yield forbids(verdict.host, "START_MIXED", text)


def _worst(verdict: HostVerdict) -> str | None:
    ranked = sorted(verdict.findings, key=lambda finding: finding.level is Level.UNKNOWN)
    return str(ranked[0]) if ranked else None


def host_objections(host: str, evidence: Evidence) -> Iterator[Finding]:
    """Whether a host is one that can be started: it is latched, and its cause is gone."""
    if not latch_of(evidence):
        yield forbids(host, "START_NOT_STOPPED", "nothing holds it: it was not stopped")
    cause = (evidence.status or {}).get("cause")
    if isinstance(cause, str) and cause:
        yield forbids(host, "START_CAUSE", f"what stopped it still holds: {cause}")


def request_objections(
    request: StartRequest, inventory: Inventory, evidence: Evidence | HostFault | None, now: float
) -> Iterator[Finding]:
    """Whether a request, its signature aside, is for this fleet and for the stop that holds now."""
    host = request.host
    if request.fleet != inventory.fleet:
        yield forbids(host, "START_FLEET", f"the request is for the fleet {request.fleet}")
    if now > request.expires:
        yield forbids(host, "START_EXPIRED", f"it expired {now - request.expires:.0f} s ago")
    if now < request.issued - CLOCK_SKEW_S:
        yield forbids(host, "START_FUTURE", "it was issued in the future")
    if not isinstance(evidence, Evidence):
        return
    latch = latch_of(evidence)
    if latch and latch != request.latch:
        text = f"it is for latch {request.latch}, what holds now is {latch}"
        yield forbids(host, "START_LATCH", text)
    if (stop := stop_of(evidence)) != request.stop:
        by = f" by {evidence.halt.by}" if evidence.halt is not None else ""
        text = f"it is for stop {request.stop}, what holds now is stop {stop}{by}"
        yield forbids(host, "START_STOPPED_AGAIN", text)


def people_objection(request: StartRequest, signer: str, names: frozenset[str]) -> Finding | None:
    """Two people, both known: who asks, and who signs."""
    if request.by not in names:
        text = f"{request.by}, who asks, is none of the signers: {', '.join(sorted(names))}"
        return forbids(request.host, "START_PERSON", text)
    if signer.casefold() == request.by.casefold():
        text = f"{signer} asked for it and signed it: a second person must sign"
        return forbids(request.host, "START_SECOND_PERSON", text)
    return None


def way_out(
    rules: set[str], inventory: str, chosen: tuple[str, ...], requests: tuple[str, ...]
) -> str:
    """What to do where some of these rules refused, the last thing a command to paste.

    ``inventory`` as it is pasted; ``chosen``: the hosts, none for all that are stopped;
    ``requests``: the files that were signed, where it came to that.
    """
    hosts = " ".join(f"--host {host}" for host in chosen) or "--all"
    again = f"deploytool start -i {inventory} {hosts} --reason TEXT --by YOU"
    status = f"deploytool status -i {inventory}"
    if "START_TRADES" in rules:
        return (
            f"Stop them again: deploytool stop -i {inventory} {hosts}; and then ask again: {again}"
        )
    if rules & {"START_UNSEEN", "START_MIXED", "START_HOST"}:
        return f"Do first what this advises: {status}; then ask again: {again}"
    if "START_NOT_STOPPED" in rules:
        return f"See what is stopped, and start only that: {status}"
    if "START_CAUSE" in rules:
        return f"Fix the cause that the lines name, then ask again: {again}"
    named = " ".join(f"--request {quote(file)}" for file in requests)
    start = f"deploytool start -i {inventory} {named}"
    if "START_FLAGS_READ_DIFFERENTLY" in rules:
        then = start if requests and len(rules) == 1 else again
        return (
            f"Have the senders withdraw those bits (deploytool flags disarm FLAG -i {inventory}), "
            f"or deploy what served when it was stopped; then: {then}"
        )
    if requests and rules <= {"START_SECOND_PERSON", "START_SIGNATURE"}:
        return f"Have another person sign: {signing(requests)}; then: {start}"
    return f"Ask again, as one of the signers: {again}"
