"""The gateway's side of the wire, held against a router made of a plain socket.

What real routers do with it is in ``test_flow.py``; here a router misbehaves on purpose.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from deploytool.market import soup
from deploytool.market.control import ControlFault
from deploytool.market.gateway import ClientGateway, ClientGatewayConfig
from deploytool.market.link import RouterAddress

from .hosts import LIMITS, RELEASE, RawHost, Rig
from .peers import eventually, running


@pytest.fixture
def rig(senders: Rig) -> Rig:
    return senders


def test_it_logs_in_with_its_name_and_deals_round_robin(rig: Rig) -> None:
    for host in rig.hosts:
        login = soup.unpack_login_request(host.accept())
        assert login == soup.LoginRequest("GATE01", "secret")
    eventually(lambda: rig.member(1)["standing"] == "trusted")
    rig.load(4)
    first, second = ([host.order()[0] for _ in range(2)] for host in rig.hosts)
    first, second = sorted((first, second))
    assert first[0] < second[0] < first[1] < second[1]  # ClOrdIDs are numbered as they are made


def test_what_was_not_acknowledged_is_sent_again_to_the_same_router_only(rig: Rig) -> None:
    one, two = rig.hosts
    one.accept()
    rig.load()
    name, kind, _ = one.order()
    two.accept()
    eventually(lambda: rig.member(1)["standing"] == "trusted")
    one.accept()  # the line broke and came back
    assert one.order()[:2] == (name, kind)
    one.answer(name, b"I", b"2", 100, 0, 0, 100, 0, 0, 0)
    eventually(lambda: rig.states() == {"done": 1})
    assert rig.member(1)["sent"] == 0


def test_what_was_acknowledged_is_asked_for_and_never_sent_again(rig: Rig) -> None:
    one = rig.hosts[0]
    one.accept()
    rig.load()
    name, _, _ = one.order()
    one.answer(name, b"0", b"0", 100, 0, 0, 0, 100, 0, 0)
    eventually(lambda: rig.states() == {"open": 1})
    one.accept()
    assert one.order()[:2] == (name, b"H")
    one.answer(name, b"I", b"U", 100, 0, 0, 40, 60, 0, 0)
    eventually(lambda: rig.ask("report")["in_doubt"] == 1)
    one.answer(name, b"4", b"4", 100, 0, 0, 40, 0, 42, 60)
    eventually(lambda: rig.states() == {"done": 1})
    [row] = rig.ask("parents")["parents"]
    assert (row["cum"], row["leaves"], row["cxl"], row["seen"]) == (40, 0, 60, 0)
    assert rig.ask("report")["problems"] == []


def test_a_router_that_drains_hands_its_parent_to_another(rig: Rig) -> None:
    one, two = rig.hosts
    one.accept()
    rig.load()
    name, _, _ = one.order()
    two.accept()
    eventually(lambda: rig.member(1)["standing"] == "trusted")
    one.send(soup.frame(soup.UNSEQUENCED, one.info(RELEASE, "router1", b"D")))
    one.answer(name, b"8", b"8", 100, 0, 0, 0, 0, 22, 0)
    assert two.order()[0] == name


def test_a_bit_that_was_withdrawn_never_goes_out_again(rig: Rig) -> None:
    one = rig.hosts[0]
    one.accept()
    rig.ask("use", bit=3)
    rig.load()
    name, kind, flags = one.order()
    assert (kind, flags) == (b"D", 0b1000)
    assert rig.ask("observe")["unacknowledged"] == {"3": 1}
    rig.ask("withdraw", bit=3)
    one.accept()
    assert one.order()[:2] == (name, b"H")  # asked for, not sent again with the bit
    one.answer(name, b"I", b"8", 100, 0, 0, 0, 0, 30, 0)  # and the router never had it
    name_again, kind, flags = one.order()
    assert (name_again, kind, flags) == (name, b"D", 0)
    assert rig.ask("observe")["unacknowledged"] == {}


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ({"release": "cd" * 32, "session": "cdcdcdcdcd"}, "not trusted"),
        ({"host": "router7"}, "router7 answers where router1 should"),
        ({"session": "cdcdcdcdcd"}, "another release"),
    ],
)
def test_a_router_that_is_not_what_it_should_be_gets_nothing(
    rig: Rig, lie: dict[str, Any], why: str
) -> None:
    one = rig.hosts[0]
    rig.load()
    one.accept(**lie)
    assert one.next() == (soup.LOGOUT_REQUEST, b"")
    eventually(lambda: rig.member()["standing"] == "refused")
    assert why in rig.member()["why"]
    assert rig.states() == {"waiting": 1}


def test_trust_that_is_taken_back_ends_the_session(rig: Rig) -> None:
    one = rig.hosts[0]
    one.accept()
    eventually(lambda: rig.member()["standing"] == "trusted")
    rig.ask("trust", releases=["cd" * 32])
    assert one.next() == (soup.LOGOUT_REQUEST, b"")
    assert rig.member()["standing"] == "refused"
    rig.load()
    assert rig.states() == {"waiting": 1}


def test_nothing_is_trusted_before_it_was_told_so(tmp_path: Path) -> None:
    host = RawHost("router1")
    router = RouterAddress("router1", "127.0.0.1", host.port)
    gateway = ClientGateway(ClientGatewayConfig("GATE01", "secret", (router,)), tmp_path / "g.sock")
    with running(gateway):
        host.accept()
        assert host.next() == (soup.LOGOUT_REQUEST, b"")
    host.close()


@pytest.mark.parametrize("state", [b"R", b"H", b"D", b"P"])
def test_a_router_that_is_not_active_gets_no_parent(rig: Rig, state: bytes) -> None:
    one = rig.hosts[0]
    one.accept()
    one.send(soup.frame(soup.UNSEQUENCED, one.info(RELEASE, "router1", state)))
    eventually(lambda: rig.member().get("trading_state") not in (None, "ACTIVE"))
    rig.load()
    time.sleep(0.1)
    assert rig.states() == {"waiting": 1}
    one.send(soup.frame(soup.UNSEQUENCED, one.info(RELEASE, "router1")))
    assert one.order()[1] == b"D"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x00", b"\xff\xff?", soup.frame(b"?"), soup.frame(b"S", b"8"),
        soup.frame(b"U", b"I" * 20), soup.frame(b"S", b"\xff" * 53),
    ],
)  # fmt: skip
def test_garbage_from_a_router_ends_the_line_and_it_is_tried_again(
    rig: Rig, garbage: bytes
) -> None:
    one = rig.hosts[0]
    one.accept()
    eventually(lambda: rig.member()["standing"] == "trusted")
    one.send(garbage)
    one.accept()
    eventually(lambda: rig.member()["logins"] == 2)
    assert rig.ask("report")["problem_count"] == 0


def test_a_router_that_falls_silent_is_left(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploytool.market import link

    monkeypatch.setattr(link, "_SILENCE_S", 0.3)
    rig.hosts[0].accept()
    eventually(lambda: rig.member()["standing"] == "trusted")
    eventually(lambda: "silent" in rig.member()["why"])
    rig.hosts[0].accept()


def test_no_router_owes_more_answers_than_the_window(rig: Rig) -> None:
    one = rig.hosts[0]
    one.accept()
    eventually(lambda: rig.member()["standing"] == "trusted")
    rig.load(700)
    eventually(lambda: not rig.ask("report")["loading"])
    assert rig.states() == {"sent": 500, "waiting": 200}
    one.answer(one.order()[0], b"0", b"0", 100, 0, 0, 0, 100, 0, 0)
    eventually(lambda: rig.states() == {"sent": 500, "waiting": 199, "open": 1})


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("use", {}), ("use", {"bit": 16}), ("use", {"bit": -1}), ("use", {"bit": True}),
        ("trust", {"releases": "all"}), ("trust", {"releases": ["AB" * 32]}), ("trust", {}),
        ("load", {"parents": 0, "limits": LIMITS}), ("load", {"limits": LIMITS}),
        ("load", {"rate": 10, "limits": LIMITS}), ("load", {"parents": 10**7, "limits": LIMITS}),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused(rig: Rig, command: str, arguments: dict[str, object]) -> None:
    with pytest.raises(ControlFault, match="refused"):
        rig.ask(command, **arguments)
    assert rig.ask("observe")["bits"] == []
    assert rig.ask("observe")["trusted"] == [RELEASE]
    assert rig.ask("report")["parents"] == 0


def test_one_load_at_a_time_and_a_rate_is_kept(rig: Rig) -> None:
    rig.ask("load", rate=100, duration_s=0.5, limits=LIMITS)
    with pytest.raises(ControlFault, match="under way"):
        rig.load()
    time.sleep(0.2)
    assert 5 <= rig.ask("report")["parents"] <= 40
    eventually(lambda: not rig.ask("report")["loading"])
    assert rig.ask("report")["parents"] == 50
