"""Lists of members as preparations write them: to all, or it is said; never over an unread one."""

from __future__ import annotations

import itertools
import json
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet import membership
from deploytool.fleet.members import Member, Members, agree, read_members, with_hosts, without
from deploytool.fleet.membership import RootShells, keep_members, strike_member
from deploytool.fleet.model import Inventory
from deploytool.fleet.prepared import assignments
from deploytool.fleet.protocol import Call, Reply, parse_reply
from deploytool.simulation import fleet
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.members import listed, shells

PATH = "/etc/deploytool/router/members"
RENDERED = fleet.Rendered.of(fleet.inventory(3))
NAMES = RENDERED.inventory.names
FULL = listed(RENDERED.inventory)


@pytest.fixture(autouse=True)
def no_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "_pinned", lambda *_: ())


def later(kept: Members, name: str) -> Members:
    made = without("simulated", {"x": kept}, name)
    assert made is not None
    return made


STATES: dict[str, bytes | None] = {
    "absent": None,
    "damaged": b"{",
    "full": FULL.text.encode(),
    "newer": later(FULL, "router3").text.encode(),
    "foreign": FULL.but(fleet="another").text.encode(),
}


def hosts_with(*states: str) -> dict[str, SimulatedHost]:
    made = {name: fleet.bare(name, RENDERED) for name in NAMES}
    for name, state in zip(NAMES, states, strict=False):
        content = STATES[state]
        made[name].computer.remove(PATH)
        if content is not None:
            made[name].computer.put(PATH, content)
    return made


def kept_by(hosts: dict[str, SimulatedHost]) -> dict[str, Members | str]:
    found: dict[str, Members | str] = {}
    for name, host in hosts.items():
        content = host.computer.read(PATH)
        try:
            found[name] = "none" if content is None else read_members(content.decode())
        except ValueError as error:
            found[name] = str(error)
    return found


def keep(
    hosts: dict[str, SimulatedHost],
    *,
    silent: tuple[str, ...] = (),
    failed: tuple[str, ...] = (),
    inventory: Inventory = RENDERED.inventory,
) -> tuple[dict[str, HostFault], str]:
    said: list[str] = []
    shell = shells(hosts, frozenset(silent))
    return keep_members(inventory, shell, {*silent, *failed}, said.append), "\n".join(said)


def test_p1_a_preparation_leaves_one_list_on_all_whatever_was_there() -> None:
    for states in itertools.product(STATES, repeat=3):
        hosts = hosts_with(*states)
        assert keep(hosts)[0] == {}, states
        kept = kept_by(hosts)
        newest = agree(kept).newest
        assert newest is not None
        assert set(kept.values()) == {newest}
        assert newest.names == {*NAMES}
        assert keep(hosts) == ({}, ""), "done again, it changes nothing"


@pytest.mark.parametrize("silent", NAMES)
@pytest.mark.parametrize("answers", [True, False])
def test_p1_no_list_is_written_before_each_declared_host_is_known(
    silent: str, *, answers: bool
) -> None:
    hosts = hosts_with("absent", "absent", "absent")
    failed, said = keep(hosts, failed=(silent,)) if answers else keep(hosts, silent=(silent,))
    assert failed == {}
    assert f"no list was written, for these are not prepared: {silent}" in said
    assert {*kept_by(hosts).values()} == {"none"}
    assert keep(hosts)[0] == {}, "and then it is one act"
    assert {*kept_by(hosts).values()} == {FULL}


def test_p1_an_absentee_keeps_its_old_list_until_it_is_prepared() -> None:
    hosts = hosts_with("newer", "newer", "full")
    assert keep(hosts, silent=("router2",))[0] == {}, "router3 was a new one, and is back"
    assert agree(kept_by(hosts)).lacking.keys() == {"router2"}
    assert keep(hosts)[0] == {}
    assert not agree(kept_by(hosts)).lacking


def test_p1_another_machine_under_a_member_s_name_is_refused_and_no_list_is_written() -> None:
    hosts = hosts_with()
    hosts["router2"].computer.number = 77
    failed, _ = keep(hosts)
    assert list(failed) == ["router2"]
    assert "router2 is another machine" in failed["router2"].text
    assert "host retire router2 --gone" in failed["router2"].text
    assert {*kept_by(hosts).values()} == {FULL}
    made, _ = strike_member(RENDERED.inventory, "router2", shells(hosts), lambda _: None)
    assert made is not None
    assert keep(hosts)[0] == {}, "a replacement enters the same way"
    member = agree(kept_by(hosts)).newest
    assert member is not None
    assert member.epoch == 3
    assert member.member("router2") == Member(
        name="router2", machine=hosts["router2"].computer.machine_id, root="/opt/router"
    )


def test_a_member_that_the_inventory_does_not_list_stays_one_and_is_said() -> None:
    hosts = hosts_with()
    two = RENDERED.inventory.model_copy(
        update={"hosts": {n: RENDERED.inventory.hosts[n] for n in NAMES[:2]}}
    )
    assert "router3 belong to the fleet" in keep(hosts, inventory=two)[1]
    assert {*kept_by(hosts).values()} == {FULL}


@pytest.mark.parametrize("silent", [(), ("router1",), ("router1", "router2")])
def test_p1_a_host_that_is_gone_leaves_the_lists_of_all_that_answer(
    silent: tuple[str, ...],
) -> None:
    hosts, said = hosts_with(), list[str]()
    shell = shells(hosts, frozenset(silent))
    made, failed = strike_member(RENDERED.inventory, "router3", shell, said.append)
    kept = kept_by(hosts)
    if len(silent) == 2:
        assert (made, set(failed)) == (None, {"router1", "router2"})
        assert {*kept.values()} == {FULL}
        return
    assert made is not None
    assert failed == {}
    assert made.names == {"router1", "router2"}
    assert {n for n, item in kept.items() if item == made} == {"router1", "router2"} - {*silent}
    assert all(any(f"{name} did not show its list" in line for line in said) for name in silent)
    again = strike_member(RENDERED.inventory, "router3", shells(hosts), said.append)
    assert again == (None, {}), "it is on no list that holds"


def test_lists_that_contradict_each_other_are_settled_before_a_host_leaves() -> None:
    hosts = hosts_with("newer")
    other = later(FULL, "router1")
    hosts["router2"].computer.put(PATH, other.text.encode())
    made, failed = strike_member(RENDERED.inventory, "router3", shells(hosts), lambda _: None)
    assert made is None
    assert "do not come from each other" in failed["router1"].text


def test_p1_of_two_at_once_one_is_refused() -> None:
    """The other one writes between the look and the writing."""
    hosts = hosts_with("absent", "absent", "absent")
    plain = shells(hosts)
    theirs = with_hosts("simulated", {"x": FULL}, [FULL.hosts[0].but(keys=("SHA256:x",))])

    def raced(host: str, kept: str, members: str) -> Reply:
        if members and host == "router2":
            hosts[host].computer.put(PATH, theirs.text.encode())
        return plain(host, kept, members)

    failed = keep_members(RENDERED.inventory, raced, (), lambda _: None)
    assert list(failed) == ["router2"]
    assert "changed meanwhile" in failed["router2"].text


# --- root's shell itself --------------------------------------------------------------------------


def shell_in(folder: Path) -> RootShells:
    """``members.sh`` as it is, on files of our own."""
    script = resources.files("deploytool.fleet").joinpath("members.sh").read_text("utf-8")
    (folder / "prepared").write_text("fleet simulated\n")

    def ask(host: str, kept: str, members: str) -> Reply:
        values = {
            "NONCE": "ab",
            "FLEET": "simulated" if host != "stranger" else "another",
            "RECORD_PATH": str(folder / "prepared"),
            "MEMBERS_PATH": str(folder / "members"),
            "KEPT": kept,
            "MEMBERS": members,
        }
        done = subprocess.run(
            ["sh", "-s"],
            input="\n".join([*assignments(values), script]).encode(),
            capture_output=True,
            timeout=20,
        )
        assert done.stderr == b""
        return parse_reply(done.stdout, "ab", Call("members"))

    return ask


def test_p1_root_s_shell_writes_only_over_the_list_that_was_read(tmp_path: Path) -> None:
    ask, file = shell_in(tmp_path), tmp_path / "members"
    first, second = FULL.text, later(FULL, "router3").text
    bare = ask("router1", "", "")
    assert bare.one("machine") == Path("/etc/machine-id").read_text().strip()
    assert bare.one("digest") is None
    made = ask("router1", "", first.rstrip("\n"))
    assert (made.one("digest"), file.read_text()) == (FULL.digest, first)
    assert json.loads(made.one("list") or "") == FULL.to_json()
    assert file.stat().st_mode & 0o777 == 0o644
    for kept in ("", "0" * 64):
        with pytest.raises(HostFault, match="changed meanwhile"):
            ask("router1", kept, second.rstrip("\n"))
        assert file.read_text() == first
    assert ask("router1", FULL.digest, second.rstrip("\n")).one("digest") != FULL.digest
    assert file.read_text() == second
    with pytest.raises(HostFault) as caught:
        ask("stranger", "", "")
    assert caught.value.kind is FaultKind.REFUSED
    assert {item.name for item in tmp_path.iterdir()} == {"prepared", "members"}
