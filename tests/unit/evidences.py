"""Evidence of hosts that are a MATCH, to be spoiled by tests: it comes from simulated hosts."""

from __future__ import annotations

import functools
import hashlib
import time
from dataclasses import replace
from typing import Any
from unittest import mock

from deploytool.agent.model import ManifestShown as ShownManifest
from deploytool.agent.model import Marks
from deploytool.parity.judge import expect
from deploytool.parity.model import Evidence, Expected
from deploytool.parity.round import look, probe_request
from deploytool.simulation import fleet, program

RELEASE = program.build("2026.1")
MANIFEST = RELEASE[0]
OTHER_SHA = "f" * 64
NOW = time.time()
"""When all of them are looked at: evidence that is kept must not differ by its age."""


@functools.cache
def rendered(supervisor: str = "systemd") -> fleet.Rendered:
    return fleet.Rendered.of(fleet.inventory(8, supervisor))


@functools.cache
def good(host: str = "router1", supervisor: str = "systemd") -> Evidence:
    """What a host shows that runs the release as it should."""
    with mock.patch("time.time", return_value=NOW):
        running = fleet.running(host, rendered(supervisor), *RELEASE)
        return look(running, probe_request(), 5)


@functools.cache
def bare(host: str = "router1", supervisor: str = "systemd") -> Evidence:
    """What a prepared host shows that has no release."""
    with mock.patch("time.time", return_value=NOW):
        return look(fleet.bare(host, rendered(supervisor)), probe_request(), 5)


def but(evidence: Evidence, **changes: Any) -> Evidence:
    """The same, with other fields of what was shown, of its marks, or of ours.

    ``manifest`` and ``label`` are given as bytes.
    """
    ours = {key: changes.pop(key) for key in ("skew_s", "status", "status_text") if key in changes}
    for key in ("manifest", "label"):
        if isinstance(text := changes.get(key), bytes):
            digest = hashlib.sha256(text).hexdigest()
            changes[key] = ShownManifest(sha=digest, text=text.decode())
    names = [key for key in changes if key in Marks.fields]
    marks = evidence.shown.marks.but(**{key: changes.pop(key) for key in names})
    return replace(evidence, shown=evidence.shown.but(marks=marks, **changes), **ours)


@functools.cache
def wanted(host: str = "router1", supervisor: str = "systemd") -> Expected:
    """What that host has to show."""
    return expect(rendered(supervisor).inventory, host, MANIFEST)
