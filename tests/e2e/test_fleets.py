"""Throwaway fleets: they come up, can be trusted, and leave nothing behind, whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from deploytool.errors import EnvironmentProblem, InputError
from deploytool.fleet.inventory import load_inventory
from deploytool.rehearsal.fleets import containerplan, open_fleet
from deploytool.rehearsal.fleets.container import ContainerFleet
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.model import FleetRecord, HostRecord, Kind, silent
from deploytool.rehearsal.fleets.processes import MARK, everyone, has_environment, touching
from deploytool.rehearsal.fleets.throwaway import Throwaway

KINDS = [
    pytest.param("local", marks=pytest.mark.sshd),
    pytest.param("container", marks=pytest.mark.containers),
]
UP = """
import sys
from pathlib import Path
from deploytool.rehearsal.fleets import open_fleet
open_fleet(sys.argv[1], Path(sys.argv[2])).up(int(sys.argv[3]), print)
"""


@pytest.fixture
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Throwaway]:
    made = open_fleet(request.param, tmp_path / "fleet")
    yield made
    made.down(silent)


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[ContainerFleet]:
    made = ContainerFleet(tmp_path / "fleet")
    yield made
    made.down(silent)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalFleet]:
    made = LocalFleet(tmp_path / "fleet")
    yield made
    made.down(silent)


def ssh(
    fleet: Throwaway, host: HostRecord, command: str, known_hosts: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Asks with the stock client: a second pair of eyes."""
    inventory = load_inventory(fleet.inventory)
    argv = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    argv += ["-o", f"UserKnownHostsFile={known_hosts or inventory.ssh.known_hosts}"]
    argv += ["-o", "GlobalKnownHostsFile=none", "-o", "IdentitiesOnly=yes"]
    argv += ["-i", f"{inventory.ssh.identity_file}", "-p", str(host.port)]
    argv += [f"{inventory.ssh.user}@{host.address}", command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def record_of(fleet: Throwaway) -> FleetRecord:
    record = fleet.record()
    assert record is not None
    return record


def left_behind(fleet: Throwaway, record: FleetRecord | None) -> list[str]:
    """What is still there of a fleet, asked past the code that removes it."""
    left = [str(fleet.folder)] if fleet.folder.exists() else []
    near = touching(fleet.folder)
    for process in everyone().values():
        marked = record is not None and has_environment(process, f"{MARK}={record.id}")
        if process.pid != os.getpid() and (near(process) or marked):
            left.append(f"process {process.pid} {process.argv}")
    if fleet.kind == "container":
        engine = record.engine if record and record.engine else "podman"
        for what in (["ps", "--all", "--format", "{{.Names}}"], ["network", "ls"]):
            argv = [
                engine,
                *what,
                "--filter",
                f"label=deploytool.fleet={record.id if record else ''}",
            ]
            told = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
            left += [line for line in told.stdout.splitlines() if "deploytool-" in line]
    return left


@pytest.mark.parametrize("fleet", KINDS, indirect=True)
def test_up_gives_hosts_that_can_be_entered_and_down_leaves_nothing(fleet: Throwaway) -> None:
    inventory = load_inventory(fleet.up(2, silent))
    record = record_of(fleet)

    assert inventory.throwaway
    assert inventory.expect == 2
    assert fleet.status().state == "up"
    machine_ids = {ssh(fleet, h, "cat /etc/machine-id; hostname").stdout for h in record.hosts}
    assert len(machine_ids) == (2 if fleet.kind == "container" else 1)
    configs = {
        ssh(fleet, h, f"sha256sum < {inventory.expand(inventory.config_files[0], h.name)}").stdout
        for h in record.hosts
    }
    assert len(configs) == 1
    assert len(configs.pop()) == 64 + len("  -\n")

    assert fleet.down(silent)
    assert left_behind(fleet, record) == []
    assert fleet.status().state == "absent"


@pytest.mark.parametrize("fleet", KINDS, indirect=True)
def test_a_host_with_another_key_than_the_pinned_one_is_refused(
    fleet: Throwaway, tmp_path: Path
) -> None:
    fleet.up(2, silent)
    first, second = record_of(fleet).hosts
    pinned = (fleet.folder / "known_hosts").read_text()
    assert ssh(fleet, first, "true").returncode == 0

    swapped = tmp_path / "swapped"
    names = {h.name: pinned_name(h) for h in (first, second)}
    lines = []
    for line in pinned.splitlines():
        where, key = line.split(" ", 1)
        other = names[second.name] if where == names[first.name] else names[first.name]
        lines.append(f"{other} {key}")
    swapped.write_text("\n".join(lines) + "\n")

    refused = ssh(fleet, first, "true", known_hosts=swapped)
    assert refused.returncode == 255
    assert "IDENTIFICATION HAS CHANGED" in refused.stderr
    unknown = ssh(fleet, first, "true", known_hosts=Path("/dev/null"))
    assert unknown.returncode == 255


def pinned_name(host: HostRecord) -> str:
    return host.address if host.port == 22 else f"[{host.address}]:{host.port}"


@pytest.mark.parametrize("fleet", KINDS, indirect=True)
def test_up_refuses_when_a_fleet_is_up_and_leaves_it_alone(fleet: Throwaway) -> None:
    fleet.up(1, silent)
    before = record_of(fleet)
    with pytest.raises(InputError) as refusal:
        fleet.up(1, silent)
    assert f"deploytool fleet down --fleet {fleet.kind}" in refusal.value.now
    assert record_of(fleet) == before
    assert fleet.status().state == "up"


@pytest.mark.parametrize("kind", ["local", "container"])
def test_down_where_nothing_is_up_does_nothing(kind: Kind, tmp_path: Path) -> None:
    fleet = open_fleet(kind, tmp_path / "fleet")
    assert fleet.down(silent) == ()
    assert not fleet.folder.exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_folder_with_other_things_in_it_is_never_touched(
    kind: Kind, verb: str, tmp_path: Path
) -> None:
    precious = tmp_path / "fleet" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    fleet = open_fleet(kind, precious.parent)
    with pytest.raises(InputError, match=r"thesis\.txt"):
        fleet.up(1, silent) if verb == "up" else fleet.down(silent)
    assert precious.read_text() == "years of work"


@pytest.mark.parametrize("count", [0, 65])
def test_a_count_that_is_out_of_bounds_starts_nothing(count: int, tmp_path: Path) -> None:
    fleet = LocalFleet(tmp_path / "fleet")
    with pytest.raises(InputError, match="1 to 64"):
        fleet.up(count, silent)
    fleet.down(silent)
    assert not fleet.folder.exists()


def start_up(kind: str, folder: Path, count: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", UP, kind, str(folder), str(count)]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_up_when(fleet: Throwaway, seen: Callable[[], bool], count: int, within_s: float) -> None:
    """SIGKILL for ``up`` as soon as something is ``seen``, or when it has ended before that."""
    with start_up(fleet.kind, fleet.folder, count) as process:
        deadline = time.monotonic() + within_s
        while process.poll() is None and not seen():
            assert time.monotonic() < deadline, "`up` neither ended nor came so far"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)


def peek(fleet: Throwaway) -> FleetRecord | None:
    try:
        return fleet.record()
    except OSError:
        return None


LOCAL_MOMENTS = ["", "fleet.json", "id_ed25519.pub", "hosts/router1", "hosts/router1/sshd_config",
                 "hosts/router2/sshd.pid", "known_hosts", "inventory.yaml"]  # fmt: skip


@pytest.mark.sshd
@pytest.mark.parametrize("moment", LOCAL_MOMENTS)
def test_down_after_a_killed_up_of_a_local_fleet_leaves_nothing(
    local: LocalFleet, moment: str
) -> None:
    kill_up_when(local, (local.folder / moment).exists, count=4, within_s=60)
    record = peek(local)
    local.down(silent)
    assert left_behind(local, record) == []


CONTAINER_MOMENTS = ["network", "first container", "last container", "inventory.yaml"]


@pytest.mark.containers
@pytest.mark.parametrize("moment", CONTAINER_MOMENTS)
def test_down_after_a_killed_up_of_a_container_fleet_leaves_nothing(
    containers: ContainerFleet, moment: str
) -> None:
    count = 3
    began_with: dict[str, float] = {}

    def seen() -> bool:
        record = peek(containers)
        if record is None or not record.subnet:
            return False
        began_with.setdefault("subnet", time.monotonic())
        if moment == "inventory.yaml":
            return containers.inventory.exists()
        commands = [" ".join(p.argv) for p in everyone().values() if p.name == "podman"]
        wanted = {
            "network": "network create",
            "first container": "-router1",
            "last container": "-router3",
        }
        return any(wanted[moment] in line and record.id in line for line in commands)

    kill_up_when(containers, seen, count, within_s=300)
    record = peek(containers)
    assert record is not None
    containers.down(silent)
    assert left_behind(containers, record) == []


@pytest.mark.sshd
def test_a_local_host_runs_nothing_of_what_its_user_does_at_login(local: LocalFleet) -> None:
    local.up(1, silent)
    (home,) = {ssh(local, host, "echo $HOME").stdout.strip() for host in record_of(local).hosts}
    assert home == str(local.host_folder("router1"))
    assert not Path(home, ".bashrc").exists()


@pytest.mark.sshd
def test_down_ends_what_a_session_left_running(local: LocalFleet) -> None:
    local.up(1, silent)
    record = record_of(local)
    away = "cd /; setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!"
    inside = (
        f"cd {local.host_folder('router1')}/root; setsid sleep 300 </dev/null >/dev/null 2>&1 &"
    )
    assert ssh(local, record.hosts[0], away).returncode == 0
    assert ssh(local, record.hosts[0], inside).returncode == 0
    assert sum(has_environment(p, f"{MARK}={record.id}") for p in everyone().values()) >= 2
    local.down(silent)
    assert left_behind(local, record) == []


@pytest.mark.sshd
def test_down_spares_the_shell_that_sits_in_the_folder(local: LocalFleet) -> None:
    local.up(1, silent)
    with subprocess.Popen(["sleep", "60"], cwd=local.folder) as bystander:
        local.down(silent)
        assert bystander.poll() is None
        bystander.terminate()


@pytest.mark.sshd
def test_status_names_the_host_whose_sshd_is_gone(local: LocalFleet) -> None:
    local.up(2, silent)
    second = record_of(local).hosts[1]
    assert second.pid is not None
    os.kill(second.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while local.status().state == "up" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [host.state for host in local.status().hosts] == ["running", "stopped"]
    assert local.status().state == "incomplete"


@pytest.mark.sshd
def test_two_local_fleets_do_not_touch_each_other(local: LocalFleet, tmp_path: Path) -> None:
    other = LocalFleet(tmp_path / "other")
    try:
        local.up(1, silent)
        other.up(1, silent)
        other.down(silent)
        assert local.status().state == "up"
        assert ssh(local, record_of(local).hosts[0], "true").returncode == 0
    finally:
        other.down(silent)


@pytest.mark.containers
def test_faults_of_a_container_do_what_they_say(containers: ContainerFleet) -> None:
    containers.up(2, silent)  # the last cable that is pulled takes the bridge with it
    host = record_of(containers).hosts[0]
    name = host.name

    containers.pause(name)
    assert containers.status().hosts[0].state == "paused"
    with socket.create_connection((host.address, host.port), timeout=5) as connection:
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(16)
    containers.unpause(name)
    assert ssh(containers, host, "true").returncode == 0

    containers.disconnect(name)
    with pytest.raises(OSError), socket.create_connection((host.address, host.port), timeout=0.5):  # noqa: PT011
        pass
    assert containers.inside(name, ("true",)).code == 0
    containers.reconnect(name)
    assert ssh(containers, host, "true").returncode == 0

    containers.kill(name)
    assert containers.status().hosts[0].state == "stopped"
    containers.start(name)
    after = ssh(containers, host, "true")
    assert after.returncode == 0, after.stderr


@pytest.mark.containers
def test_containers_are_bare_until_they_are_prepared(containers: ContainerFleet) -> None:
    """The image has no account, no key and no host key of ours; each host key is its own."""
    containers.up(2, silent)
    keys = [
        line.split()[2] for line in (containers.folder / "known_hosts").read_text().splitlines()
    ]
    assert len(keys) == len(set(keys)) == 4
    image = containers.inside("router1", ("cat", "/etc/hostname"))
    assert image.out.strip() == "router1"
    from_disk = containers.inside("router1", ("cat", "/etc/ssh/ssh_host_ed25519_key.pub")).out
    assert from_disk.split()[1] in keys


@pytest.mark.sshd
def test_the_inventory_has_the_keys_of_the_example(local: LocalFleet) -> None:
    local.up(5, silent)
    made = yaml.safe_load(local.inventory.read_text())
    example = yaml.safe_load(Path("inventories/example.yaml").read_text())
    # Who sends, who serves and who saw silence are asked of a market, which it has none of.
    others = {"rehearsal", "gateway", "membership", "silence", "keep_releases"}
    assert set(made) == set(example) - others
    defaults = {"stop_timeout_s", "ask_timeout_s", "expect_state", "deadman_s", "unit"}
    defaults |= {"connects", "neighbours", "python", "redirects"}
    assert set(made["service"]) == set(example["service"]) - defaults
    assert {k: made["service"][k] for k in ("start", "version", "status")} == {
        k: example["service"][k] for k in ("start", "version", "status")
    }


def test_programs_that_the_fleets_need_are_here() -> None:
    """A machine that can't run these tests fails here, rather than skipping them in silence."""
    lacking = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None]
    assert lacking == []


@pytest.mark.containers
def test_more_containers_than_the_machine_has_room_for_are_refused_before_any_starts(
    containers: ContainerFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "max_user_instances"
    limit.write_text("9\n")
    monkeypatch.setattr(containerplan, "_INOTIFY", limit)
    with pytest.raises(EnvironmentProblem, match="allows 9 inotify"):
        containers.up(2, silent)
    assert not containers.folder.exists()
