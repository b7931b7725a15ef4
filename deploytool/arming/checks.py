"""Whether a flag may be armed now, and every host that stands in the way, with why. Pure.

A flag is armed only on a fleet that was proven, in one fresh round, to be the same everywhere,
that nobody is changing, that serves as it was declared, and whose senders can be seen. Whatever
is not known stands in the way like what is known to be wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from deploytool.arming.certificate import CLOCK_SKEW_S
from deploytool.core.finding import Finding, forbids
from deploytool.core.text import excerpt
from deploytool.parity.model import Evidence, HostVerdict, Round, Verdict
from deploytool.parity.rules import first_trouble, short
from deploytool.registry.model import FlagEntry, entries_of
from deploytool.release.model import Manifest

FLEET = "fleet"
"""The host of an obstacle that is nobody's own."""
AGE_AT_MOST_S = 30.0
"""How old what was seen may be: a round, a census, what the senders showed."""


@dataclass(frozen=True)
class Census:
    """Who takes traffic, by those who send it; ``taken`` in seconds since the epoch."""

    taken: float
    serving: frozenset[str]


@dataclass(frozen=True)
class SenderObservation:
    """What the senders showed of themselves.

    ``bits``: which any of them sets in messages, or has set in orders that are still open.
    ``sessions``: for each host that they are logged in to, the releases that the logins showed.
    """

    taken: float
    bits: frozenset[int]
    sessions: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Situation:
    """All that is known when a flag is to be armed; a text says why something is not known.

    ``manifest`` is that of the release that the round was checked against; ``taken`` and ``now``
    are seconds since the epoch, by the clock of the machine that asks.
    """

    flag: str
    declared: tuple[str, ...]
    round: Round
    manifest: Manifest | None
    taken: float
    now: float
    census: Census | str
    gateway: SenderObservation | str

    @property
    def seen(self) -> dict[str, Evidence]:
        """The evidence of each host that gave some."""
        return {v.host: v.evidence for v in self.round.hosts if v.evidence is not None}


def find_flag(manifest: Manifest | None, name: str) -> FlagEntry:
    """The runtime flag of that name in a release.

    Raises:
        ValueError: it has none; says why.
    """
    if manifest is None or manifest.flags is None:
        raise ValueError("no release with a flag table is active")
    label = f"{manifest.name} {manifest.version}"
    found = [e for e in entries_of(manifest.flags, label) if e.name == name]
    for entry in found:
        if entry.reserved:
            raise ValueError(f"{name} is retired in {label}: nothing carries it out")
        if entry.activation != "runtime":
            raise ValueError(f"{name} is always on in {label}: it is not armed")
    if len(found) != 1:
        raise ValueError(f"{label} has no flag {name}")
    return found[0]


def obstacles(situation: Situation) -> tuple[Finding, ...]:
    """Everything that stands in the way, all at once; empty only where it may be armed."""
    return tuple(obstacle for rule in RULES for obstacle in rule(situation))


def parity_rule(situation: Situation) -> Iterator[Finding]:
    """One verdict for each declared host, no other, and every one a MATCH on one release."""
    rule = "ARM_PARITY"
    count = Counter(verdict.host for verdict in situation.round.hosts)
    if not situation.declared:
        yield forbids(FLEET, rule, "no host is declared: there is nothing to prove")
    for host in sorted({*situation.declared, *count}):
        if host not in situation.declared:
            yield forbids(host, rule, "is in the round, and not declared")
        elif count[host] != 1:
            yield forbids(host, rule, f"has {count[host]} verdicts in the round, not one")
    for verdict in situation.round.hosts:
        if verdict.verdict is not Verdict.MATCH:
            text = f"{verdict.verdict.value}, {_runs(verdict)}: {first_trouble(verdict)}"
            yield forbids(verdict.host, rule, text)
        elif verdict.release is None or verdict.release != situation.round.release:
            yield forbids(verdict.host, rule, f"{_runs(verdict)}, which is not the round's")
    wanted = situation.manifest.sha256 if situation.manifest else None
    if wanted is None or wanted != situation.round.release:
        yield forbids(FLEET, rule, "the round was not checked against a release with a manifest")


def _runs(verdict: HostVerdict) -> str:
    return f"on {short(verdict.release)}" if verdict.release else "on no release that was seen"


def fresh_rule(situation: Situation) -> Iterator[Finding]:
    """The round is of now."""
    if text := _untimely(situation.taken, situation.now):
        yield forbids(FLEET, "ARM_ROUND_FRESH", f"the evidence round is {text}")


def _untimely(taken: float, now: float) -> str:
    """Why what was seen then says nothing of now; a time that is no number never passes."""
    age = now - taken
    if age < -CLOCK_SKEW_S:
        return f"from the future by {-age:.0f} s"
    return "" if age <= AGE_AT_MOST_S else f"{age:.0f} s old, and may be {AGE_AT_MOST_S:.0f} s"


def flag_rule(situation: Situation) -> Iterator[Finding]:
    """The release that every host runs has this flag, and it is one that is armed."""
    try:
        find_flag(situation.manifest, situation.flag)
    except ValueError as error:
        yield forbids(FLEET, "ARM_FLAG_KNOWN", str(error))


def busy_rule(situation: Situation) -> Iterator[Finding]:
    """Nobody is changing a host, or has left it half changed: such a fleet *is* mixed."""
    for host, seen in situation.seen.items():
        if seen.lock is not None:
            text = f"locked by {seen.lock.holder} for {seen.lock.purpose}, plan {seen.lock.plan}"
            yield forbids(host, "ARM_LOCKED", text)
        if seen.rollout is not None:
            text = f"a rollout is under way or was interrupted, plan {seen.rollout.plan}"
            yield forbids(host, "ARM_ROLLOUT", text)
        if seen.hold is not None:
            text = f"held as {seen.hold.verdict} by {seen.hold.holder}, plan {seen.hold.plan}"
            yield forbids(host, "ARM_HELD", text)
        if seen.unconfirmed:
            yield forbids(host, "ARM_UNCONFIRMED", "its activation was not confirmed yet")


def state_rule(situation: Situation) -> Iterator[Finding]:
    """Every process says what is armed, the same everywhere; this flag is not; each one serves."""
    armed: dict[str, tuple[str, ...]] = {}
    for host, seen in situation.seen.items():
        said = seen.status or {}
        names, epoch = said.get("armed"), said.get("epoch")
        if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
            yield forbids(host, "ARM_STATE", "does not say which flags are armed on it")
            continue
        if type(epoch) is not int or epoch < 0:
            yield forbids(host, "ARM_STATE", "does not say its epoch")
        armed[host] = tuple(sorted(names))
        if situation.flag in names:
            yield forbids(host, "ARM_ALREADY", f"{situation.flag} is armed on it: disarm it first")
        if said.get("trading_state") != "ACTIVE":
            why = said.get("reason") or "no reason given"
            text = excerpt(f"it is {said.get('trading_state')}, not ACTIVE: {why}")
            yield forbids(host, "ARM_STATE", text)
    usual = Counter(armed.values()).most_common(1)
    for host, names in armed.items():
        if names != usual[0][0]:
            text = f"armed on it: {_listed(names)}; on most: {_listed(usual[0][0])}"
            yield forbids(host, "ARM_STATE", text)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing"


def census_rule(situation: Situation) -> Iterator[Finding]:
    """Who serves is who was declared."""
    census = situation.census
    if isinstance(census, str):
        yield forbids(FLEET, "ARM_CENSUS", f"who takes traffic is not known: {census}")
        return
    if text := _untimely(census.taken, situation.now):
        yield forbids(FLEET, "ARM_CENSUS", f"the census is {text}")
    for host in sorted(census.serving ^ {*situation.declared}):
        serves = host in census.serving
        text = "takes traffic, and is not declared" if serves else "is declared, and takes none"
        yield forbids(host, "ARM_CENSUS", text)


def gateway_rule(situation: Situation) -> Iterator[Finding]:
    """The senders can be seen, hold the bit back, and logged in to the release on every host."""
    rule, gateway = "ARM_GATEWAY", situation.gateway
    if isinstance(gateway, str):
        yield forbids(FLEET, rule, f"what the senders do is not known: {gateway}")
        return
    if text := _untimely(gateway.taken, situation.now):
        yield forbids(FLEET, rule, f"what the senders showed is {text}")
    yield from _early(situation, gateway)
    for host in sorted({*situation.declared, *gateway.sessions}):
        shown = gateway.sessions.get(host, frozenset())
        if host not in situation.declared:
            yield forbids(host, rule, "the senders are logged in to it, and it is not declared")
        elif not shown:
            yield forbids(host, rule, "no sender is logged in to it")
        elif shown != {situation.round.release}:
            listed = ", ".join(sorted(map(short, shown)))
            yield forbids(host, rule, f"the senders' logins to it showed {listed}")


def _early(situation: Situation, gateway: SenderObservation) -> Iterator[Finding]:
    try:
        flag = find_flag(situation.manifest, situation.flag)
    except ValueError:
        return  # flag_rule says so
    if flag.bit in gateway.bits:
        text = f"the senders set bit {flag.bit} already, and {flag.name} is off"
        yield forbids(FLEET, "ARM_GATEWAY", text)


Rule = Callable[[Situation], Iterator[Finding]]
RULES: tuple[Rule, ...] = (
    parity_rule,
    fresh_rule,
    flag_rule,
    busy_rule,
    state_rule,
    census_rule,
    gateway_rule,
)
