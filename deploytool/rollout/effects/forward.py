"""The way forward: copied to all, switched wave by wave, proven over all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from deploytool.parity.judge import judge
from deploytool.parity.model import Evidence, Parity
from deploytool.parity.round import probe_request
from deploytool.rollout.model import Event
from deploytool.rollout.progress import RolloutProgress, shown


class Forward(RolloutProgress):
    """The effects that bring the release to every host."""

    def _stage(self) -> Event:
        faults = self._hosts.stage(self._plan.to_stage, self._release)
        return self._faults(faults) or Event.STAGED

    def _switch_wave(self) -> Event:
        wave = self._next_wave
        if (event := self._stopped_meanwhile()) is not None:
            return event
        why = self._flag_check.readings(self._found, dict.fromkeys(wave, self._manifest))
        if why:
            self._report.trouble |= {obstacle.host: obstacle for obstacle in why}
            return Event.FAILED
        if wave:
            self._touched += [host for host in wave if host not in self._touched]
            event = self._switch(wave, dict.fromkeys(wave, self._manifest))
            if event is None and self._inventory.service.soak_s:
                event = self._soaked(partial(self._look_at_wave, wave), self._interrupted)
            if event is not None:
                return event
        self._wave += 1
        return Event.WAVE_PROVEN if self._wave < len(self._plan.waves) else Event.LAST_WAVE_PROVEN

    def _look_at_wave(self, wave: tuple[str, ...]) -> tuple[Event | None, Mapping[str, Evidence]]:
        """Whether what was switched is still the very process that was verified there."""
        seen = self._hosts.probe(wave, probe_request(disk=False))
        if self._stopped(seen):
            return Event.STOPPED, {}
        verdicts = {
            name: self._verdict(name, outcome, self._manifest, disk=False)
            for name, outcome in seen.items()
        }
        return self._troubles(verdicts), shown(seen)

    def _prove(self) -> Event:
        return self._soaked(self._look_at_all, self._interrupted) or Event.PARITY

    def _look_at_all(self) -> tuple[Event | None, Mapping[str, Evidence]]:
        request = probe_request(known=self._known, whole=True)
        seen = self._hosts.probe(self._inventory.names, request)
        taken = judge(self._inventory, seen, self._manifest)
        self._report.round = replace(taken, hosts=tuple(map(self._trading, taken.hosts)))
        if self._stopped(seen):
            return Event.STOPPED, {}
        if self._report.round.parity is Parity.PARITY:
            return None, shown(seen)
        verdicts = {verdict.host: verdict for verdict in self._report.round.hosts}
        return self._troubles(verdicts) or Event.UNKNOWN, {}
