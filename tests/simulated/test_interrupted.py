"""The user breaks a rollout off, whenever it asks whether: nothing is left half done (P7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploytool.release.model import Release
from deploytool.rollout.model import State
from deploytool.rollout.outcome import conclude
from deploytool.rollout.runner import Runner
from deploytool.simulation import fleet
from deploytool.simulation.oracle import locked_by, truth

from .cases import NEW, OLD, Forgetful, Silent, rendered


class Asked:
    """Answers that the user has broken it off, from the ``last`` question on."""

    def __init__(self, last: int) -> None:
        self._left = last

    def __call__(self) -> bool:
        self._left -= 1
        return self._left < 0


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("supervisor", ["systemd", "process"])
def test_p7_a_rollout_that_is_broken_off_is_as_it_was_or_done(
    artifact: Path, supervisor: str
) -> None:
    inventory = rendered(supervisor)
    codes: list[int] = []
    ends: set[State] = set()
    for last in range(100):
        hosts = fleet.fleet_of(inventory, OLD)
        report = Runner(
            inventory.inventory,
            Release(NEW[0], str(artifact)),
            hosts,
            "me@here",
            Silent(),
            Forgetful(),
            plan_id="plan1",
            interrupted=Asked(last),
        ).run()
        error = conclude(report, "inventory.yaml")
        code = 0 if error is None else error.exit_code
        wanted = NEW if code == 0 else OLD
        assert all(truth(h).runs(wanted[0].sha256) for h in hosts.values()), last
        assert not any(locked_by(host) for host in hosts.values()), last
        codes.append(code)
        ends.add(report.state)
        if code == 0:
            break
    assert codes == [130] * (len(codes) - 1) + [0], "then nobody asked any more"
    assert len(codes) > 6
    assert ends == {State.REFUSED, State.RESTORED, State.DONE}
