"""The supervisor of a service in memory, its program, and what breaks in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploytool.agent.requests import Halt, Halted, LatchShown, ShowLatch
from deploytool.agent.settings import SocketSetting
from deploytool.simulation.memory import artifact
from deploytool.simulation.memory.agent import MemoryAgent
from deploytool.simulation.memory.disk import Fate
from deploytool.simulation.memory.host import MemoryHost
from deploytool.simulation.memory.host import settings as described
from deploytool.simulation.memory.programs import build
from deploytool.simulation.memory.service import CONTROL, LIMIT, MemorySystemd, Quirk
from deploytool.simulation.memory.signing import sign

OLD, NEW = build("2026.1"), build("2026.2")


def host_with(supervisor: str = "systemd", **changed: Any) -> MemoryHost:
    return MemoryHost.prepared(OLD, described=described(supervisor=supervisor).but(**changed))


def systemd_of(host: MemoryHost) -> MemorySystemd:
    assert isinstance(host.service, MemorySystemd)
    return host.service


def status(host: MemoryHost) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(artifact.status(host.service) or "{}")
    return found


def switch(host: MemoryHost) -> None:
    host.place(NEW)
    host.computer.link(host.service.current, f"releases/{NEW.release}")


@pytest.mark.parametrize("supervisor", ["systemd", "process"])
def test_a_restart_runs_what_the_link_names(supervisor: str) -> None:
    host = host_with(supervisor)
    agent = MemoryAgent(host.service)
    before = agent.supervisor.state().main
    assert status(host)["release"] == OLD.release
    switch(host)
    assert status(host)["release"] == OLD.release, "a new link and an old process"
    assert agent.supervisor.restart(10.0) == ""
    assert status(host)["release"] == NEW.release
    assert agent.supervisor.state().main not in {0, before}
    assert agent.supervisor.stop(10.0) == ""
    assert agent.supervisor.state().main == 0
    assert agent.processes.listening((7001,)) == frozenset()


def test_a_masked_unit_does_not_start() -> None:
    host = host_with()
    agent = MemoryAgent(host.service)
    assert agent.supervisor.mask() == "yes"
    assert agent.supervisor.masked()
    shown = {p.name: p.value for p in agent.supervisor.state().properties}
    assert shown["UnitFileState"] == "masked"
    host.computer.sync()
    host.reboot()
    assert host.service.main is None
    later = MemoryAgent(host.service)
    assert "masked" in later.supervisor.restart(10.0)
    later.supervisor.unmask()
    assert later.supervisor.restart(10.0) == ""
    assert host.service.main is not None


def test_a_mask_that_was_not_synced_may_be_gone_after_a_boot() -> None:
    kept = set()
    for seed in range(20):
        host = host_with()
        MemoryAgent(host.service).supervisor.mask()
        host.reboot(Fate(seed))
        kept.add(systemd_of(host).masked)
    assert kept == {"", "masked"}


def test_a_unit_in_etc_can_be_masked_for_this_boot_alone() -> None:
    host = host_with()
    name = host.service.settings.unit
    host.computer.put(f"{CONTROL}/{name}", b"[Service]\n")
    assert MemoryAgent(host.service).supervisor.mask() == "runtime"
    host.computer.sync()
    host.reboot()
    assert host.service.main is not None


@pytest.mark.parametrize(
    ("marks", "starts"),
    [
        ({}, True),
        ({"fenced": ""}, False),
        ({"deadman": "boot BOOT\ntoken 1\nseconds 60\n"}, False),
        ({"halted": "latch ab\n"}, True),
    ],
    ids=["nothing", "fenced", "dead-man", "halted"],
)
def test_what_a_boot_starts(marks: dict[str, str], *, starts: bool) -> None:
    host = host_with()
    for name, text in marks.items():
        content = text.replace("BOOT", host.computer.boot_id).encode()
        host.computer.put(f"{host.service.root}/state/{name}", content)
    host.computer.sync()
    host.reboot()
    assert (host.service.main is not None) == starts


def test_a_unit_that_is_not_enabled_is_not_started_by_a_boot() -> None:
    host = host_with()
    host.computer.remove(f"{CONTROL}/multi-user.target.wants/{host.service.settings.unit}")
    host.computer.sync()
    host.reboot()
    assert host.service.main is None


def test_one_that_dies_is_started_again_until_it_died_too_often() -> None:
    host = host_with()
    service = systemd_of(host)
    service.dies_after_s = 0.5
    service.crash()
    assert (service.active, service.sub) == ("activating", "auto-restart")
    host.pass_time(1.2)
    assert service.main is not None
    assert service.restarts == 1
    host.pass_time(60.0)
    assert service.active == "failed"
    assert service.restarts <= LIMIT
    service.dies_after_s = None
    assert MemoryAgent(service).supervisor.restart(10.0) == ""
    host.pass_time(60.0)
    assert service.active == "active"


def test_a_drop_in_decides_what_is_started() -> None:
    host = host_with()
    switch(host)
    path = f"{CONTROL}/{host.service.settings.unit}.d/override.conf"
    other = f"{host.service.root}/releases/{OLD.release}/router"
    host.computer.put(path, f"[Service]\nExecStart=\nExecStart={other} serve\n".encode())
    agent = MemoryAgent(host.service)
    agent.supervisor.restart(10.0)
    assert status(host)["release"] == OLD.release
    assert path in agent.supervisor.unit_files()


@pytest.mark.parametrize("supervisor", ["systemd", "process"])
def test_each_quirk(supervisor: str) -> None:
    host = host_with(supervisor)
    service, agent = host.service, MemoryAgent(host.service)
    old = service.main
    switch(host)
    service.quirks.add(Quirk.VERSION_LIES)
    assert status(host)["version"] == "0.0"
    service.quirks = {Quirk.SILENT}
    path = f"{service.current}/router"
    assert agent.commands.run((path, "status"), given=b"", deadline_s=5.0).code == 1
    service.quirks = {Quirk.STATUS_STALE}
    agent.supervisor.restart(10.0)
    assert status(host)["release"] == OLD.release, "the first one answers"
    service.quirks = {Quirk.WONT_START}
    agent.supervisor.restart(10.0)
    assert agent.supervisor.state().main == 0
    service.quirks.clear()
    service.answering = None
    agent.supervisor.restart(10.0)
    survivor = service.main
    service.quirks = {Quirk.OLD_SURVIVES}
    complaint = agent.supervisor.restart(10.0)
    assert survivor is not None
    assert host.computer.alive(survivor)
    assert not agent.processes.signal(survivor.pid, survivor.start, 9) or survivor.stubborn
    assert (complaint == "") == (supervisor == "systemd")
    assert not host.computer.alive(old)


def test_a_slow_one_listens_later() -> None:
    host = host_with()
    host.service.ready_after_s = 3.0
    agent = MemoryAgent(host.service)
    agent.supervisor.restart(10.0)
    assert agent.processes.listening((7001,)) == frozenset()
    agent.machine.sleep(4.0)
    assert agent.processes.listening((7001,)) == {7001}


def test_one_that_can_not_have_its_port_ends() -> None:
    host = host_with()
    MemoryAgent(host.service).supervisor.stop(10.0)
    stranger = host.computer.spawn(("nc", "-lk"))
    assert host.computer.listen(stranger, 7001)
    host.service.start()
    assert host.service.main is None


def test_a_timer_rings_once_in_its_own_boot() -> None:
    host = host_with()
    agent = MemoryAgent(host.service)
    agent.supervisor.set_timer(60, 7)
    agent.supervisor.set_timer(90, 8)
    host.computer.time.pass_to(host.computer.time.now + 89.0)
    assert host.service.due == []
    host.computer.time.pass_to(host.computer.time.now + 2.0)
    assert host.service.due == [8]
    host.service.due.clear()
    agent.supervisor.set_timer(60, 9)
    agent.supervisor.clear_timer()
    agent.supervisor.set_timer(60, 10)
    host.reboot()
    host.computer.time.pass_to(host.computer.time.now + 100.0)
    assert host.service.due == []


@pytest.mark.parametrize("way", ["command", "signal"])
def test_a_halt_outlives_a_restart_and_a_boot(way: str) -> None:
    host = host_with(halt=None if way == "signal" else described().halt, halt_signal="USR1")
    answer = host.ask(Halt(latch="ab12", by="a@b", reason="x", since=1, seconds=2))
    assert isinstance(answer, Halted)
    assert answer.latched
    assert status(host)["trading_state"] == "HALTED"
    shown = host.ask(ShowLatch())
    assert isinstance(shown, LatchShown)
    assert shown.latch is not None
    assert shown.latch.latch == "ab12"
    MemoryAgent(host.service).supervisor.restart(10.0)
    assert status(host)["trading_state"] == "HALTED"
    host.reboot(Fate(keeps=0.0))
    assert status(host)["trading_state"] == "HALTED"


def test_a_lease_is_renewed_by_the_nonce_that_was_issued_last() -> None:
    host = host_with()
    agent = MemoryAgent(host.service)
    path = f"{host.service.current}/router"

    def lease(nonce: str) -> dict[str, Any]:
        asked = agent.commands.run((path, "lease", nonce), given=b"", deadline_s=5.0)
        return json.loads(asked.answer) if asked.code == 0 else {}

    first = lease("none")
    assert first["left_s"] == 0
    assert lease(first["nonce"])["left_s"] > 0
    assert lease(first["nonce"]) == {}


def test_the_artifact_resumes_for_a_second_person_alone() -> None:
    host = host_with()
    agent = MemoryAgent(host.service)
    path = f"{host.service.current}/router"
    said = agent.commands.run((path, "halt", "--reason", "x"), given=b"", deadline_s=5.0)
    latch = json.loads(said.answer)["latch"]

    def resume(by: str, who: str, latch: str) -> int | None:
        line = json.dumps({"by": by, "latch": latch}) + "\n"
        signed = line + sign(who, line.encode(), artifact.START)
        return agent.commands.run((path, "resume"), given=signed.encode(), deadline_s=5.0).code

    assert resume("ann", "ann", latch) == 1
    assert resume("ann", "bob", "another") == 1
    assert status(host)["trading_state"] == "HALTED"
    assert resume("ann", "bob", latch) == 0
    assert status(host)["trading_state"] == "ACTIVE"


@pytest.mark.parametrize("how", ["exe", "fd", "read"])
def test_how_a_program_is_run_is_seen(how: Any) -> None:
    host = MemoryHost.prepared(build("2026.1", how=how))
    agent = MemoryAgent(host.service)
    state = agent.supervisor.state()
    process = agent.processes.process(state.main)
    assert process is not None
    mapped = agent.processes.mapped(process)
    assert [file.how for file in mapped] == ["exe"]
    assert mapped[0].path.endswith("/router" if how == "exe" else "/python3")
    assert host.service.main is not None
    kinds = {held.how for held in host.service.main.held}
    assert kinds == {"exe", "fd"} if how == "fd" else {"exe"}


def test_a_socket_is_believed_of_the_unit_s_processes_alone() -> None:
    socket = SocketSetting(path="/opt/router/state/service/control", status="status")
    host = host_with(socket=socket)
    agent = MemoryAgent(host.service)
    main = host.service.main
    assert main is not None
    asked = agent.commands.ask_socket(
        socket.path, "status", frozenset({(main.pid, main.start)}), 1.0
    )
    assert json.loads(asked.answer)["pid"] == main.pid
    with pytest.raises(PermissionError):
        agent.commands.ask_socket(
            socket.path, "status", frozenset({(main.pid, main.start + 1)}), 1.0
        )
    with pytest.raises(FileNotFoundError):
        agent.commands.ask_socket("/elsewhere", "status", frozenset(), 1.0)
    host.service.crash()
    with pytest.raises(ConnectionRefusedError):
        agent.commands.ask_socket(socket.path, "status", frozenset({(main.pid, main.start)}), 1.0)
