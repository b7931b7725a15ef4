"""The checks in their order, and what runs them: one that can't run fails, and stops no other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from deploytool.errors import DeploytoolError, EnvironmentProblem
from deploytool.gate.check_dead_code import dead_code
from deploytool.gate.check_flags import Found, flags, retired_code
from deploytool.gate.check_inventory import inventory
from deploytool.gate.check_manifest import manifest
from deploytool.gate.check_rehearsed import rehearsed
from deploytool.gate.check_reproducible import reproducible
from deploytool.gate.model import Check, GateReport, Result
from deploytool.gate.rules import could_not_run, settle
from deploytool.gate.subject import GateRequest, Subject

CHECKS: Mapping[Check, Callable[[Subject], Found]] = MappingProxyType(
    {
        Check.FLAGS: flags,
        Check.RETIRED_CODE: retired_code,
        Check.DEAD_CODE: dead_code,
        Check.MANIFEST: manifest,
        Check.INVENTORY: inventory,
        Check.REHEARSED: rehearsed,
        Check.REPRODUCIBLE: reproducible,
    }
)


def run(request: GateRequest, asked: Iterable[Check]) -> GateReport:
    """Runs the checks that are asked for, all of them, whatever the first ones come to."""
    wanted = set(asked)
    with Subject(request) as subject:
        results = tuple(_one(subject, check) for check in CHECKS if check in wanted)
    return GateReport(results, tuple(check for check in CHECKS if check not in wanted))


def _one(subject: Subject, check: Check) -> Result:
    began = time.monotonic()
    registry = subject.name(subject.request.registry)
    try:
        evidence, findings = CHECKS[check](subject)
    except DeploytoolError as error:
        evidence, findings = (), could_not_run(check, error, registry)
    except OSError as error:
        problem = EnvironmentProblem(f"It can't be read: {error}", "", "Fix what it names")
        evidence, findings = (), could_not_run(check, problem, registry)
    placed = tuple(subject.finding(item) for item in findings)
    result = Result(check, evidence, placed, time.monotonic() - began)
    return settle(check, result, registry)
