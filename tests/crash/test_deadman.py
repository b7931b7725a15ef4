"""An activated host that nobody confirms stops serving; never fenced and confirmed both (P7)."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest
import yaml

from deploytool.rehearsal.faults.deployer import Deployer, Operator

from .conftest import Theatre, shown

pytestmark = [pytest.mark.sshd, pytest.mark.slow]

DEADMAN_S = 4
PATIENCE_S = 20.0


def _watched(theatre: Theatre) -> Operator:
    """An operator whose inventory has the dead-man's time."""
    operator = theatre.operators.fresh("watched")
    said = yaml.safe_load(operator.inventory.read_text())
    said["service"]["deadman_s"] = DEADMAN_S
    path = operator.inventory.with_name("watched.yaml")
    path.write_text(yaml.safe_dump(said, sort_keys=False))
    return Operator(path, operator.store, operator.journal)


def _until(what: Callable[[], bool], text: str, patience_s: float = PATIENCE_S) -> None:
    until = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < until, f"not within {patience_s:g} s: {text}"
        time.sleep(0.005)


def _at_activation(theatre: Theatre, deployer: Deployer) -> None:
    """Stops the deployer when its first host has begun to await a confirmation."""
    canary = theatre.hosts[0]
    _until(theatre.state(canary, "deadman").exists, "the canary is being activated")
    deployer.send(signal.SIGSTOP)


def _fenced(theatre: Theatre) -> None:
    canary = theatre.hosts[0]
    _until(theatre.state(canary, "expired").exists, "the time has run out on the canary")
    _until(lambda: theatre.look()[canary].running == (), "the canary stopped serving")
    assert theatre.look()[canary].owners == ()


def test_p7_a_deployer_that_dies_leaves_no_unverified_build_in_service(theatre: Theatre) -> None:
    operator = _watched(theatre)
    with operator.start("deploy", theatre.new) as deployer:
        _at_activation(theatre, deployer)
        deployer.send(signal.SIGKILL)
        deployer.wait()
    _fenced(theatre)
    others = theatre.hosts[1:]
    assert all(theatre.look()[host].runs(theatre.old) for host in others), "the rest goes on"
    status = operator.run("status")
    assert status.code == 5, shown(status)
    mended = theatre.operators.fresh("elsewhere").run("resume")
    assert mended.code == 0, shown(mended)
    assert theatre.everyone_runs(theatre.new)


def test_p7_a_late_confirmation_is_refused(theatre: Theatre) -> None:
    operator = _watched(theatre)
    with operator.start("deploy", theatre.new) as deployer:
        _at_activation(theatre, deployer)
        _fenced(theatre)
        deployer.send(signal.SIGCONT)
        ended = deployer.wait()
    assert ended.code in {4, 5}, shown(ended)
    assert any(str(line).startswith(theatre.hosts[0]) for line in ended.document["details"])
    if ended.code == 5:
        mended = theatre.operators.fresh("elsewhere").run("rollback")
        assert mended.code == 0, shown(mended)
    assert theatre.everyone_runs(theatre.old)


def test_p7_a_confirmed_host_is_never_fenced(theatre: Theatre) -> None:
    ended = _watched(theatre).run("deploy", theatre.new)
    assert ended.code == 0, shown(ended)
    before = theatre.look()
    time.sleep(DEADMAN_S + 1.5)
    assert theatre.look() == before
    assert theatre.everyone_runs(theatre.new)


@pytest.mark.parametrize("early_s", [0.6, 0.3, 0.1, -0.1])
def test_p7_expiry_and_confirmation_exclude_each_other(theatre: Theatre, early_s: float) -> None:
    """The confirmation is sent on its way close to the instant at which the time runs out."""
    operator = _watched(theatre)
    with operator.start("deploy", theatre.new) as deployer:
        _at_activation(theatre, deployer)
        time.sleep(DEADMAN_S - early_s)
        deployer.send(signal.SIGCONT)
        ended = deployer.wait()
    time.sleep(0.5)
    seen = theatre.look()
    canary = seen[theatre.hosts[0]]
    verified = theatre.state(theatre.hosts[0], "verified").exists()
    if ended.code == 0:
        assert all(item.runs(theatre.new) for item in seen.values()), shown(ended)
        assert verified
        assert not theatre.state(theatre.hosts[0], "expired").exists()
    else:
        assert ended.code in {4, 5}, shown(ended)
        assert not canary.runs(theatre.new), "fenced and confirmed at once"
    if ended.code == 5:
        mended = theatre.operators.fresh("elsewhere").run("rollback")
        assert mended.code == 0, shown(mended)
