"""The locks that a rollout holds on its hosts: taken, renewed, given back.

The host with the smallest identity is locked first: who holds it locks the others at once, and who
does not locks nothing, so that of two deployers one wins. Every host's own lock is still taken and
checked. Where a host does not answer, nobody knows which is the first: then the others are locked
one after the other, in that order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from deploytool.agent.requests import (
    Answer,
    Locked,
    MarkHold,
    Renew,
    Request,
    TakeLock,
    Unlock,
    Unlocked,
)
from deploytool.core.faults import fault_finding
from deploytool.core.finding import Finding, forbids
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.fanout import fanout
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.parity.evidence import read_evidence
from deploytool.parity.model import Evidence
from deploytool.parity.round import probe_request
from deploytool.rollout.baseline import Baseline, found_plan, marks
from deploytool.rollout.model import Purpose

T = TypeVar("T")
Done = Callable[[str, str, HostFault | None], None]

_ALL = 999_999_999
"""More releases than any host holds."""


@dataclass
class Taken:
    """What came of asking for locks: hosts as seen under them, and where there is none."""

    seen: dict[str, Evidence] = field(default_factory=dict)
    refused: list[Finding] = field(default_factory=list)
    in_doubt: dict[str, Finding] = field(default_factory=dict)


class Locks:
    """The fleet's hosts, and the tokens of the locks that this rollout holds on them."""

    def __init__(
        self,
        inventory: Inventory,
        hosts: Mapping[str, Host],
        holder: str,
        plan: str,
        purpose: Purpose,
        done: Done,
    ) -> None:
        self._inventory = inventory
        self._hosts = hosts
        self._holder = holder
        self._plan = plan
        self._purpose = purpose
        self._done = done
        self.tokens: dict[str, int] = {}
        self.latches: dict[str, str] = {}
        """Hosts that were stopped before this rollout began, by the latch that it knows of."""
        self._renewals = 0
        self._maybe_locked: dict[str, HostFault] = {}

    @property
    def _command_s(self) -> float:
        return self._inventory.ssh.command_timeout_s

    def _each(
        self,
        hosts: Iterable[str],
        job: Callable[[str], T],
        deadline_s: float,
        text: str,
    ) -> dict[str, T | HostFault]:
        def said(name: str, outcome: T | HostFault) -> None:
            self._done(name, text, outcome if isinstance(outcome, HostFault) else None)

        jobs = {name: (lambda name=name: job(name)) for name in hosts}
        return fanout(jobs, deadline_s=deadline_s + self._command_s, done=said)

    def lock(self, found: Mapping[str, Evidence], target: str) -> Taken:
        """Locks hosts. Under the lock each must still show what the plan was made from."""
        return self._lock_all(found, lambda _name: self._request(target))

    def take_over(
        self, found: Mapping[str, Evidence], base: Mapping[str, Baseline], target: str
    ) -> Taken:
        """Takes over the locks that were found, by their tokens; each host's token grows.

        ``base``: what each host had before, for one where the rollout was finished already and
        whose mark is gone: whoever comes after this deployer must not take it for untouched.
        Marks that are made now name the rollout that was found, for the same reason.
        """
        rollout = found_plan(marks(found)) or self._plan

        def request(name: str) -> TakeLock:
            lock = found[name].lock
            return self._request(target).but(
                take_over=lock.token if lock else found[name].token,
                before=base[name].release,
                knows_before=True,
                rollout=rollout,
            )

        return self._lock_all(found, request)

    def _request(self, target: str) -> TakeLock:
        return TakeLock(
            holder=self._holder,
            purpose=self._purpose.value,
            plan=self._plan,
            release=target,
            show=probe_request(disk=False),
        )

    def renew(self, hosts: Iterable[str]) -> dict[str, HostFault]:
        """Gives our locks on these hosts a later token, and says there that it goes back now.

        The host does this after whatever is under way there, and then refuses what was sent with
        the earlier token: an answer that was lost can't be followed by a late effect. Returns the
        hosts that refused: their locks are no longer ours, and they must not be touched.
        """
        self._renewals += 1
        plan = f"{self._plan}.{self._renewals}"

        def job(name: str) -> int:
            request = Renew(
                holder=self._holder,
                purpose=Purpose.ROLLBACK.value,
                plan=plan,
                token=self.tokens[name],
            )
            return _token(self._hosts[name].call(request, deadline_s=2 * self._command_s))

        ours = [name for name in hosts if name in self.tokens]
        outcomes = self._each(ours, job, 2 * self._command_s, "locked")
        for name, outcome in outcomes.items():
            if not isinstance(outcome, HostFault):
                self.tokens[name] = outcome
        faults = faults_of(outcomes)
        return {name: f for name, f in faults.items() if f.kind is FaultKind.REFUSED}

    def _lock_all(self, found: Mapping[str, Evidence], request: Callable[[str], TakeLock]) -> Taken:
        taken = Taken()
        order = sorted(found, key=lambda name: (found[name].identity, name))
        whole = len(found) == len(self._inventory.names)
        steps = [order[:1], order[1:]] if whole else [[name] for name in order]
        for names in filter(None, steps):
            jobs = {name: (lambda name=name: self._lock_one(request(name), name)) for name in names}
            for name, outcome in fanout(jobs, deadline_s=4 * self._command_s).items():
                self._note(taken, name, outcome, found[name])
            if taken.refused or taken.in_doubt:
                break
        return taken

    def _lock_one(self, request: TakeLock, name: str) -> tuple[int, Evidence | HostFault]:
        """The token, and what was seen under the lock, or why it was not."""
        asked_at = time.time()
        answer = self._insist(name, request)
        token = _token(answer)
        try:
            return token, read_evidence(answer, asked_at, time.time())
        except HostFault as fault:
            return token, fault

    def _note(
        self,
        taken: Taken,
        name: str,
        outcome: tuple[int, Evidence | HostFault] | HostFault,
        found: Evidence,
    ) -> None:
        if not isinstance(outcome, HostFault):
            self.tokens[name], seen = outcome
            if isinstance(seen, Evidence):
                self._done(name, "locked", None)
                if seen.current != found.current:
                    text = "was changed while the plan was made"
                    taken.refused.append(forbids(name, "PLAN_MOVED", text))
                taken.seen[name] = seen
                return
            outcome = seen
        self._done(name, "", outcome)
        if outcome.in_doubt or outcome.code == "lock-left":
            self._maybe_locked[name] = outcome
            text = f"whether it is locked is not known: {outcome}"
            taken.in_doubt[name] = fault_finding(name, outcome, "lock", text)
            return
        rule = "LOCK_HELD" if outcome.code in {"locked", "stale-token"} else "LOCK_REFUSED"
        taken.refused.append(forbids(name, rule, str(outcome)))

    def _insist(self, name: str, request: Request) -> Answer:
        """Asks for what is safe to repeat, and once more where the first attempt failed.

        Raises:
            HostFault: the last; in doubt where an earlier one was, unless the host itself said no.
        """
        doubt = False

        def attempt() -> Answer:
            nonlocal doubt
            try:
                return self._hosts[name].call(request, deadline_s=self._command_s)
            except HostFault as fault:
                doubt = (doubt and fault.kind is not FaultKind.REFUSED) or fault.in_doubt
                raise

        retrying = Retrying(
            stop=stop_after_attempt(2),
            wait=wait_fixed(0.2),
            retry=retry_if_exception_type(HostFault),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except HostFault as fault:
            raise HostFault(fault.kind, fault.text, in_doubt=doubt, code=fault.code) from fault

    def unlock(self, proven: str | None, *, prune: bool) -> dict[str, HostFault]:
        """Gives every lock back. A host that may hold one without our knowing is a fault too.

        ``proven``: the release that this rollout has led every host to, also one that had it
        already. ``prune``: old releases go; who was only refused takes nothing away from anybody.
        """
        keep = self._inventory.keep_releases if prune else _ALL

        def job(name: str) -> Answer:
            try:
                back = Unlock(token=self.tokens[name], keep=keep, release=proven)
                return self._insist(name, back)
            except HostFault as fault:
                # A lost answer repeated: no later token was given out, so this one was given back.
                if fault.code == "unlocked":
                    return Unlocked()
                raise

        outcomes = self._each(self.tokens, job, 2 * self._command_s, "unlocked")
        for name, outcome in outcomes.items():
            if not isinstance(outcome, HostFault):
                del self.tokens[name]
        return self._maybe_locked | faults_of(outcomes)

    def hold(self, verdict: str) -> dict[str, HostFault]:
        """Writes on every host whose lock is ours that the fleet is left as ``verdict``."""

        def job(name: str) -> Answer:
            request = MarkHold(
                token=self.tokens[name],
                holder=self._holder,
                plan=self._plan,
                verdict=verdict,
                next="resume-or-rollback",
            )
            return self._hosts[name].call(request, deadline_s=self._command_s)

        return faults_of(self._each(self.tokens, job, self._command_s, "held"))


def _token(answer: Answer) -> int:
    """The token of a lock that was given.

    Raises:
        HostFault: there is none; in doubt, for the host says that it is locked.
    """
    if not isinstance(answer, Locked):
        raise HostFault(FaultKind.PROTOCOL, "no token with its lock", in_doubt=True)
    return answer.token


def faults_of(outcomes: Mapping[str, T | HostFault]) -> dict[str, HostFault]:
    """The hosts that did not do it, and why."""
    return {name: item for name, item in outcomes.items() if isinstance(item, HostFault)}
