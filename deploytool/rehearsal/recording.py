"""Writes down what a rehearsal came to, good or bad, for the gate to judge (docs/gate.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploytool import __version__
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.signing import sign
from deploytool.gate.record import (
    NAMESPACE,
    PlayedFaults,
    PlayedScenario,
    RehearsalRecord,
    Shape,
    shape_of,
)
from deploytool.gate.records import keep
from deploytool.rehearsal.faults.report import Campaign
from deploytool.rehearsal.playing import Played
from deploytool.release.model import Release


@dataclass(frozen=True)
class RehearsalRecorder:
    """Where records go and who signs them; ``key`` None: nobody, and nobody will believe them."""

    folder: Path
    key: Path | None
    kind: str
    baseline: Release
    candidate: Release
    began: float

    def try_key(self) -> None:
        """Makes sure that the key can sign before anything is rehearsed.

        Raises:
            InputError: it can't.
        """
        if self.key is not None:
            sign(b"", self.key, NAMESPACE)

    def scenarios(self, shape: Shape, results: Sequence[Played], ended: float) -> Path:
        """The record of scenarios that were played on a fleet of this shape."""
        played = tuple(
            PlayedScenario(
                name=result.scenario,
                passed=result.passed,
                points=len(result.points),
                held=sum(held for held, _ in result.points),
            )
            for result in results
        )
        return self._keep(shape, ended, scenarios=played)

    def faults(self, campaign: Campaign, ended: float) -> Path | None:
        """The record of a campaign of faults; none where no fleet came up for it."""
        if campaign.shape is None:
            return None
        played = PlayedFaults(
            faults=tuple(sorted({item.fault for item in campaign.played})),
            seed=campaign.seed,
            planned=campaign.planned,
            played=len(campaign.played),
            struck=sum(item.struck for item in campaign.played),
            false_successes=len(campaign.lies),
            unresolved=len(campaign.unresolved),
            unexpected=len(campaign.odd),
        )
        return self._keep(campaign.shape, ended, faults=played)

    def _keep(
        self,
        shape: Shape,
        ended: float,
        scenarios: tuple[PlayedScenario, ...] = (),
        faults: PlayedFaults | None = None,
    ) -> Path:
        record = RehearsalRecord(
            tool=f"deploytool {__version__}",
            release=str(self.candidate.digest),
            version=self.candidate.manifest.version,
            baseline=str(self.baseline.digest),
            fleet=self.kind,
            shape=shape,
            began=int(self.began),
            ended=int(ended),
            scenarios=scenarios,
            faults=faults,
        )
        return keep(self.folder, record, self.key)


def shape_now(inventory: Path) -> Shape:
    """The shape of a fleet that is up, by its inventory."""
    return shape_of(load_inventory(inventory))
