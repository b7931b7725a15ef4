"""Eight hosts, each on the new build, on the old one, or out of reach."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from deploytool.arming.checks import Census, SenderObservation, Situation
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.model import Inventory
from deploytool.parity.judge import judge, shown_manifest
from deploytool.parity.model import Evidence, Round, RoundAnswers
from deploytool.parity.round import look, probe_request
from deploytool.release.model import Manifest
from deploytool.simulation import fleet, program
from tests.unit.registry.artifacts import table
from tests.unit.registry.registries import POWER_PEG, flag, registry, reserved, runtime

NOW = 1_800_000_000.0
NAMES = tuple(f"router{n}" for n in range(1, 9))
NONCES = {name: f"{n:064x}" for n, name in enumerate(NAMES, 1)}


def _made(version: str, text: str) -> tuple[Manifest, bytes]:
    return program.build(version, flags=table(text))


NEW_BUILD = _made(
    "2026.1",
    registry(
        flag("HIDDEN", 0), runtime("RETAIL", 4), runtime("OTHER", 5), reserved("POWER_PEG", 3)
    ),
)
OLD_BUILD = _made("2011.4", registry(flag("HIDDEN", 0), POWER_PEG))
NEW, OLD = NEW_BUILD[0], OLD_BUILD[0]


@functools.cache
def rendered() -> fleet.Rendered:
    return fleet.Rendered.of(fleet.inventory(8))


def declared() -> Inventory:
    return rendered().inventory


@functools.cache
def _host(name: str, *, today: bool) -> Evidence:
    manifest, content = NEW_BUILD if today else OLD_BUILD
    running = fleet.running(name, rendered(), manifest, content)
    return look(running, probe_request(), 5)


def new(name: str) -> Evidence:
    return _host(name, today=True)


def old(name: str) -> Evidence:
    return _host(name, today=False)


def unreachable(_name: str) -> HostFault:
    return HostFault(FaultKind.UNREACHABLE, "no route to host")


def round_of(seen: RoundAnswers) -> Round:
    """One round over these hosts, held against the release that most of them have."""
    return judge(declared(), seen, shown_manifest(seen))


def situation(seen: RoundAnswers | None = None) -> Situation:
    """All is well but for what these hosts showed."""
    shown: Mapping[str, Evidence | HostFault] = seen or {name: new(name) for name in NAMES}
    return Situation(
        flag="RETAIL",
        declared=NAMES,
        round=round_of(shown),
        manifest=shown_manifest(shown),
        taken=NOW - 1,
        now=NOW,
        census=Census(NOW - 1, frozenset(NAMES)),
        gateway=SenderObservation(
            NOW - 1, frozenset({0}), {name: frozenset({NEW.sha256}) for name in NAMES}
        ),
    )
