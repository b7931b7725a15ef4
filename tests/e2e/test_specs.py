"""``verify --spec``: the user's own testinfra specs, on every host, over pinned keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Trio
from .workstation import ROOT, Ended, Workstation

pytestmark = pytest.mark.containers

PASSING = f"""
def test_the_router_runs(host):
    assert host.service("router").is_running
    assert host.file("{ROOT}/current").is_symlink
"""
ELSEWHERE = """
def test_not_on_router2(host):
    assert host.run("hostname").stdout.strip() != "router2"
"""
SKIPPING = """
import pytest
def test_nothing(host):
    pytest.skip("another day")
"""
HOSTLESS = """
def test_something_else():
    assert True
"""


def specs(desk: Workstation, name: str, text: str) -> Path:
    folder = desk.folder / name
    folder.mkdir(exist_ok=True)
    (folder / "test_spec.py").write_text(text)
    return folder


def verify(trio: Trio, folder: Path) -> Ended:
    return trio.desk.tool("verify", "-i", trio.inventory, "--spec", folder, "--json")


def lines(ended: Ended) -> dict[str, bool]:
    return {row["host"]: row["good"] for row in ended.document["specs"]}


def test_p1_specs_that_hold_on_every_host(trio: Trio) -> None:
    ended = verify(trio, specs(trio.desk, "passing", PASSING))
    assert ended.code == 0, ended
    assert lines(ended) == dict.fromkeys(trio.names, True)


def test_p1_the_spec_that_ships_holds_on_every_host(trio: Trio) -> None:
    ended = trio.desk.tool("verify", "-i", trio.inventory, "--json")
    assert ended.code == 0, ended
    rows = {row["host"]: row["passed"] for row in ended.document["specs"]}
    assert rows == dict.fromkeys(trio.names, 3), "bytes, rights, and the service under systemd"


def test_p1_one_host_that_fails_a_spec_is_named(trio: Trio) -> None:
    ended = verify(trio, specs(trio.desk, "elsewhere", ELSEWHERE + PASSING))
    assert ended.code == 5, ended
    assert lines(ended) == {"router1": True, "router2": False, "router3": True}
    assert ended.document["details"][0].startswith("router2: test_not_on_router2")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("skipping", SKIPPING, id="skipping"),
        pytest.param("hostless", HOSTLESS, id="hostless"),
    ],
)
def test_p2_specs_that_say_nothing_about_a_host_are_a_failure(
    trio: Trio, name: str, text: str
) -> None:
    ended = verify(trio, specs(trio.desk, name, text))
    assert ended.code == 5, ended
    assert lines(ended) == dict.fromkeys(trio.names, False)


def test_p2_specs_that_are_not_there_are_bad_input(trio: Trio) -> None:
    assert verify(trio, trio.desk.folder / "nowhere").code == 2
    assert verify(trio, specs(trio.desk, "broken", "import nothing_of_this_name")).code == 2
    empty = trio.desk.folder / "empty"
    empty.mkdir(exist_ok=True)
    assert verify(trio, empty).code == 2


@contextmanager
def another_key(trio: Trio) -> Iterator[None]:
    """The victim shows a key that is not the pinned one."""
    trio.hurt(
        "mkdir /tmp/keys; mv /etc/ssh/ssh_host_* /tmp/keys/; "
        'ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key; systemctl restart ssh'
    )
    try:
        yield
    finally:
        trio.hurt("rm /etc/ssh/ssh_host_*; mv /tmp/keys/* /etc/ssh/; systemctl restart ssh")


def test_p1_neither_way_in_accepts_a_changed_host_key(trio: Trio) -> None:
    """Specs go through OpenSSH, evidence through paramiko; sshd is asked who was let in."""
    folder = specs(trio.desk, "passing", PASSING)
    accepted = "journalctl -u ssh --no-pager | grep -c Accepted || true"
    with another_key(trio):
        before = trio.hurt(accepted)
        ended = verify(trio, folder)
        assert trio.hurt(accepted) == before
    assert ended.code == 5, ended
    assert lines(ended) == {"router1": True, "router2": False, "router3": True}
    verdicts = {row["host"]: row["verdict"] for row in ended.document["hosts"]}
    assert verdicts == {"router1": "MATCH", "router2": "UNKNOWN", "router3": "MATCH"}
    assert any("CHANGED" in line for line in ended.document["details"]), ended


def test_p1_neither_way_in_accepts_a_key_that_was_never_pinned(trio: Trio) -> None:
    pinned = (trio.desk.containers.folder / "known_hosts").read_text()
    address = trio.desk.address(trio.victim)
    fewer = trio.desk.folder / "fewer_known_hosts"
    fewer.write_text(
        "\n".join(line for line in pinned.splitlines() if line.split()[0] != address) + "\n"
    )
    inventory = trio.desk.write_inventory(
        "fewer.yaml", list(trio.names), ssh={"known_hosts": str(fewer)}
    )
    folder = specs(trio.desk, "passing", PASSING)
    accepted = "journalctl -u ssh --no-pager | grep -c Accepted || true"
    before = trio.hurt(accepted)
    ended = trio.desk.tool("verify", "-i", inventory, "--spec", folder, "--json")
    assert ended.code == 5, ended
    assert lines(ended)["router2"] is False
    assert any("no key is pinned" in line for line in ended.document["details"]), ended
    assert trio.hurt(accepted) == before
    assert address not in fewer.read_text()
