"""A rollout that is older than one can be has been abandoned (P7)."""

from __future__ import annotations

import pytest

from deploytool.agent.model import Hold, Lock
from deploytool.parity.rules import CLOCK_SKEW_AT_MOST_S
from deploytool.rollout.abandoned import abandoned, longest_s
from deploytool.rollout.outcome import left_behind

from .evidences import NOW, but, good, rendered

LOCK = Lock(token=4, holder="ann@desk", purpose="deploy", plan="p1", since=int(NOW))
HOLD = Hold(verdict="MIXED", holder="ann@desk", plan="p1", next="resume", since=int(NOW))


@pytest.mark.parametrize("marks", [{"lock": LOCK}, {"lock": LOCK, "hold": HOLD}])
def test_p7_what_is_older_than_a_rollout_can_take_is_named(marks: dict[str, object]) -> None:
    at_most = longest_s(rendered().inventory)
    seen = {"router1": but(good(), **marks), "router2": good("router2")}
    over = NOW + at_most + CLOCK_SKEW_AT_MOST_S + 1
    assert abandoned(seen, over - 2, at_most) == {}
    found = abandoned(seen, over, at_most)
    assert list(found) == ["router1"]
    error = left_behind(found, "a fleet.yaml")
    assert error.exit_code == 5
    assert error.details[0].startswith("router1: ")
    for command in ("resume", "rollback", "deploy"):
        assert f"deploytool {command} -i 'a fleet.yaml'" in error.now


def test_no_deadline_of_a_rollout_is_forgotten() -> None:
    """Each of them that grows lets a rollout take longer."""
    inventory = rendered().inventory
    service, ssh = inventory.service, inventory.ssh
    for field in ("ready_timeout_s", "stop_timeout_s", "soak_s"):
        longer = service.model_copy(update={field: getattr(service, field) + 10})
        assert longest_s(inventory.model_copy(update={"service": longer})) > longest_s(inventory)
    for field in ("command_timeout_s", "transfer_timeout_s"):
        slower = ssh.model_copy(update={field: getattr(ssh, field) + 10})
        assert longest_s(inventory.model_copy(update={"ssh": slower})) > longest_s(inventory)
