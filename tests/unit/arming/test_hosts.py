"""What processes answer about their flags: only what is in the contract is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploytool.agent.model import Asked
from deploytool.agent.requests import Answer, FlagStep, Request, Told
from deploytool.arming.hosts import FlagHosts
from deploytool.arming.model import Shown
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.host import Payload


def lines(code: int | None, answer: str = "", errors: str = "") -> Answer:
    return Told(said=Asked(way="command", code=code, answer=answer, errors=errors))


class Saying:
    """A host that always says the same, and counts."""

    name = "router1"

    def __init__(self, *replies: Answer | HostFault) -> None:
        self.replies = list(replies)
        self.calls: list[tuple[Request, bool]] = []

    def call(
        self,
        request: Request,
        *,
        deadline_s: float,
        payload: Payload | None = None,
        insist: bool = False,
    ) -> Answer:
        assert 0 < deadline_s <= 20
        assert isinstance(request, FlagStep)
        assert (payload is not None) == (request.step == "prepare" and request.size > 0)
        self.calls.append((request, insist))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, HostFault):
            raise reply
        return reply

    def close(self) -> None:
        pass


def routers(host: Saying) -> FlagHosts:
    return FlagHosts({"router1": host}, 30, lambda _host, _text, _fault: None)


def shown(**changes: Any) -> str:
    flag = {"name": "A", "bit": 4, "state": "armed", "epoch": 7, "since": 5}
    return json.dumps({"flags": [flag], "armed": ["A"], "epoch": 9, **changes})


def flag(**changes: Any) -> dict[str, Any]:
    said = {"name": "A", "bit": 4, "state": "armed", "epoch": 7, "since": 5, **changes}
    return {"flags": [said]}


def test_what_a_process_shows_is_read() -> None:
    (item,) = routers(Saying(lines(0, shown()))).observe().values()
    assert isinstance(item, Shown)
    assert (item.state("A"), item.epoch_of("A"), item.epoch, item.armed) == ("armed", 7, 9, ("A",))
    assert (item.state("B"), item.epoch_of("B")) == ("absent", 0)
    assert routers(Saying(lines(0, shown()))).find_bit("A", 5) == 4
    assert routers(Saying(lines(0, shown()))).find_bit("B", 5) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"flags": None},
        {"flags": [1]},
        {"flags": [{}]},
        {"armed": None},
        {"armed": []},
        {"armed": ["A", "B"]},
        {"armed": [4]},
        {"epoch": None},
        {"epoch": -1},
        {"epoch": True},
        flag(state="on"),
        flag(state="off"),
        flag(bit=None),
        flag(epoch="7"),
        flag(since="now"),
        flag(since=True),
        {"flags": [*flag()["flags"], *flag()["flags"]]},
    ],
    ids=str,
)
def test_what_is_not_in_the_contract_is_not_believed(changes: dict[str, Any]) -> None:
    (item,) = routers(Saying(lines(0, shown(**changes)))).observe().values()
    assert isinstance(item, HostFault)
    assert item.kind is FaultKind.PROTOCOL


def test_a_refusal_is_one_and_everything_else_is_in_doubt() -> None:
    said = "router: refused (NOT_PROMISED): A was not prepared\n"
    (item,) = routers(Saying(lines(3, "", said))).commit("A").values()
    assert isinstance(item, HostFault)
    assert (item.kind, item.in_doubt) == (FaultKind.REFUSED, False)
    assert item.text == "(NOT_PROMISED): A was not prepared"
    for reply in (
        lines(1, "", "nobody"),
        lines(124),
        lines(0, "[]"),
        lines(0, "x"),
        lines(None, shown()),
        Answer(),
        lines(0, "{}"),
    ):
        (item,) = routers(Saying(reply)).commit("A").values()
        assert isinstance(item, HostFault), reply
        assert item.in_doubt, reply


@pytest.mark.parametrize("answer", ["{}", '{"nonce": "x", "epoch": 1}', '{"nonce": 1, "epoch": 1}'])
def test_no_nonce_no_certificate(answer: str) -> None:
    (item,) = routers(Saying(lines(0, answer))).nonces("A").values()
    assert isinstance(item, HostFault)


def test_a_promise_is_for_the_epoch_that_was_asked_for() -> None:
    assert routers(Saying(lines(0, '{"promise": 7}'))).prepare("A", "x", 7) == {"router1": None}
    (item,) = routers(Saying(lines(0, '{"promise": 8}'))).prepare("A", "x", 7).values()
    assert isinstance(item, HostFault)


@pytest.mark.parametrize("answer", ['{"armed": []}', '{"armed": "A"}', "{}"])
def test_settled_means_that_it_says_armed(answer: str) -> None:
    assert routers(Saying(lines(0, '{"armed": ["A"]}'))).settle("A") == {"router1": None}
    (item,) = routers(Saying(lines(0, answer))).settle("A").values()
    assert isinstance(item, HostFault)


def test_disarming_is_asked_again_where_nobody_knows_and_also_of_a_host_that_was_given_up() -> None:
    lost = HostFault(FaultKind.LOST, "closed", in_doubt=True)
    off, still = lines(0, '{"armed": []}'), lines(0, '{"armed": ["A"]}')
    host = Saying(lost, still, off)
    assert routers(host).disarm("A") == {"router1": None}
    assert len(host.calls) == 3
    assert all(insist for _, insist in host.calls)
    gone = Saying(lost)
    assert isinstance(routers(gone).disarm("A")["router1"], HostFault)
    assert len(gone.calls) == 3
    no = Saying(lines(3, "", "router: refused (FLAG_UNKNOWN): no"))
    assert isinstance(routers(no).disarm("A")["router1"], HostFault)
    assert len(no.calls) == 1, "what the process itself says is final"
