"""The locks that a rollout holds on its hosts: taken in name order, renewed, given back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.fanout import fanout
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.fleet.protocol import Call, Reply
from deploytool.parity.model import Evidence
from deploytool.rollout.baseline import Baseline, found_plan, marks
from deploytool.rollout.checks import Obstacle
from deploytool.rollout.model import Purpose

Done = Callable[[str, str, HostFault | None], None]

_ALL = 999_999_999
"""More releases than any host holds."""


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
        job: Callable[[str], Reply],
        deadline_s: float,
        text: str,
    ) -> dict[str, Reply | HostFault]:
        def said(name: str, outcome: Reply | HostFault) -> None:
            self._done(name, text, outcome if isinstance(outcome, HostFault) else None)

        jobs = {name: (lambda name=name: job(name)) for name in hosts}
        return fanout(jobs, deadline_s=deadline_s + self._command_s, done=said)

    def lock(
        self, found: Mapping[str, Evidence], target: str
    ) -> tuple[list[Obstacle], dict[str, str]]:
        """Locks hosts one after the other, in name order, and stops at the first that refuses.

        Two deployers that do this can't both win, and can't keep each other out for ever. Under
        the lock each host must still show what the plan was made from.
        """
        return self._lock_each("lock", found, lambda _name: {"release": target})

    def take_over(
        self, found: Mapping[str, Evidence], base: Mapping[str, Baseline], target: str
    ) -> tuple[list[Obstacle], dict[str, str]]:
        """Takes over the locks that were found, by their tokens; each host's token grows.

        ``base``: what each host had before, for one where the rollout was finished already and
        whose mark is gone: whoever comes after this deployer must not take it for untouched.
        Marks that are made now name the rollout that was found, for the same reason.
        """
        rollout = found_plan(marks(found)) or self._plan

        def arguments(name: str) -> dict[str, str | int]:
            lock = found[name].lock
            token = lock.token if lock else found[name].token
            before = base[name].release or "none"
            return {"release": target, "token": token, "before": before, "rollout": rollout}

        return self._lock_each("takeover", found, arguments)

    def renew(self, hosts: Iterable[str]) -> dict[str, HostFault]:
        """Gives our locks on these hosts a later token, and says there that it goes back now.

        The host does this after whatever is under way there, and then refuses what was sent with
        the earlier token: an answer that was lost can't be followed by a late effect. Returns the
        hosts that refused: their locks are no longer ours, and they must not be touched.
        """
        self._renewals += 1
        plan = f"{self._plan}.{self._renewals}"

        def job(name: str) -> Reply:
            call = Call.of(
                "renew",
                holder=self._holder,
                purpose=Purpose.ROLLBACK.value,
                plan=plan,
                token=self.tokens[name],
            )
            return self._hosts[name].call(call, deadline_s=2 * self._command_s)

        ours = [name for name in hosts if name in self.tokens]
        outcomes = self._each(ours, job, 2 * self._command_s, "locked")
        for name, outcome in outcomes.items():
            if isinstance(outcome, HostFault):
                continue
            try:
                self.tokens[name] = _token(outcome)
            except HostFault as fault:
                self._done(name, "", fault)  # as one whose answer was lost: it refuses the old one
        faults = faults_of(outcomes)
        return {name: f for name, f in faults.items() if f.kind is FaultKind.REFUSED}

    def _lock_each(
        self,
        verb: str,
        found: Mapping[str, Evidence],
        arguments: Callable[[str], Mapping[str, str | int]],
    ) -> tuple[list[Obstacle], dict[str, str]]:
        for name in sorted(found):
            mine: dict[str, str | int] = {"holder": self._holder, "plan": self._plan}
            call = Call.of(verb, purpose=self._purpose.value, **mine, **arguments(name))
            try:
                reply = self._insist(name, call)
                self.tokens[name] = _token(reply)
                current = reply.one("current")
            except HostFault as fault:
                self._done(name, "", fault)
                if fault.in_doubt or fault.code == "lock-left":
                    self._maybe_locked[name] = fault
                    return [], {name: f"whether it is locked is not known: {fault}"}
                rule = "LOCK_HELD" if fault.code in {"locked", "stale-token"} else "LOCK_REFUSED"
                return [Obstacle(name, rule, str(fault))], {}
            self._done(name, "locked", None)
            if current != found[name].current:
                return [Obstacle(name, "PLAN_MOVED", "was changed while the plan was made")], {}
        return [], {}

    def _insist(self, name: str, call: Call) -> Reply:
        """Calls what is safe to repeat, and once more where the first attempt failed.

        Raises:
            HostFault: the last; in doubt where an earlier one was, unless the host itself said no.
        """
        doubt = False

        def attempt() -> Reply:
            nonlocal doubt
            try:
                return self._hosts[name].call(call, deadline_s=self._command_s)
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
        led_to = {"release": proven} if proven is not None else {}

        def job(name: str) -> Reply:
            try:
                back = Call.of("unlock", token=self.tokens[name], keep=keep, **led_to)
                return self._insist(name, back)
            except HostFault as fault:
                # A lost answer repeated: no later token was given out, so this one was given back.
                if fault.code == "unlocked":
                    return Reply()
                raise

        outcomes = self._each(self.tokens, job, 2 * self._command_s, "unlocked")
        for name, outcome in outcomes.items():
            if not isinstance(outcome, HostFault):
                del self.tokens[name]
        return self._maybe_locked | faults_of(outcomes)

    def hold(self, verdict: str) -> dict[str, HostFault]:
        """Writes on every host whose lock is ours that the fleet is left as ``verdict``."""

        def job(name: str) -> Reply:
            call = Call.of(
                "hold",
                token=self.tokens[name],
                holder=self._holder,
                plan=self._plan,
                verdict=verdict,
                next="resume-or-rollback",
            )
            return self._hosts[name].call(call, deadline_s=self._command_s)

        return faults_of(self._each(self.tokens, job, self._command_s, "held"))


def _token(reply: Reply) -> int:
    """The token that came with a lock.

    Raises:
        HostFault: none, or more than one; in doubt, for the host says that it is locked.
    """
    try:
        return int(reply.one("token") or "")
    except ValueError as error:
        raise HostFault(FaultKind.PROTOCOL, "no token with its lock", in_doubt=True) from error
    except HostFault as fault:
        raise HostFault(fault.kind, fault.text, in_doubt=True) from fault


def faults_of(outcomes: Mapping[str, Reply | HostFault]) -> dict[str, HostFault]:
    """The hosts that did not do it, and why."""
    return {name: item for name, item in outcomes.items() if isinstance(item, HostFault)}
