"""The Vagrant fleet without a machine: what it reads and refuses, what it makes of slowness."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploytool.cli.fleet import FleetKind, up
from deploytool.cli.rehearsing import _chosen
from deploytool.errors import EnvironmentProblem, InputError, Interrupted
from deploytool.fleet.inventory import load_inventory
from deploytool.rehearsal.fleets import box, cables, files, pace, processes
from deploytool.rehearsal.fleets.model import Client, Endpoint, FleetRecord, HostRecord, silent
from deploytool.rehearsal.fleets.ready import make_key, make_signers
from deploytool.rehearsal.fleets.run import Outcome, attempt, for_each, run
from deploytool.rehearsal.fleets.throwaway import Machines
from deploytool.rehearsal.fleets.vagrant import VagrantFleet
from deploytool.rehearsal.fleets.vagrantcmd import (
    Vagrant,
    VagrantLogin,
    parse_ssh_config,
    parse_states,
    told_by,
)
from deploytool.rehearsal.scenarios import MACHINES, SCENARIOS

ROOT = Path(__file__).parents[2]

# As Vagrant 2.3.4 with vagrant-libvirt 0.11.2 printed them.
STATUS = """\
1795581923,router1,metadata,provider,libvirt
1795581923,router1,provider-name,libvirt
1795581923,router1,state,shutoff
1795581923,router1,state-human-short,shutoff
1795581923,router2,state,running
1795581923,router3,state,not_created
1795581923,router4,state,paused
1795581923,,ui,info,Current machine states:\\n\\nrouter1                   shutoff (libvirt)
"""
SSH_CONFIG = """\
Host router1
  HostName 10.231.7.87
  User vagrant
  Port 22
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  PasswordAuthentication no
  IdentityFile "/tmp/a folder/insecure_private_key"
  IdentitiesOnly yes
  LogLevel FATAL

Host router2
  HostName 127.0.0.1
  User vagrant
  Port 2200
  IdentityFile /keys/router2

"""


def test_states_are_read_as_vagrant_prints_them() -> None:
    assert parse_states(STATUS) == {
        "router1": "stopped",
        "router2": "running",
        "router3": "missing",
        "router4": "paused",
    }
    assert parse_states("") == {}


def test_ways_in_are_read_as_vagrant_prints_them() -> None:
    assert parse_ssh_config(SSH_CONFIG) == {
        "router1": VagrantLogin("10.231.7.87", 22, "vagrant", "/tmp/a folder/insecure_private_key"),
        "router2": VagrantLogin("127.0.0.1", 2200, "vagrant", "/keys/router2"),
    }
    assert parse_ssh_config("") == {}


def test_what_vagrant_says_of_a_failure_is_shown_without_its_backtrace() -> None:
    said = """\
==> router1: Starting domain.
Error while activating network: Call to virNetworkCreate failed: in use

  /usr/share/rubygems-integration/all/gems/vagrant-2.3.4/lib/vagrant/util/busy.rb:19:in `busy'
"""
    assert told_by(said) == tuple(said.splitlines()[:2])
    assert told_by("") == ()


def test_every_cable_of_a_machine_is_found_as_virsh_prints_it() -> None:
    said = """\
 vnet3   network   deploytool-cafe0123   virtio   52:54:00:5c:0f:01
 vnet4   bridge    -                     virtio   52:54:00:5c:0f:02

"""
    assert cables.hardware_addresses(said) == ("52:54:00:5c:0f:01", "52:54:00:5c:0f:02")
    assert cables.hardware_addresses("") == ()


# --- slowness -----------------------------------------------------------------------------------


def figures(*seconds: float) -> list[pace.Figures]:
    return [pace.Figures(f"router{n}", None, s, 40, 154) for n, s in enumerate(seconds, start=1)]


@pytest.mark.parametrize(
    ("seconds", "factor"),
    [
        ((0.2,), 1.0),  # a fast machine keeps the deadlines that everybody has
        ((pace.USUAL_S,), 1.0),
        ((pace.USUAL_S, 3 * pace.USUAL_S), 3.0),  # the slowest counts
        ((1000.0,), pace.FACTOR_AT_MOST),
    ],
)
def test_deadlines_are_stretched_by_what_the_slowest_host_needs(
    seconds: tuple[float, ...], factor: float
) -> None:
    assert pace.factor(figures(*seconds)) == factor


def test_figures_are_what_the_host_printed() -> None:
    said = "MemTotal: 158076\nMemAvailable: 115092\n"
    read = pace.read("router1", 61.4, 3.25, said)
    assert read == pace.Figures("router1", 61.4, 3.25, 41, 154)
    assert str(read) == ("router1: up after 61 s, the trial work took 3.2 s, 41 of 154 MiB in use")
    with pytest.raises(KeyError):
        pace.read("router1", None, 3.0, "sh: 1: cannot fork\n")


def test_the_trial_work_runs_and_prints_what_is_read() -> None:
    done = subprocess.run(["sh", "-c", pace.WORK], capture_output=True, text=True, timeout=60)
    assert pace.read("here", None, 1.0, done.stdout).total_mib > 0


def record(factor: float) -> FleetRecord:
    host = HostRecord("router1", "192.0.2.1", 22, "0.0.0.0:7001")
    market, client = Endpoint("192.0.2.254", 9001), Client("GATE01", "secret")
    return FleetRecord("cafe0123", "vagrant", "up", (host,), market, client, factor=factor)


@pytest.mark.parametrize("factor", [1.0, 2.5, pace.FACTOR_AT_MOST])
def test_every_deadline_of_the_inventory_is_stretched(factor: float, tmp_path: Path) -> None:
    make_key(tmp_path / "host_key")
    public = (tmp_path / "host_key.pub").read_text()
    (tmp_path / files.KNOWN_HOSTS).write_text(
        files.known_hosts(record(factor), {"router1": (public,)})
    )
    (tmp_path / files.SIGNERS).write_text(make_signers(tmp_path))
    path = tmp_path / files.INVENTORY
    path.write_text(files.inventory(record(factor), "/opt/router", "deploy", "router", "systemd"))
    made = load_inventory(path)
    service, ssh = made.service, made.ssh
    found = (
        service.ready_timeout_s, service.stop_timeout_s, service.ask_timeout_s,
        ssh.connect_timeout_s, ssh.command_timeout_s,
    )  # fmt: skip
    assert found == tuple(seconds * factor for seconds in (20, 10, 5, 5, 30))


@pytest.mark.parametrize(("factor", "commit_s"), [(1.0, 15), (2.5, 38), (20.0, 60)])
def test_a_slow_router_has_longer_to_be_armed_but_no_longer_than_it_takes(
    factor: float, commit_s: int
) -> None:
    config = json.loads(files.router_config(record(factor)))
    assert config["flags"]["commit_s"] == commit_s


def test_a_program_that_is_ended_takes_its_children_along(tmp_path: Path) -> None:
    """A shell that waits for its child would else hear of the end only when the child is done."""
    script = (
        f"cd {tmp_path}; trap 'echo ended >said; exit 1' TERM; sleep 300 & echo $! >pid; sleep 301"
    )
    with pytest.raises(EnvironmentProblem, match="did not end within 3 s"):
        attempt(["sh", "-c", script], 3.0)  # long enough to begin on a machine with other work
    assert (tmp_path / "said").read_text() == "ended\n"
    child = int((tmp_path / "pid").read_text())
    until(lambda: processes.look(child) is None)  # init takes it away a moment after it was killed


JOBS = """\
import os
import sys
from pathlib import Path
from deploytool.rehearsal.fleets.ready import wait_for_ssh
from deploytool.rehearsal.fleets.run import attempt, for_each
def waits(number):
    Path(f"{sys.argv[1]}/{number}.pid").write_text(str(os.getpid()))
    wait_for_ssh("router1", "127.0.0.1", 9, 300.0)
def runs(number):
    # As an ssh that waits for its host: in a session of its own, which Ctrl-C does not reach.
    attempt(["sh", "-c", f"echo $$ >{sys.argv[1]}/{number}.pid; exec sleep 300"], 300.0)
    attempt(["touch", f"{sys.argv[1]}/{number}.went-on"], 300.0)
for_each(range(6), globals()[sys.argv[2]])
"""


@pytest.mark.parametrize("job", ["runs", "waits"])
def test_ctrl_c_ends_what_side_by_side_jobs_do_and_none_goes_on(job: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", JOBS, str(tmp_path), job]
    env = {**os.environ, "PYTHONPATH": str(ROOT), processes.MARK: str(tmp_path)}
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        until(lambda: len([p for p in tmp_path.glob("*.pid") if p.read_text()]) == 4)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT
        pids = [int(path.read_text()) for path in tmp_path.iterdir()]
        assert [processes.look(pid) for pid in pids] == [None] * 4
    finally:
        process.kill()
        process.wait()
        mark = f"{processes.MARK}={tmp_path}"
        processes.end_all(lambda p: processes.has_environment(p, mark), 1.0, 10.0)


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_job_that_fails_keeps_no_other_from_its_end(at_once: int, tmp_path: Path) -> None:
    def job(number: int) -> None:
        run(["sh", "-c", f"exit {number}" if number else f"sleep 0.5; touch {tmp_path}/ended"], 20)

    with pytest.raises(EnvironmentProblem, match="exit code 3"):
        for_each([3, 0], job, at_once)
    assert (tmp_path / "ended").exists()


# --- what is refused ----------------------------------------------------------------------------


FILES = ("machine.box", "disk.qcow2", "vmlinuz", "initrd.img")


def make_box(store: Path) -> Path:
    folder = store / box.recipe_digest()
    folder.mkdir(parents=True)
    lines = []
    for name in FILES:
        (folder / name).write_bytes(name.encode())
        lines.append(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}")
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    return folder


def test_a_box_is_kept_and_not_built_again(tmp_path: Path) -> None:
    folder = make_box(tmp_path)
    kept = box.ensure_box(pytest.fail, "cafe0123", tmp_path)
    assert kept.file == folder / "machine.box"


BUILD = """\
#!/bin/sh
set -eu
sleep 0.5
mkdir "$1"
cd "$1"
for name in machine.box disk.qcow2 vmlinuz initrd.img; do printf x >$name; done
sha256sum machine.box disk.qcow2 vmlinuz initrd.img >SHA256SUMS
echo built >>../builds
"""


def make_recipe(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = folder / "checkout/vagrant/build-box"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(script)
    recipe.chmod(0o755)
    monkeypatch.setattr(box, "ROOT", folder / "checkout")


def test_two_who_need_a_box_at_the_same_time_build_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what a killed build left does not stay."""
    make_recipe(tmp_path, BUILD, monkeypatch)
    store = tmp_path / "store"
    (store / "cafe.killed/work").mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        boxes = list(pool.map(lambda _n: box.ensure_box(silent, "cafe0123", store), range(2)))
    assert boxes[0] == boxes[1]
    assert (store / "builds").read_text() == "built\n"
    assert sorted(path.name for path in store.iterdir()) == sorted(["builds", boxes[0].name])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_a_box_that_is_not_what_was_built_starts_nothing(
    name: str, damage: str, tmp_path: Path
) -> None:
    damaged = make_box(tmp_path) / name
    damaged.write_bytes(b"another") if damage == "altered" else damaged.unlink()
    with pytest.raises(EnvironmentProblem, match=name) as problem:
        box.ensure_box(silent, "cafe0123", tmp_path)
    assert problem.value.now.startswith(f"rm -r {damaged.parent}")


@pytest.mark.parametrize(
    "damage",
    [
        lambda _text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text[:-30],
        lambda text: text.splitlines(keepends=True)[0],
        lambda text: text.splitlines(keepends=True)[0] * 4,
        lambda text: text + text.splitlines(keepends=True)[0],
        lambda text: text[1:],
        lambda text: text.replace("  vmlinuz", "  ../vmlinuz"),
        lambda text: "\0" * len(text),
    ],
    ids=[
        "empty",
        "half",
        "cut",
        "one-line",
        "four-alike",
        "one-too-many",
        "short",
        "elsewhere",
        "zeros",
    ],
)
def test_a_box_whose_digests_are_not_all_there_starts_nothing(
    damage: Callable[[str], str], tmp_path: Path
) -> None:
    sums = make_box(tmp_path) / "SHA256SUMS"
    sums.write_text(damage(sums.read_text()))
    with pytest.raises(EnvironmentProblem, match="SHA256SUMS has") as problem:
        box.ensure_box(silent, "cafe0123", tmp_path)
    assert problem.value.now.startswith(f"rm -r {sums.parent}")


UP = """\
import sys
from pathlib import Path
from deploytool.rehearsal.fleets import box
box.ROOT = Path(sys.argv[1])
box.ensure_box(print, sys.argv[2], Path(sys.argv[3]))
"""


def test_a_build_whose_up_was_killed_keeps_others_out_and_is_ended_by_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = '#!/bin/sh\nmkdir "$1.draft"\nsleep 300 & echo $! >"$1.draft/pid"\nwait\n'
    make_recipe(tmp_path, script, monkeypatch)
    store = tmp_path / "store"
    pid_file = store / f"{box.recipe_digest()}.draft/pid"
    fleet = VagrantFleet(tmp_path / "fleet")
    command = [sys.executable, "-c", UP, str(tmp_path / "checkout"), fleet._id, str(store)]
    up = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        until(lambda: pid_file.is_file() and pid_file.read_text().endswith("\n"))
        up.kill()
        up.wait()
        with pytest.raises(BlockingIOError):
            lock(store)
        assert processes.look(int(pid_file.read_text())) is not None
        monkeypatch.setattr("shutil.which", lambda *_arguments, **_words: None)
        fleet.down(silent)
        assert processes.look(int(pid_file.read_text())) is None
        lock(store)
    finally:
        up.kill()
        up.wait()
        processes.end_all(lambda p: str(store) in " ".join(p.argv), 1.0, 10.0)


def until(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def lock(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(handle)


def test_the_recipe_is_all_that_a_box_is_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = []
    for path in box._RECIPE:
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
        copies.append(copy)
    monkeypatch.setattr(box, "_RECIPE", tuple(copies))
    digests = {box.recipe_digest()}
    for copy in copies:
        copy.write_bytes(copy.read_bytes() + b"\n")
        digests.add(box.recipe_digest())
    assert len(digests) == len(copies) + 1


def test_a_machine_without_vagrant_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_arguments, **_words: None)
    fleet = VagrantFleet(tmp_path / "fleet")
    with pytest.raises(
        EnvironmentProblem, match="Not installed on this machine: vagrant"
    ) as problem:
        fleet.up(1, silent)
    assert "vagrant-libvirt" in problem.value.now
    assert not fleet.folder.exists()


def test_who_breaks_up_off_is_told_how_to_take_away_what_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ctrl_c(_fleet: VagrantFleet, _count: int, _progress: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(VagrantFleet, "up", ctrl_c)
    with pytest.raises(Interrupted) as stopped:
        up(FleetKind.VAGRANT, 2, tmp_path)
    assert stopped.value.now == f"deploytool fleet down --fleet vagrant --folder {tmp_path}"


def test_down_where_no_fleet_and_no_libvirt_is_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_arguments, **_words: None)
    assert VagrantFleet(tmp_path / "fleet").down(silent) == ()


def test_a_folder_is_always_the_same_fleet(tmp_path: Path) -> None:
    """So that what is left of one whose record was lost is found by its name."""
    names = {VagrantFleet(tmp_path / name)._prefix for name in ("a", "a", "b")}
    assert len(names) == 2
    assert all(name.startswith("deploytool-") and name.endswith("-") for name in names)


def test_a_machine_whose_boot_is_not_known_keeps_its_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its old boot would else pass for the new one."""
    fleet = VagrantFleet(tmp_path / "fleet")
    answers = [Outcome(255, "", "timed out"), Outcome(0, "\n", "")]
    monkeypatch.setattr(fleet, "inside", lambda *_arguments, **_words: answers.pop())
    for _ in range(2):
        with pytest.raises(EnvironmentProblem, match="does not say which boot it is in"):
            fleet.reset("router1")
    assert answers == []


def test_a_reset_machine_is_back_when_it_is_in_another_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = VagrantFleet(tmp_path / "fleet")
    said = [Outcome(0, f"{text}\n", "") for text in ("boot-1", "", "boot-1", "", "boot-2")]
    monkeypatch.setattr(fleet, "inside", lambda *_arguments, **_words: said.pop(0))
    monkeypatch.setattr("deploytool.rehearsal.fleets.vagrantpower._POLL_S", 0.01)
    fleet.reset("router1")
    fleet.await_boot("router1")
    assert said == []


def test_machines_have_what_faults_need(tmp_path: Path) -> None:
    assert isinstance(VagrantFleet(tmp_path / "fleet"), Machines)


def test_vagrant_is_told_nothing_of_the_persons_own_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that Vagrant keeps lies in the fleet's folder, and goes with it."""
    program = tmp_path / "vagrant"
    program.write_text("#!/bin/sh\nenv | grep '^VAGRANT\\|^DEPLOYTOOL' >\"$0.env\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    Vagrant(tmp_path / "fleet", "cafe0123", "libvirt").validate()
    told = dict(line.split("=", 1) for line in (tmp_path / "vagrant.env").read_text().splitlines())
    for word in ("VAGRANT_HOME", "VAGRANT_DOTFILE_PATH", "DEPLOYTOOL_MACHINES"):
        assert told[word].startswith(f"{tmp_path}/fleet/"), told
    assert told["VAGRANT_CWD"] == str(ROOT)
    assert told["DEPLOYTOOL_FLEET"] == "cafe0123"


# --- scenarios that need a machine ----------------------------------------------------------------


REFUSED = [(kind, s.name) for s in MACHINES for kind in FleetKind if kind.value not in s.kinds]


@pytest.mark.parametrize(("kind", "name"), REFUSED)
def test_a_scenario_that_a_fleet_cant_play_is_refused_and_never_left_out(
    kind: FleetKind, name: str
) -> None:
    with pytest.raises(InputError, match=f"can't play {name}") as refusal:
        _chosen(["healthy", name], kind)
    assert refusal.value.now == f"deploytool rehearse --fleet vagrant --scenario {name}"


def test_a_refused_scenario_starts_nothing_and_exits_with_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploytool.cli.main", "rehearse", "--scenario", "power-off"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert "deploytool rehearse --fleet vagrant --scenario power-off" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_all_names_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    played = {s.name for s in _chosen(["all"], FleetKind.LOCAL)}
    said = capsys.readouterr().out
    for scenario in SCENARIOS:
        assert (f"left out: {scenario.name};" in said) == (scenario.name not in played)


def test_all_beside_a_name_is_all() -> None:
    assert _chosen(["all", "healthy"], FleetKind.VAGRANT) == _chosen(["all"], FleetKind.VAGRANT)


def test_a_machine_can_play_every_scenario() -> None:
    assert [s.name for s in SCENARIOS if "vagrant" not in s.kinds] == []
