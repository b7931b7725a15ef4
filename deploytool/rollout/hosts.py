"""What a rollout does to hosts: each effect on many hosts at once, each answer collected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from deploytool.agent.requests import (
    Activate,
    Answer,
    Confirm,
    LatchShown,
    Probe,
    ShowLatch,
    StageRelease,
)
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.fanout import fanout
from deploytool.fleet.host import Payload
from deploytool.parity.model import Evidence, StandingHalt
from deploytool.parity.round import ask, look, probe_request, take_round
from deploytool.release.model import Release
from deploytool.release.store import slices
from deploytool.rollout.baseline import Baseline
from deploytool.rollout.locks import Locks, faults_of


class RolloutHosts(Locks):
    """Probes hosts, and changes those whose locks it holds."""

    def probe(self, hosts: Iterable[str], request: Probe) -> dict[str, Evidence | HostFault]:
        """One evidence round over these hosts."""

        def said(name: str, outcome: Evidence | HostFault) -> None:
            self._done(name, "seen", outcome if isinstance(outcome, HostFault) else None)

        chosen = {name: self._hosts[name] for name in hosts}
        return take_round(chosen, request, self._command_s, said)

    def probe_old(
        self, hosts: Iterable[str], base: Mapping[str, Baseline]
    ) -> dict[str, Evidence | HostFault]:
        """Probes these hosts, and the release that each had before, as it lies there."""

        def job(name: str) -> Callable[[], Evidence]:
            old = base[name].release
            request = probe_request((old, None) if old else None, disk=False)
            return lambda: look(self._hosts[name], request, self._command_s)

        return fanout({name: job(name) for name in hosts}, deadline_s=2 * self._command_s)

    def halts(self, hosts: Iterable[str]) -> dict[str, StandingHalt | HostFault | None]:
        """Asks each host whether somebody has stopped it."""

        def job(name: str) -> Callable[[], StandingHalt | None]:
            return lambda: _halt(self._hosts[name].call(ShowLatch(), deadline_s=self._command_s))

        return fanout({name: job(name) for name in hosts}, deadline_s=2 * self._command_s)

    def _known_latch(self, name: str) -> str | None:
        """What shows a stopped host that whoever changes it knew that it was."""
        return self.latches.get(name) or None

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

        def job(name: str) -> Answer:
            request = StageRelease(
                token=self.tokens[name],
                release=manifest.sha256,
                artifact_size=manifest.size,
                manifest=manifest.digest(),
                manifest_size=len(head),
                seconds=max(1, int(deadline_s)),
                latch=self._known_latch(name),
            )
            return self._hosts[name].call(request, deadline_s=deadline_s, payload=payload())

        return faults_of(self._each(hosts, job, deadline_s, "staged"))

    def activate(
        self, hosts: Iterable[str], releases: Mapping[str, str | None]
    ) -> dict[str, Evidence | HostFault]:
        """Switches hosts and restarts them; where the answer was lost, looks again."""
        service = self._inventory.service
        deadline_s = self._command_s + service.ready_timeout_s + 2 * service.stop_timeout_s

        def job(name: str) -> Evidence:
            request = Activate(
                token=self.tokens[name],
                release=releases[name],
                deadman=service.deadman_s,
                latch=self._known_latch(name),
                show=probe_request(disk=False),
            )
            host = self._hosts[name]
            try:
                return ask(host, request, deadline_s)[1]
            except HostFault as fault:
                if not fault.in_doubt and fault.kind is not FaultKind.PROTOCOL:
                    raise
                try:
                    return look(host, probe_request(disk=False), self._command_s)
                except HostFault as later:
                    raise HostFault(
                        later.kind, f"{fault.text}; then {later.text}", in_doubt=True
                    ) from fault

        return self._each(hosts, job, deadline_s + self._command_s, "activated")

    def confirm(self, running: Mapping[str, Evidence]) -> dict[str, HostFault]:
        """Writes down on each host that this very process was verified."""

        def job(name: str) -> Answer:
            seen = running[name]
            request = Confirm(
                token=self.tokens[name],
                release=str(seen.release),
                pid=seen.main_pid,
                start=seen.processes[seen.main_pid].start,
                boot=seen.boot,
            )
            return self._hosts[name].call(request, deadline_s=self._command_s)

        return faults_of(self._each(running, job, self._command_s, "verified"))


def _halt(answer: Answer) -> StandingHalt | None:
    if not isinstance(answer, LatchShown):
        raise HostFault(FaultKind.PROTOCOL, "it does not say whether it was stopped")
    return StandingHalt.of(answer.latch, latched=answer.latched, fenced=answer.fenced)
