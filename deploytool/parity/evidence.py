"""What a host showed, as rules read it: with this side's clock, and the status as JSON. Pure."""

from __future__ import annotations

import json
import re

from deploytool.agent import model as agent
from deploytool.agent.model import KnownRelease
from deploytool.agent.requests import Answer
from deploytool.core.text import excerpt
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.model import FLAG_NAME
from deploytool.parity.model import Evidence, RoundAnswers
from deploytool.release.model import Manifest

_FLAG_NAME = re.compile(FLAG_NAME)


def read_evidence(answer: Answer, asked_at: float, arrived_at: float) -> Evidence:
    """The evidence in the answer to a probe, a lock or an activation.

    ``asked_at``, ``arrived_at``: in seconds since the epoch, by this side's clock.

    Raises:
        HostFault: there is none, or something is told twice.
    """
    shown: agent.HostEvidence | None = getattr(answer, "evidence", None)
    if shown is None:
        why = getattr(answer, "unshown", "") or getattr(answer, "complaint", "") or "nothing"
        raise HostFault(FaultKind.PROTOCOL, f"it shows nothing: {excerpt(why)}")
    told: dict[str, list[object]] = {
        "process": [process.pid for process in shown.processes],
        "unit": [item.name for item in shown.unit],
        "other": [other.pid for other in shown.others],
    }
    for what, keys in told.items():
        if len(set(keys)) != len(keys):
            text = f"the evidence can't be read: something is told twice: {what}"
            raise HostFault(FaultKind.PROTOCOL, text)
    status, text = _status(shown)
    return Evidence(shown, skew_s(shown.clock, asked_at, arrived_at), status, text)


def known_by(seen: RoundAnswers) -> tuple[KnownRelease, ...]:
    """The releases that hosts showed manifests of: each of them is looked for on all hosts."""
    found: dict[KnownRelease, None] = {}
    for item in seen.values():
        for text in (item.manifest, item.label) if isinstance(item, Evidence) else ():
            try:
                manifest = Manifest.parse(text) if text is not None else None
            except ValueError:
                continue
            if manifest is not None:
                found[KnownRelease(sha=manifest.sha256, size=manifest.size)] = None
    return tuple(found)


def skew_s(clock: float, asked_at: float, arrived_at: float) -> float:
    """How far the host's clock is outside the time between question and answer, in seconds.

    A slow answer is not a slow clock.
    """
    return clock - max(asked_at, min(clock, arrived_at))


def _status(shown: agent.HostEvidence) -> tuple[dict[str, object] | None, str]:
    asked = shown.status
    if asked is None:
        return None, "no process to ask: there is no main process"
    if asked.code != 0:
        ended = "did not end in time" if asked.code is None else f"ended with {asked.code}"
        return None, f"it {ended}: {excerpt(asked.errors or asked.answer)}"
    try:
        said = json.loads(asked.answer)
    except (ValueError, RecursionError):
        return None, excerpt(asked.answer)
    if not isinstance(said, dict):
        return None, excerpt(asked.answer)
    armed = said.get("armed")
    for name in armed if isinstance(armed, list) else ():
        # It ends up in commands that a person pastes.
        if not isinstance(name, str) or _FLAG_NAME.fullmatch(name) is None:
            return None, f"it says that {excerpt(repr(name))} is armed, which is no flag's name"
    return said, ""
