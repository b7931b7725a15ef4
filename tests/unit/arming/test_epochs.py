"""An epoch is close to the time of issue, or arming would be over for good."""

from __future__ import annotations

import json
import time

import pytest

from deploytool.agent.model import Asked
from deploytool.agent.requests import Answer, Request, Told
from deploytool.arming.hosts import EPOCH_AHEAD_AT_MOST_S, FlagHosts
from deploytool.errors import HostFault
from deploytool.fleet.host import Payload


class Teller:
    """A host that issues a nonce, and says that this epoch is the newest it accepted."""

    def __init__(self, epoch: int) -> None:
        self.name = "router1"
        self.epoch = epoch

    def call(
        self,
        request: Request,
        *,
        deadline_s: float,
        payload: Payload | None = None,
        insist: bool = False,
    ) -> Answer:
        del request, deadline_s, payload, insist
        said = json.dumps({"nonce": "0" * 32, "epoch": self.epoch})
        return Told(said=Asked(way="command", code=0, answer=said))

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(("ahead", "believed"), [(-10, True), (60, True), (86400 * 2, False)])
def test_a_host_that_shows_an_epoch_of_the_far_future_is_not_asked_again(
    ahead: int, *, believed: bool
) -> None:
    epoch = int(time.time()) + ahead
    hosts = FlagHosts({"router1": Teller(epoch)}, 5, lambda *_: None)
    outcome = hosts.nonces("RETAIL")["router1"]
    assert isinstance(outcome, HostFault) is not believed
    if isinstance(outcome, HostFault):
        assert str(epoch) in outcome.text
    assert EPOCH_AHEAD_AT_MOST_S == 86400
