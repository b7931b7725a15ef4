"""``host check``: what it says to do is what mends the lack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploytool.agent.model import FileDigest, Other, Process
from deploytool.cli.preparing import _after_check
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.members import with_hosts
from deploytool.parity.judge import expect
from deploytool.simulation.members import listed

from .evidences import OTHER_SHA, bare, but, good, rendered

FLEET = rendered().inventory
AGAIN = "then: deploytool host check -i f.yaml"
PREPARE = "deploytool host prepare -i f.yaml --admin root"
RUNNING = good()
STRAY = Process(
    pid=RUNNING.main_pid + 1,
    parent=1,
    start=9_999,
    state="S",
    account=999,
    command="python3 router serve",
)
CONFIG = RUNNING.shown.configs[0]
MISSING = (FileDigest(path=CONFIG.path, missing=True),)


def advice(first: Any) -> str:
    """What is said where the first host is so, and the others are prepared."""
    seen = {name: bare(name) for name in FLEET.names} | {FLEET.names[0]: first}
    expected = {name: expect(FLEET, name, None) for name in FLEET.names}
    return _after_check(Path("f.yaml"), FLEET, seen, expected)


@pytest.mark.parametrize(
    ("lack", "mends"),
    [
        ({"configs": MISSING}, "put the configuration file"),
        ({"configs": (CONFIG.but(sha=OTHER_SHA),)}, "make its configuration"),
        ({"skew_s": 3600.0}, "set its clock"),
        ({"machine": bare(FLEET.names[1]).machine}, "give it a machine of its own"),
    ],
    ids=["configuration missing", "configuration differs", "clock", "identity"],
)  # fmt: skip
def test_what_preparing_does_not_mend_is_said(lack: dict[str, Any], mends: str) -> None:
    said = advice(but(bare(), **lack))
    assert mends in said
    assert said.endswith(AGAIN)


def test_p1_a_member_that_the_inventory_lacks_is_to_be_listed_or_retired() -> None:
    full = listed(FLEET)
    more = with_hosts("simulated", {"x": full}, [full.hosts[0].but(name="router9", root="/x")])
    shown = bare().shown.members
    assert shown is not None
    kept = shown.but(text=more.text)
    seen = {name: but(bare(name), members=kept) for name in FLEET.names}
    expected = {name: expect(FLEET, name, None) for name in FLEET.names}
    assert _after_check(Path("f.yaml"), FLEET, seen, expected) == (
        "List router9 in f.yaml too, or, if router9 is gone for good: "
        "deploytool host retire router9 -i f.yaml --gone --admin root"
    )


def test_a_process_of_nobodys_is_ended_first() -> None:
    copy = Other(pid=STRAY.pid, role="acts", ways=("interprets",), release=OTHER_SHA)
    processes = (*RUNNING.shown.processes, STRAY)
    said = advice(but(RUNNING, others=(copy,), processes=processes))
    assert said == f"On router1, as root: kill {STRAY.pid}; {AGAIN}"


@pytest.mark.parametrize(
    "first",
    [
        but(bare(), agent=OTHER_SHA),
        but(bare(), agent=OTHER_SHA, configs=MISSING),
        HostFault(FaultKind.AGENT, "not found"),
        HostFault(FaultKind.AUTH, "user deploy"),
    ],
    ids=["agent", "agent and configuration", "no agent", "nobody let in"],
)
def test_what_preparing_mends_is_prepared(first: object) -> None:
    assert advice(first) == PREPARE


def test_a_host_that_nobody_reaches_comes_first() -> None:
    assert advice(HostFault(FaultKind.UNREACHABLE, "refused")).startswith("See why router1")
