"""What a rollout does to hosts: each effect on many hosts at once, each answer collected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.fanout import fanout
from deploytool.fleet.host import Host, Payload
from deploytool.fleet.model import Inventory
from deploytool.fleet.protocol import Call, Reply
from deploytool.parity.evidence import parse_halt
from deploytool.parity.look import probe_call, read, take_round
from deploytool.parity.model import Evidence, Halt
from deploytool.release.model import Release
from deploytool.release.store import slices
from deploytool.rollout.baseline import Baseline
from deploytool.rollout.model import Purpose
from deploytool.rollout.planning import Obstacle

Done = Callable[[str, str, HostFault | None], None]


class Hands:
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

    def look(self, hosts: Iterable[str], call: Call) -> dict[str, Evidence | HostFault]:
        """One evidence round over these hosts."""

        def said(name: str, outcome: Evidence | HostFault) -> None:
            self._done(name, "seen", outcome if isinstance(outcome, HostFault) else None)

        chosen = {name: self._hosts[name] for name in hosts}
        return take_round(chosen, call, self._command_s, said)

    def look_for_old(
        self, hosts: Iterable[str], base: Mapping[str, Baseline]
    ) -> dict[str, Evidence | HostFault]:
        """Looks at these hosts, and at the release that each had before, as it lies there."""

        def job(name: str) -> Callable[[], Evidence]:
            old = base[name].release
            call = probe_call((old, None) if old else None, disk=False)
            return lambda: read(self._hosts[name].call(call, deadline_s=self._command_s))

        return fanout({name: job(name) for name in hosts}, deadline_s=2 * self._command_s)

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
        """

        def arguments(name: str) -> dict[str, str | int]:
            lock = found[name].lock
            token = lock.token if lock else found[name].token
            return {"release": target, "token": token, "before": base[name].release or "none"}

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
            if not isinstance(outcome, HostFault):
                self.tokens[name] = _token(outcome)
        faults = _faults(outcomes)
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
            except HostFault as fault:
                self._done(name, "", fault)
                if fault.in_doubt or fault.code == "lock-left":
                    self._maybe_locked[name] = fault
                    return [], {name: f"whether it is locked is not known: {fault}"}
                rule = "LOCK_HELD" if fault.code in {"locked", "stale-token"} else "LOCK_REFUSED"
                return [Obstacle(name, rule, str(fault))], {}
            self._done(name, "locked", None)
            if reply.one("current") != found[name].current:
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

    def unlock(self) -> dict[str, HostFault]:
        """Gives every lock back. A host that may hold one without our knowing is a fault too."""
        keep = self._inventory.keep_releases

        def job(name: str) -> Reply:
            try:
                return self._insist(name, Call.of("unlock", token=self.tokens[name], keep=keep))
            except HostFault as fault:
                # A lost answer repeated: no later token was given out, so this one was given back.
                if fault.code == "unlocked":
                    return Reply()
                raise

        outcomes = self._each(self.tokens, job, 2 * self._command_s, "unlocked")
        for name, outcome in outcomes.items():
            if not isinstance(outcome, HostFault):
                del self.tokens[name]
        return self._maybe_locked | _faults(outcomes)

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

        return _faults(self._each(self.tokens, job, self._command_s, "held"))

    def halts(self, hosts: Iterable[str]) -> dict[str, Halt | HostFault | None]:
        """Asks each host whether somebody has stopped it."""

        def job(name: str) -> Callable[[], Halt | None]:
            call = Call("latch", changes=False)
            return lambda: parse_halt(self._hosts[name].call(call, deadline_s=self._command_s))

        return fanout({name: job(name) for name in hosts}, deadline_s=2 * self._command_s)

    def _knowing(self, name: str) -> dict[str, str]:
        """The words that show a stopped host that whoever changes it knew that it was."""
        return {"latch": self.latches[name]} if self.latches.get(name) else {}

    def stage(self, hosts: Iterable[str], release: Release) -> dict[str, HostFault]:
        """Copies the release to hosts; each reads it back from its disk and compares."""
        manifest = release.manifest
        head = manifest.canonical()
        artifact = Path(release.artifact)
        deadline_s = self._inventory.ssh.transfer_timeout_s

        def payload() -> Payload:
            def content() -> Iterator[bytes]:
                yield head
                yield from slices(artifact)

            return Payload(len(head) + manifest.size, content)

        def job(name: str) -> Reply:
            call = Call.of(
                "stage",
                token=self.tokens[name],
                release=manifest.sha256,
                size=manifest.size,
                manifest=manifest.digest(),
                manifest_size=len(head),
                seconds=max(1, int(deadline_s)),
                **self._knowing(name),
            )
            return self._hosts[name].call(call, deadline_s=deadline_s, payload=payload())

        return _faults(self._each(hosts, job, deadline_s, "staged"))

    def activate(
        self, hosts: Iterable[str], releases: Mapping[str, str | None]
    ) -> dict[str, Evidence | HostFault]:
        """Switches hosts and restarts them; where the answer was lost, looks again."""
        service = self._inventory.service
        deadline_s = self._command_s + service.ready_timeout_s + 2 * service.stop_timeout_s

        def job(name: str) -> Reply:
            call = Call.of(
                "activate",
                token=self.tokens[name],
                release=releases[name] or "none",
                seconds=service.deadman_s,
                disk="skip",
                **self._knowing(name),
            )
            try:
                return self._hosts[name].call(call, deadline_s=deadline_s)
            except HostFault as fault:
                if not fault.in_doubt:
                    raise
                try:
                    return self._hosts[name].call(
                        probe_call(disk=False), deadline_s=self._command_s
                    )
                except HostFault as later:
                    raise HostFault(
                        later.kind, f"{fault.text}; then {later.text}", in_doubt=True
                    ) from fault

        outcomes = self._each(hosts, job, deadline_s + self._command_s, "activated")
        return {name: _evidence(outcome) for name, outcome in outcomes.items()}

    def confirm(self, running: Mapping[str, Evidence]) -> dict[str, HostFault]:
        """Writes down on each host that this very process was verified."""

        def job(name: str) -> Reply:
            seen = running[name]
            call = Call.of(
                "confirm",
                token=self.tokens[name],
                release=seen.release or "none",
                pid=seen.main_pid,
                start=seen.processes[seen.main_pid].start,
                boot=seen.boot,
            )
            return self._hosts[name].call(call, deadline_s=self._command_s)

        return _faults(self._each(running, job, self._command_s, "verified"))


def _token(reply: Reply) -> int:
    try:
        return int(reply.one("token") or "")
    except ValueError as error:
        raise HostFault(FaultKind.PROTOCOL, "no token with its lock", in_doubt=True) from error


def _faults(outcomes: Mapping[str, Reply | HostFault]) -> dict[str, HostFault]:
    return {name: item for name, item in outcomes.items() if isinstance(item, HostFault)}


def _evidence(outcome: Reply | HostFault) -> Evidence | HostFault:
    if isinstance(outcome, HostFault):
        return outcome
    try:
        return read(outcome)
    except HostFault as fault:
        return HostFault(FaultKind.PROTOCOL, fault.text, in_doubt=True)
