"""The way forward: copied to all, switched wave by wave, proven over all."""

from __future__ import annotations

from deploytool.parity.judge import judge
from deploytool.parity.model import Parity
from deploytool.parity.round import probe_request
from deploytool.rollout.model import Event
from deploytool.rollout.progress import RolloutProgress


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
            if event is not None:
                return event
        self._wave += 1
        return Event.WAVE_PROVEN if self._wave < len(self._plan.waves) else Event.LAST_WAVE_PROVEN

    def _prove(self) -> Event:
        if not self._soak(self._interrupted):
            return Event.INTERRUPTED
        request = probe_request(known=self._known, whole=True)
        seen = self._hosts.probe(self._inventory.names, request)
        self._report.round = judge(self._inventory, seen, self._manifest)
        if self._stopped(seen):
            return Event.STOPPED
        if self._report.round.parity is Parity.PARITY:
            return Event.PARITY
        return self._troubles({v.host: v for v in self._report.round.hosts}) or Event.UNKNOWN
