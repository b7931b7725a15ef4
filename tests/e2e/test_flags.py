"""P3, P5: a flag on eight real hosts or on none; what is true is asked with testinfra and of each
router itself, never through deploytool's own probe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploytool.rehearsal.arming import inventory_with_senders
from deploytool.rehearsal.stage import Stage
from deploytool.rehearsal.trading import Trading
from deploytool.release.store import find
from tests.unit.test_signers import key

from .workstation import NAMES, NEW, OLD, ROOT, Workstation

FLAG, BIT, PARENTS = "RETAIL_LIQUIDITY", 4, 200
_ASK = (
    f"setpriv --reuid=router --regid=router --init-groups {ROOT}/current/router "
    f"flag show --state {ROOT}/state/service"
)

pytestmark = [pytest.mark.containers, pytest.mark.slow]


def said(desk: Workstation, host: str) -> dict[str, Any]:
    """What the router on a host says of its flags, asked on the host itself."""
    done = desk.seen_as_root(host).run(_ASK)
    assert done.rc == 0, f"{host}: {done.stderr}"
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def armed(desk: Workstation) -> dict[str, list[str]]:
    return {host: item["armed"] for host, item in desk.each(NAMES, lambda h: said(desk, h)).items()}


OFF: dict[str, list[str]] = {host: [] for host in NAMES}
ON: dict[str, list[str]] = {host: [FLAG] for host in NAMES}


@pytest.fixture
def stage(desk: Workstation) -> Stage:
    store = desk.folder / ".deploytool" / "store"
    return Stage(desk.containers, find(store, OLD), find(store, NEW), print)


@pytest.fixture
def trading(stage: Stage) -> Iterator[Trading]:
    with stage.trading() as trading:
        yield trading


def test_p3_a_flag_is_armed_on_eight_of_eight_and_on_nothing_less(
    desk: Workstation, stage: Stage, trading: Trading
) -> None:
    control = trading.flow.gateway.control.resolve()
    fleet = desk.containers
    whole = inventory_with_senders(fleet, control, "senders.yaml", like=desk.inventory)
    alone = inventory_with_senders(
        fleet, control, "alone.yaml", only=("router8",), like=desk.inventory
    )
    mine = ("--key", fleet.folder / "signer_ed25519")

    # Seven on the new build, one on the old: refused, the host is named, and no router changed.
    for inventory, version, members in ((desk.inventory, NEW, ()), (alone, OLD, ("router8",))):
        desk.enlist(members)
        ended = desk.tool("deploy", "-i", inventory, version)
        assert ended.code == 0, ended
    desk.enlist(NAMES)
    assert trading.ready((stage.candidate, stage.baseline)) == ""
    before = desk.looks(NAMES), desk.each(NAMES, lambda host: said(desk, host))
    refused = desk.tool("flags", "arm", FLAG, "-i", whole, *mine, "--json")
    assert refused.code == 3, refused
    document = refused.document
    assert {o["host"] for o in document["obstacles"] if o["rule"] == "ARM_PARITY"} == {"router8"}
    assert "router8" in document["what"]
    assert (desk.looks(NAMES), desk.each(NAMES, lambda host: said(desk, host))) == before
    assert armed(desk) == OFF

    # By hand, without a certificate, each router refuses too.
    done = desk.seen_as_root("router1").run(_ASK.replace("show", f"commit {FLAG}"))
    assert (done.rc, "NOT_PROMISED" in done.stderr) == (3, True), done

    # Eight of eight: armed, and flagged parents flow through all of them.
    assert desk.tool("deploy", "-i", whole, NEW).code == 0
    assert trading.ready((stage.candidate,)) == ""
    trading.flagged(PARENTS, BIT)
    assert trading.held_back(0.5) == PARENTS
    went = desk.tool("flags", "arm", FLAG, "-i", whole, *mine, "--json")
    assert went.code == 0, went
    assert armed(desk) == ON
    assert {item["epoch"] for item in desk.each(NAMES, lambda h: said(desk, h)).values()} == {
        went.document["epoch"]
    }
    assert trading.all_done(PARENTS) == ""
    table = desk.tool("flags", "status", "-i", whole, "--json")
    assert table.code == 0, table
    (row,) = [row for row in table.document["flags"] if row["name"] == FLAG]
    assert row["senders_use_it"]
    assert {cell["state"] for cell in row["hosts"].values()} == {"armed"}
    assert FLAG in desk.tool("flags", "status", "-i", whole).out

    # While it is armed nobody deploys; a router that restarts is off, and every look says so.
    for version in (OLD, NEW):
        ended = desk.tool("deploy", "-i", whole, version)
        assert ended.code == 3, ended
        assert f"deploytool flags disarm {FLAG}" in ended.now
    assert armed(desk) == ON

    # Disarming with one host out of reach: the others are off, it is named, and nobody sends.
    desk.root("router8", "systemctl stop ssh")
    try:
        odd = desk.tool("flags", "disarm", FLAG, "-i", whole, "--json")
    finally:
        desk.root("router8", "systemctl start ssh")
    assert odd.code == 5, odd
    assert [line.split(":")[0] for line in odd.document["details"]] == ["router8"]
    assert odd.document["senders_use_it"] is False
    assert armed(desk) == {**OFF, "router8": [FLAG]}
    shown = desk.tool("flags", "status", "-i", whole)
    assert shown.code == 5, shown
    assert desk.tool("status", "-i", whole).code == 5, "evidence shows the difference"
    assert desk.tool("flags", "disarm", FLAG, "-i", whole).code == 0
    assert armed(desk) == OFF
    books = trading.reconcile()
    assert books.equal, books


def test_p3_a_deployment_turns_flags_off_first_where_it_is_asked_to(
    desk: Workstation, stage: Stage, trading: Trading
) -> None:
    control = trading.flow.gateway.control.resolve()
    whole = inventory_with_senders(desk.containers, control, "senders.yaml", like=desk.inventory)
    assert desk.tool("deploy", "-i", whole, NEW).code == 0
    assert trading.ready((stage.candidate,)) == ""
    mine = ("--key", desk.containers.folder / "signer_ed25519")
    assert desk.tool("flags", "arm", FLAG, "-i", whole, *mine).code == 0
    assert armed(desk) == ON
    ended = desk.tool("deploy", "-i", whole, OLD, "--disarm")
    assert ended.code == 0, ended
    assert trading.flow.observe()["bits"] == []
    assert "OFF" not in ended.err


def test_signers_come_and_go_on_every_host(desk: Workstation, tmp_path: Path) -> None:
    """Adding and removing a signer is a command; each host is seen to have the file."""
    key(tmp_path, "bert")
    admin = ("--admin", "root", "--admin-key", desk.containers.folder / "admin_ed25519")
    place = "/etc/deploytool/router/allowed_signers"
    for verb, words, there in (("add", (tmp_path / "bert.pub",), True), ("remove", (), False)):
        ended = desk.tool("host", "signers", verb, "bert", *words, "-i", desk.inventory, *admin)
        assert ended.code == 0, ended
        for host in NAMES:
            file = desk.seen_as_root(host).file(place)
            assert (file.user, file.group, oct(file.mode)) == ("root", "root", "0o644")
            assert ("bert " in file.content_string) is there
            assert "rehearsal " in file.content_string
    # Whoever changes the file on a host by hand is seen.
    desk.root("router3", f"echo '# mine' >>{place}")
    shown = desk.tool("host", "check", "-i", desk.inventory)
    assert shown.code == 5
    assert "signers file" in shown.err
    assert desk.prepare("-i", desk.inventory).code == 0
    assert desk.tool("host", "check", "-i", desk.inventory).code == 0
