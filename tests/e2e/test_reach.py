"""How hosts are reached: through jumps, proxies and agents, as OpenSSH would, each hop pinned."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.paths import PlainNames
from deploytool.fleet.session import Session
from deploytool.fleet.sshconfig import route
from deploytool.parity.testinfra_specs import ssh_config
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.model import silent
from deploytool.rehearsal.fleets.ready import account, make_key

pytestmark = pytest.mark.sshd

TIMEOUT_S = 30
NAMES = ("router1", "router2", "router3")
RELAY = """\
import socket, sys, threading
print("relay to", *sys.argv[1:], file=open(sys.argv[1], "a"))
line = socket.create_connection((sys.argv[2], int(sys.argv[3])))
def up():
    while part := sys.stdin.buffer.raw.read(65536):
        line.sendall(part)
    line.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while part := line.recv(65536):
    sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()
"""


@dataclass(frozen=True)
class Three:
    """Three hosts, each with a key of its own that it lets in, and what OpenSSH is told of them."""

    fleet: LocalFleet
    folder: Path

    def port(self, name: str) -> int:
        record = self.fleet.record()
        assert record is not None
        return next(host.port for host in record.hosts if host.name == name)

    def key(self, name: str) -> Path:
        return self.folder / f"key-{name}"

    def lets_in(self, name: str, public: Path) -> None:
        (self.fleet.host_folder(name) / "authorized_keys").write_text(public.read_text())

    def block(self, name: str, *lines: str) -> str:
        start = f"Host {name}\n HostName 127.0.0.1\n Port {self.port(name)}\n User {account()}\n"
        return start + "".join(f" {line}\n" for line in lines)

    def own(self, name: str, *lines: str) -> str:
        """What OpenSSH is told of a host: the one key that it lets in, and no agent."""
        key = f"IdentityFile {self.key(name)}"
        return self.block(name, key, "IdentitiesOnly yes", "IdentityAgent none", *lines)

    def inventory(self, *blocks: str, identity: Path | None = None) -> Path:
        """router3 alone, by what OpenSSH is told of it."""
        (self.folder / "ssh_config").write_text("\n".join(blocks))
        said = yaml.safe_load(self.fleet.inventory.read_text())
        said["ssh"] = {
            "known_hosts": str(self.folder / "known_hosts"),
            "config_file": str(self.folder / "ssh_config"),
            "connect_timeout_s": 10,
            **({"identity_file": str(identity)} if identity else {}),
        }
        said.update(expect=1, waves=["rest"], signers=str(self.fleet.folder / said["signers"]))
        said["hosts"] = {"router3": {**said["hosts"]["router3"], "address": "router3"}}
        del said["hosts"]["router3"]["port"]
        path = self.folder / "one.yaml"
        path.write_text(yaml.safe_dump(said))
        return path

    def enter(self, path: Path) -> str:
        """What a command prints at router3."""
        inventory = load_inventory(path)
        ssh = inventory.ssh
        way = route(inventory, "router3")
        session = Session(way, ssh.known_hosts, ssh.connect_timeout_s)
        try:
            answer = session.run("echo $HOME; cat", b"heard", deadline_s=TIMEOUT_S)
        finally:
            session.close()
        return answer.output.decode()

    def logins(self) -> dict[str, int]:
        """How often each host let somebody in."""
        logs = {name: self.fleet.host_folder(name) / "sshd.log" for name in NAMES}
        return {name: log.read_text().count("Accepted publickey") for name, log in logs.items()}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    fleet = LocalFleet(tmp_path_factory.mktemp("reach") / "fleet")
    try:
        fleet.up(3, silent)
        yield fleet
    finally:
        fleet.down(silent)


@pytest.fixture
def three(hosts: LocalFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Three:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    made = Three(hosts, tmp_path)
    shutil.copy(hosts.folder / "known_hosts", tmp_path / "known_hosts")
    for name in NAMES:
        make_key(made.key(name))
        made.lets_in(name, made.key(name).with_suffix(".pub"))
    return made


def through_two(three: Three) -> Path:
    """router3 is behind router2, which is behind router1: the inventory's host names one jump."""
    return three.inventory(
        three.own("router1"),
        three.own("router2", "ProxyJump router1"),
        three.own("router3", "ProxyJump router2"),
    )


def test_a_jump_behind_a_jump_each_with_its_own_key(three: Three) -> None:
    before = three.logins()
    said = three.enter(through_two(three))
    assert said == f"{three.fleet.host_folder('router3')}\nheard"
    assert three.logins() == {name: count + 1 for name, count in before.items()}


def test_what_a_jump_host_can_not_reach_is_said_by_it(three: Three) -> None:
    nowhere = three.own("router3").replace(f"Port {three.port('router3')}", "Port 1")
    path = three.inventory(three.own("router1"), nowhere + " ProxyJump router1\n")
    (three.folder / "known_hosts").write_text(
        "".join(
            line.replace(f":{three.port('router3')} ", ":1 ")
            for line in (three.folder / "known_hosts").read_text().splitlines(keepends=True)
        )
    )
    with pytest.raises(
        HostFault, match=r"127\.0\.0\.1:1: the jump host .* Connect failed"
    ) as caught:
        three.enter(path)
    assert caught.value.kind is FaultKind.UNREACHABLE


def test_a_list_of_jumps_goes_in_order_whatever_a_later_one_says_itself(three: Three) -> None:
    path = three.inventory(
        three.own("router1"),
        three.own("router2", "ProxyCommand false"),
        three.own("router3", f"ProxyJump router1,{account()}@router2"),
    )
    before = three.logins()
    assert three.enter(path).endswith("heard")
    assert three.logins() == {name: count + 1 for name, count in before.items()}


@pytest.mark.parametrize("victim", NAMES)
@pytest.mark.parametrize("how", ["unknown", "changed"])
def test_every_hop_must_show_a_pinned_key(three: Three, victim: str, how: str) -> None:
    path, known = through_two(three), three.folder / "known_hosts"
    port = f"[127.0.0.1]:{three.port(victim)} "
    lines = [line for line in known.read_text().splitlines() if not line.startswith(port)]
    if how == "changed":
        lines.append(port + three.key(victim).with_suffix(".pub").read_text().strip())
    known.write_text("\n".join(lines) + "\n")
    before = three.logins()
    with pytest.raises(HostFault) as caught:
        three.enter(path)
    assert caught.value.kind is FaultKind.HOST_KEY
    assert str(three.port(victim)) in caught.value.text
    assert ("jump host" in caught.value.text) == (victim != "router3")
    let_in = {name: count - before[name] for name, count in three.logins().items()}
    ahead = NAMES.index(victim)
    assert let_in == {name: int(NAMES.index(name) < ahead) for name in NAMES}


def relay(three: Three, *more: str) -> str:
    script = three.folder / "relay.py"
    script.write_text(RELAY)
    words = [sys.executable, str(script), str(three.folder / "relayed"), *more]
    return "ProxyCommand " + " ".join(words)


def test_a_proxy_command_has_its_tokens_filled_in(three: Three) -> None:
    """The port is not 22, the user is not ours alone to know, and the shell reads the line."""
    command = relay(three, "%h", "%p", "%r", "%n", "100%%", "$((1+1))")
    assert three.enter(three.inventory(three.own("router3", command))).endswith("heard")
    words = (three.folder / "relayed").read_text().split()
    assert words[3:] == ["127.0.0.1", str(three.port("router3")), account(), "router3", "100%", "2"]


def test_a_jump_host_has_its_own_proxy_command(three: Three) -> None:
    path = three.inventory(
        three.own("router1", relay(three, "%h", "%p")), three.own("router3", "ProxyJump router1")
    )
    before = three.logins()
    assert three.enter(path).endswith("heard")
    assert str(three.port("router1")) in (three.folder / "relayed").read_text()
    assert three.logins()["router1"] == before["router1"] + 1


def test_a_proxy_command_by_ssh_itself(three: Three) -> None:
    options = f"-F {three.folder}/ssh_config -o UserKnownHostsFile={three.folder}/known_hosts"
    command = f"ProxyCommand ssh {options} -W [%h]:%p router1"
    path = three.inventory(three.own("router1"), three.own("router3", command))
    assert three.enter(path).endswith("heard")


def test_a_proxy_command_that_ends_is_a_fault_at_once_with_its_words(three: Three) -> None:
    path = three.inventory(three.own("router3", "ProxyCommand echo no way to %h >&2; exit 1"))
    began = time.monotonic()
    with pytest.raises(HostFault, match=r"no way to 127\.0\.0\.1"):
        three.enter(path)
    assert time.monotonic() - began < 5, "the deadline is 10 s, and nobody waits for it"


@pytest.fixture
def agent(three: Three) -> Iterator[Path]:
    """An agent that holds seven keys of others, more than a host lets anybody try, and ours."""
    # A socket's path is at most 107 bytes long, and a test's folder may well be longer.
    folder = Path(tempfile.mkdtemp(prefix="dt-", dir="/tmp"))
    where = folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(where)], stdout=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 10
        while not where.exists():
            assert time.monotonic() < ends
            time.sleep(0.01)
        for number in range(7):
            make_key(folder / f"other{number}")
            add(where, folder / f"other{number}")
        add(where, three.key("router3"))
        yield where
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)
        shutil.rmtree(folder)


def add(where: Path, key: Path) -> None:
    environment = {**os.environ, "SSH_AUTH_SOCK": str(where)}
    subprocess.run(
        ["ssh-add", "-q", str(key)], env=environment, check=True, timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip


def lock(key: Path) -> None:
    """From now on the file needs a passphrase that nobody gives."""
    command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "a passphrase", "-f", str(key)]
    subprocess.run(command, check=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("left", ["all", "only-pub", "only-private"])
def test_a_key_that_only_the_agent_can_use(three: Three, agent: Path, left: str) -> None:
    key = three.key("router3")
    lock(key)
    if left == "only-pub":
        key.unlink()
    if left == "only-private":
        key.with_suffix(".pub").unlink()
    named = (f"IdentityFile {key}", "IdentitiesOnly yes", f"IdentityAgent {agent}")
    assert three.enter(three.inventory(three.block("router3", *named))).endswith("heard")


def test_a_key_that_the_inventory_names_may_be_in_the_agent(
    three: Three, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    lock(three.key("router3"))
    path = three.inventory(three.block("router3"), identity=three.key("router3"))
    assert three.enter(path).endswith("heard")


def test_without_an_agent_a_locked_key_is_named(three: Three) -> None:
    lock(three.key("router3"))
    with pytest.raises(HostFault, match="needs a passphrase") as caught:
        three.enter(three.inventory(three.own("router3")))
    assert caught.value.kind is FaultKind.AUTH
    assert str(three.key("router3")) in caught.value.text


def test_an_agent_that_hangs_holds_nobody_up_who_has_a_key(three: Three) -> None:
    folder = Path(tempfile.mkdtemp(prefix="dt-", dir="/tmp"))
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(folder / "agent"))
        deaf.listen()
        named = (f"IdentityFile {three.key('router3')}", f"IdentityAgent {folder}/agent")
        began = time.monotonic()
        assert three.enter(three.inventory(three.block("router3", *named))).endswith("heard")
        assert time.monotonic() - began < 5
    shutil.rmtree(folder)


def test_too_many_keys_of_an_agent_are_said_to_be_too_many(three: Three, agent: Path) -> None:
    path = three.inventory(three.block("router3", f"IdentityAgent {agent}", "IdentityFile none"))
    with pytest.raises(HostFault, match="IdentitiesOnly") as caught:
        three.enter(path)
    assert caught.value.kind is FaultKind.AUTH


def test_the_name_of_a_key_file_has_its_tokens_filled_in(three: Three) -> None:
    shutil.copy(three.key("router3"), three.folder / f"127.0.0.1-{account()}")
    named = (f"IdentityFile {three.folder}/%h-%r", "IdentitiesOnly yes", "IdentityAgent none")
    assert three.enter(three.inventory(three.block("router3", *named))).endswith("heard")


def test_specs_go_the_same_way_with_each_jumps_own_key(three: Three, agent: Path) -> None:
    inventory = load_inventory(
        three.inventory(
            three.own("router1", relay(three, "%h", "%p", "100%%")),
            three.own("router2", "ProxyJump router1"),
            three.block(
                *("router3", "ProxyJump router2", f"IdentityAgent {agent}"),
                *(f"IdentityFile {three.key('router3')}", "IdentitiesOnly yes"),
            ),
        )
    )
    lock(three.key("router3"))
    config = three.folder / "for_specs"
    plain = PlainNames()
    config.write_text(ssh_config(inventory, {"router3": route(inventory, "router3")}, plain))
    before = three.logins()
    done = subprocess.run(
        ["ssh", "-F", str(config), "router3", "echo $HOME"],
        capture_output=True, text=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout.strip() == str(three.fleet.host_folder("router3")), done.stderr
    assert three.logins() == {name: count + 1 for name, count in before.items()}
    assert "100%" in (three.folder / "relayed").read_text()


def test_commands_go_through_jumps_to_the_end(three: Three) -> None:
    command = [sys.executable, "-m", "deploytool.cli.main", "host", "check", "-i"]
    done = subprocess.run(
        [*command, str(through_two(three))],
        capture_output=True, text=True, timeout=TIMEOUT_S, cwd=three.folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
