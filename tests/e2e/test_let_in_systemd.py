"""Under systemd, with no signers: root alone lets a stopped host in.

Root comes over SSH itself, or by an account that may do everything with sudo; the deploy account,
whose sudo gives it the helper and nothing else, is refused (P6).
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploytool.agent.protocol import request_bytes
from deploytool.agent.requests import LetIn
from deploytool.fleet.inventory import load_inventory

from .conftest import Trio
from .workstation import HELPER, OLD, ROOT, Ended, Workstation

pytestmark = [pytest.mark.containers, pytest.mark.slow]
_NONCE = "0" * 32
_OPS = "ops"


def _unsigned_inventory(desk: Workstation) -> Path:
    path = desk.write_inventory("unsigned.yaml", list(Trio.names), waves=[1, "rest"])
    said = yaml.safe_load(path.read_text())
    del said["signers"], said["service"]["flags"]
    start = said["service"]["start"]
    at = start.index("--signers")
    del start[at : at + 2]
    path.write_text(yaml.safe_dump(said, sort_keys=False))
    return path


@pytest.fixture
def unsigned(trio: Trio) -> Iterator[Trio]:
    """The trio by an inventory that names no signers."""
    desk = trio.desk
    made = Trio(desk, _unsigned_inventory(desk))
    prepared = desk.prepare("-i", made.inventory)
    assert prepared.code == 0, prepared
    for host in made.names:
        desk.root(host, "systemctl stop router")
    deployed = made.deploy(OLD)
    assert deployed.code == 0, deployed
    yield made
    for host in made.names:
        desk.root(host, f"rm -f {ROOT}/state/fenced {ROOT}/state/halted; systemctl stop router")
    prepared = desk.prepare("-i", trio.inventory)
    assert prepared.code == 0, prepared


@pytest.fixture
def ops(unsigned: Trio) -> Iterator[Path]:
    """An administrator's account on the victim, with sudo for everything; gives its key."""
    key = unsigned.desk.folder / "ops_ed25519"
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(make, check=True, capture_output=True, timeout=20)
    public = shlex.quote(Path(f"{key}.pub").read_text().strip())
    unsigned.hurt(
        f"useradd -m -s /bin/sh -p '*' {_OPS}; install -d -o {_OPS} -m 700 /home/{_OPS}/.ssh\n"
        f"echo {public} >/home/{_OPS}/.ssh/authorized_keys; chown -R {_OPS} /home/{_OPS}/.ssh\n"
        f"echo '{_OPS} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{_OPS}"
    )
    yield key
    unsigned.hurt(f"userdel -r {_OPS} 2>/dev/null; rm -f /etc/sudoers.d/{_OPS}")
    key.unlink()
    Path(f"{key}.pub").unlink()


def _stop(trio: Trio, *, hung: bool = True) -> Ended:
    """A stop of the victim: one that hung is fenced and dead, with its unit masked."""
    if hung:
        trio.hurt("kill -STOP $(systemctl show -p MainPID --value router)")
    stopped = trio.desk.tool(
        "stop", "-i", trio.inventory, "--host", trio.victim, "--reason", "hung", "--json"
    )
    (row,) = stopped.document["hosts"]
    assert (row["end"], row["stopped"]) == ("DEAD" if hung else "HALTED", True), row
    return stopped


def _let_in(trio: Trio, admin: str, key: Path) -> Ended:
    return trio.desk.tool(
        *("host", "let-in", trio.victim, "-i", trio.inventory, "--reason", "the cause is gone"),
        *("--admin", admin, "--admin-key", key),
    )


def _state(trio: Trio) -> str:
    """What the router itself says, asked past deploytool's helper."""
    inventory = load_inventory(trio.inventory)
    words = inventory.service.status
    asked = shlex.join(inventory.expand(word, trio.victim) for word in words)
    return str(json.loads(trio.hurt(asked))["trading_state"])


def _trades(trio: Trio) -> None:
    assert trio.hurt("systemctl is-active router").strip() == "active"
    assert trio.hurt("systemctl is-enabled router").strip() == "enabled"
    assert _state(trio) == "ACTIVE"
    assert (
        trio.hurt(f"ls {ROOT}/state | grep -c -e '^halted$' -e '^fenced$' || true").strip() == "0"
    )


def test_p6_root_lets_in_what_was_fenced_and_what_was_halted(unsigned: Trio) -> None:
    key = unsigned.desk.containers.folder / "admin_ed25519"
    for hung in (True, False):
        _stop(unsigned, hung=hung)
        let = _let_in(unsigned, "root", key)
        assert let.code == 0, let
        _trades(unsigned)
    kept = unsigned.hurt(f"cat {ROOT}/state/let-in")
    assert kept.count("reason the+cause+is+gone") == 2


def test_p6_an_admin_with_sudo_lets_in(unsigned: Trio, ops: Path) -> None:
    _stop(unsigned)
    let = _let_in(unsigned, _OPS, ops)
    assert let.code == 0, let
    _trades(unsigned)


def test_p6_the_deploy_account_lets_nothing_in(unsigned: Trio) -> None:
    """Neither by the command, nor by asking the helper itself as sudo allows it."""
    _stop(unsigned)
    before = unsigned.hurt(f"ls -A {ROOT}/state; cat {ROOT}/state/halted")
    identity = unsigned.desk.containers.folder / "id_ed25519"
    let = _let_in(unsigned, "deploy", identity)
    assert let.code == 5, let
    call = request_bytes(LetIn(by="me", reason="r"), _NONCE)
    for command in (f"sudo -n {HELPER}", f"SUDO_COMMAND='sh -c x' sudo -n {HELPER}"):
        argv = ["ssh", "-F", str(unsigned.desk.ssh_config()), unsigned.victim, command]
        done = subprocess.run(argv, input=call, capture_output=True, timeout=30)
        assert b'"code":"rights"' in done.stdout, done
    assert unsigned.hurt(f"ls -A {ROOT}/state; cat {ROOT}/state/halted") == before
    assert unsigned.hurt("systemctl is-active router || true").strip() != "active"
    admin = unsigned.desk.containers.folder / "admin_ed25519"
    assert _let_in(unsigned, "root", admin).code == 0, "root's is another matter"
