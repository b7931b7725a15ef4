"""Plays cases: a proven baseline, a fault, a deploy; then what is true, and back to one release."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from deploytool.errors import EnvironmentProblem
from deploytool.fleet.inventory import load_inventory
from deploytool.rehearsal.faults.cases import Case
from deploytool.rehearsal.faults.catalogue import (
    DEPLOYED,
    HELD,
    INTERRUPTED,
    KILLED,
    REFUSED,
    RESTORED,
    Moment,
)
from deploytool.rehearsal.faults.deployer import Deployer, DeployerEnd, Operator
from deploytool.rehearsal.faults.host_shell import HostShell
from deploytool.rehearsal.faults.operators import Operators
from deploytool.rehearsal.faults.report import Campaign, PlayedCase
from deploytool.rehearsal.faults.strikes import AT_WORK, LOOK_LATER, STRIKES, Scene
from deploytool.rehearsal.faults.truth import Truth, truth
from deploytool.rehearsal.fleets.run import for_each
from deploytool.rehearsal.fleets.throwaway import Throwaway
from deploytool.release.model import Release

_MENDS_AT_MOST = 6
_UNDER_WAY_S = 0.5
"""In so many seconds a request that was sent has come to the switch of the link."""
Truths = Mapping[str, Truth]


@dataclass
class _Struck:
    """How a deploy ended, what was true then, and whether the fault struck at all."""

    ended: DeployerEnd
    seen: Truths
    struck: bool
    others: list[DeployerEnd]


class Rehearsal:
    """A fleet that is up, two releases, and whoever deploys them."""

    def __init__(
        self, fleet: Throwaway, operators: Operators, releases: tuple[Release, Release]
    ) -> None:
        self._fleet = fleet
        self._operators = operators
        self._inventory = load_inventory(fleet.inventory)
        self.hosts = self._inventory.names
        self.old, self.new = (str(release.digest) for release in releases)

    def host_shell(self, host: str) -> HostShell:
        """One host."""
        return HostShell(self._fleet, self._inventory, host, self.old, self.new)

    def look(self) -> Truths:
        """What is true on every host."""
        return dict(
            zip(self.hosts, for_each(self.hosts, lambda h: truth(self.host_shell(h))), strict=True)
        )

    def begin(self) -> DeployerEnd:
        """The first release, proven."""
        return self._operators.fresh("first").run("deploy", self.old)

    def turn(self) -> None:
        """What was deployed is the old release from now on, and what was there the new one."""
        self.old, self.new = self.new, self.old

    def play(self, case: Case) -> PlayedCase:
        """Plays one case to its end; afterwards the fleet is one, or the case is unresolved."""
        began = time.monotonic()
        for_each(self.hosts, self._forget)
        way = "relayed" if case.fault.relayed else "straight"
        way = "patient" if case.fault.name == "dies-young" else way
        operator = self._operators.fresh("deployer", way)
        struck = self._strike(case, operator)
        code = struck.ended.code
        lie = _lie(self, case, struck)
        unresolved = _unnamed(case, struck)
        odd = ""
        if struck.struck and code not in case.fault.allowed(case.moment):
            allowed = sorted(case.fault.allowed(case.moment))
            odd = f"exit {code} is none of {allowed}: {_said(struck.ended)}"
        mended_by, trouble = self._mend(case, operator)
        return PlayedCase(
            str(case),
            case.fault.name,
            struck.struck,
            code,
            mended_by,
            time.monotonic() - began,
            lie,
            unresolved or trouble,
            odd,
        )

    def _forget(self, host: str) -> None:
        """Takes the candidate off a host's disk, so that it is copied again."""
        self.host_shell(host).shell('rm -rf "$ROOT/releases/$NEW"')

    def _strike(self, case: Case, operator: Operator) -> _Struck:
        host_shell = self.host_shell(case.host)
        relay = self._operators.relays[case.host]
        scene = Scene(host_shell, relay, self._operators.fresh("other"), self.new)
        strike = STRIKES[case.fault.name]
        with ExitStack() as processes:
            with ExitStack() as lifted:
                if case.moment is Moment.BEFORE:
                    lifted.enter_context(strike(scene))
                deployer = processes.enter_context(operator.start("deploy", self.new))
                scene.deployer = deployer
                struck = case.moment is Moment.BEFORE or _arrive(case, deployer)
                if struck and case.moment is not Moment.BEFORE:
                    held = case.fault.name not in AT_WORK
                    deployer.send(signal.SIGSTOP) if held else None
                    struck = not (case.moment is Moment.STAGED and held and self._switched())
                    lifted.enter_context(strike(scene))
                    deployer.send(signal.SIGCONT) if held else None
                ended = deployer.wait()
                seen = {} if case.fault.name in LOOK_LATER else self.look()
            seen = seen or self.look()
        return _Struck(ended, seen, struck, scene.others)

    def _switched(self) -> bool:
        """Whether the deployer was held too late: what it had sent already is under way."""
        time.sleep(_UNDER_WAY_S)
        return any(item.linked == self.new for item in self.look().values())

    # --- back to one release ----------------------------------------------------------------------

    def _mend(self, case: Case, operator: Operator) -> tuple[tuple[str, ...], str]:
        """What a person would do now, until the fleet is one and proven; how, or why not."""
        operator = replace(operator, inventory=self._operators.inventory_of("straight"))
        first = self._operators.fresh("elsewhere", store=False) if case.elsewhere else operator
        done: list[str] = []
        verb = self._next(case, self.look(), done)
        by = operator if verb in {"deploy", "status"} else first
        for _ in range(_MENDS_AT_MOST):
            words = [self.new] if verb == "deploy" else verb.split()[1:]
            ended = by.run(verb.split()[0], *words)
            done.append(f"{verb} ({ended.code})")
            seen = self.look()
            if ended.code == DEPLOYED and (release := self._one(seen)) is not None:
                if release == self.new:
                    self.turn()
                return tuple(done), ""
            verb, by = self._next(case, seen, done), operator
        told = "; ".join(f"{host}: {item}" for host, item in seen.items())
        why = ended.document.get("what", ended.errors[-300:])
        return tuple(done), f"not one release after {len(done)} commands: {why} {told}"

    def restore(self, case: Case) -> bool:
        """Brings the fleet to one release after a case that came to nothing; whether it is one."""
        _, trouble = self._mend(case, self._operators.fresh("first"))
        return not trouble

    def _next(self, case: Case, seen: Truths, done: list[str]) -> str:
        if any(item.locked or item.marked or item.held for item in seen.values()):
            if "resume (3)" in done and "rollback (5)" in done:
                return "resume --forward"  # as both have said by now
            verbs = ("resume", "rollback")
            return verbs[(verbs.index(case.recovery) + len(done)) % 2]
        return "deploy" if done else "status"

    def _one(self, seen: Truths) -> str | None:
        """The release that every host runs, with nothing left on any; None otherwise."""
        if any(item.locked or item.marked or item.held for item in seen.values()):
            return None
        for release in (self.old, self.new):
            if all(item.runs(release) for item in seen.values()):
                return release
        return None


def _arrive(case: Case, deployer: Deployer) -> bool:
    if case.record is not None:
        return deployer.wait_for_record(case.record)
    return deployer.wait_for(case.moment)


def _said(ended: DeployerEnd) -> str:
    details = "; ".join(map(str, ended.document.get("details", [])[:3]))
    return f"{ended.document.get('what', ended.errors[-300:])} {details}"


def _lie(rehearsal: Rehearsal, case: Case, struck: _Struck) -> str:
    """What the end claims and the hosts contradict."""
    claims = {
        DEPLOYED: rehearsal.new,
        RESTORED: rehearsal.old,
        REFUSED: rehearsal.old,
    }
    lies = []
    everybody = (struck.ended, *struck.others)
    for ended in everybody:
        claimed = claims.get(-1 if ended.code is None else ended.code)
        if claimed is None:
            continue
        if ended.code != DEPLOYED and DEPLOYED in {other.code for other in everybody}:
            continue  # what another deployer has proven since is what counts
        for host, seen in struck.seen.items():
            if seen.locked and not struck.others:
                lies.append(f"exit {ended.code}, and {host} is still locked")
            # A refusal says nothing of a host that is not as it should be, but that it is so.
            if ended.code == REFUSED and host == case.host:
                continue
            if not seen.runs(claimed):
                lies.append(f"exit {ended.code}, and {host} is not on {claimed[:8]}: {seen}")
    return "; ".join(lies)


def _unnamed(case: Case, struck: _Struck) -> str:
    """What is neither proven nor named."""
    ended, code = struck.ended, struck.ended.code
    if code == KILLED and case.fault.name == "deployer-killed":
        return ""
    if code is None:
        return f"no end after {ended.seconds:.0f} s: {ended.errors[-300:]}"
    if code not in {DEPLOYED, REFUSED, RESTORED, HELD, INTERRUPTED}:
        return f"exit {code}: {ended.errors[-500:]}"
    if code in {HELD, REFUSED} and not ended.document.get("details"):
        return f"exit {code}, and no host is named: {ended.document.get('what')}"
    alike = len({(item.linked, item.running == ()) for item in struck.seen.values()}) == 1
    if code == HELD and case.fault.every_host and not alike and not ended.names(case.host):
        return f"exit {code}, and {case.host} is not named: {ended.document.get('details')}"
    return ""


def campaign(
    rehearsal: Rehearsal, cases: list[Case], result: Campaign, say: Callable[[str], None]
) -> Campaign:
    """Plays all cases, one after the other; a fleet that can't be made one again ends it.

    Raises:
        EnvironmentProblem: the baseline can't be proven, or a fault can't be brought here.
    """
    first = rehearsal.begin()
    if first.code != DEPLOYED:
        raise EnvironmentProblem(
            f"The baseline could not be proven: exit {first.code}.",
            "Nothing was rehearsed.",
            "See why: deploytool rehearse --scenario healthy",
            tuple(first.errors.splitlines()[-10:]),
        )
    for number, case in enumerate(cases, start=1):
        try:
            played = rehearsal.play(case)
        except EnvironmentProblem as problem:
            why = f"it could not be brought, or not be lifted: {problem} {problem.details}"
            played = PlayedCase(
                str(case),
                case.fault.name,
                struck=False,
                code=0,
                mended_by=(),
                seconds=0.0,
                unresolved=why,
            )
        result.played.append(played)
        say(f"{number:>4} {played}")
        if played.unresolved and not rehearsal.restore(case):
            say("The fleet can't be brought back to one release; the campaign ends here.")
            break
    return result
