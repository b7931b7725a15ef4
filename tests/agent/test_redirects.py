"""Which packet rules may send a port's traffic elsewhere; in doubt they do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploytool.agent.linux.machine import LinuxMachine
from deploytool.agent.port import Printed
from deploytool.agent.redirects import redirects

PORTS = (7001, 7002)


def told(program: str, text: str | None) -> tuple[str, ...]:
    return redirects([Printed(program=program, text=text)], PORTS)


@pytest.mark.parametrize(
    ("rule", "counts"),
    [
        ("-A PREROUTING -p tcp -m tcp --dport 7001 -j REDIRECT --to-ports 7999", True),
        ("-A OUTPUT -p tcp --dport 7000:7010 -j DNAT --to-destination 192.0.2.1:1", True),
        ("-A PREROUTING -p tcp -m multiport --dports 80,7002 -j REDIRECT --to-ports 1", True),
        ("-A PREROUTING -p tcp --dport http -j REDIRECT --to-ports 1", True),
        ("-A PREROUTING -p tcp ! --dport 80 -j REDIRECT --to-ports 1", True),
        ("-A PREROUTING -p tcp -j REDIRECT --to-ports 1", True),
        (
            "-A DOCKER ! -i docker0 -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
            False,
        ),
        ("-A PREROUTING -p tcp --dport :7000 -j REDIRECT --to-ports 1", False),
        ("-A PREROUTING -p tcp --dport 7003: -j REDIRECT --to-ports 1", False),
        ("-A PREROUTING -p tcp --dport 7001 -j ACCEPT", False),
        ("-A POSTROUTING -o eth0 -j MASQUERADE", False),
        ("# -A PREROUTING -j REDIRECT", False),
        (":PREROUTING ACCEPT [0:0]", False),
    ],
)
def test_iptables(rule: str, *, counts: bool) -> None:
    assert told("iptables", f"*nat\n{rule}\nCOMMIT\n") == ((rule,) if counts else ())


def match(right: Any, op: str = "==", field: str = "dport") -> dict[str, Any]:
    left = {"payload": {"protocol": "tcp", "field": field}}
    return {"match": {"op": op, "left": left, "right": right}}


REDIRECT: dict[str, Any] = {"redirect": {"port": 7999}}


@pytest.mark.parametrize(
    ("expressions", "counts"),
    [
        ([match(7001), REDIRECT], True),
        ([match(80), REDIRECT], False),
        ([match(80, "!="), REDIRECT], True),
        ([match({"set": [80, 7002]}), REDIRECT], True),
        ([match({"set": [80, {"range": [7003, 7010]}]}), REDIRECT], False),
        ([match({"range": [7000, 7005]}), {"dnat": {"addr": "192.0.2.1"}}], True),
        ([match("@ports"), REDIRECT], True),
        ([match(80, field="sport"), REDIRECT], True),
        ([REDIRECT], True),
        ([{"tproxy": {"port": 1}}], True),
        ([match(7001), {"accept": None}], False),
        ([match(7001), {"xt": {"type": "target", "name": "REDIRECT"}}], True),
        ([match(80), {"xt": {"type": "target", "name": "REDIRECT"}}], False),
        ([{"xt": {"type": "match", "name": "comment"}}, {"counter": None}], False),
    ],
    ids=str,
)
def test_nft(expressions: list[Any], *, counts: bool) -> None:
    rule = {"family": "ip", "table": "nat", "chain": "pre", "handle": 4, "expr": expressions}
    found = told("nft", json.dumps({"nftables": [{"metainfo": {}}, {"rule": rule}]}))
    assert bool(found) is counts
    assert all(text.startswith("nft rule ip nat pre 4: ") for text in found)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"nftables": 1}'])
def test_what_is_not_understood_is_not_known(text: str | None) -> None:
    with pytest.raises(ValueError, match="nft"):
        told("nft", text)


def test_this_machine_s_own_rules_are_understood() -> None:
    printed = LinuxMachine().packet_rules()
    assert isinstance(redirects([one for one in printed if one.text is not None], PORTS), tuple)
