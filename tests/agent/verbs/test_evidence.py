"""One look at a host: what it shows, what it reads, and what comes in between."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from deploytool.agent.model import HostEvidence, KnownRelease
from deploytool.agent.requests import LookAnswer, Probe, RefusedAnswer, Unlock
from deploytool.agent.verbs.evidence import shown_environment
from deploytool.simulation.memory.computer import Computer, Task
from deploytool.simulation.memory.disk import sha256
from deploytool.simulation.memory.host import Points, killed
from deploytool.simulation.memory.processes import MemoryProcesses
from deploytool.simulation.memory.run import Run, RunEnded
from deploytool.simulation.memory.supervisor import MemorySupervisor

from .ground import ONE, THREE, TWO, Ground, switch


def look(ground: Ground, probe: Probe | None = None, **how: Any) -> HostEvidence:
    answer = ground.done(probe or Probe(), **how)
    assert isinstance(answer, LookAnswer)
    return answer.evidence


def points(ground: Ground, probe: Probe | None = None) -> list[str]:
    """What the port was asked for by one look."""
    seen = Points()
    look(ground, probe, hook=seen)
    return seen.seen


def stray(ground: Ground, content: bytes, path: str = "/tmp/x", **words: Any) -> Task:
    """A process that executes a copy of its own, outside of the unit."""
    ground.host.computer.put(path, content, 0o755)
    return ground.host.computer.spawn((path,), opens=path, how="exe", **words)


@pytest.fixture
def systemd() -> Ground:
    """A host that serves, where the whole of it can be inspected."""
    ground = Ground("systemd")
    ground.deploy(ONE)
    return ground


def test_p1_a_host_that_serves_shows_all_of_it(ground: Ground) -> None:
    ground.deploy(ONE)
    shown = look(ground)
    main = ground.main
    assert (shown.main, shown.current) == (main.pid, f"releases/{ONE.release}")
    assert [(run.pid, run.how, run.sha, run.deleted) for run in shown.runs] == [
        (main.pid, "fd", ONE.release, False)
    ]
    assert shown.disk is not None
    assert (shown.disk.sha, shown.disk.direct) == (ONE.release, True)
    assert shown.manifest is not None
    assert (shown.manifest.sha, shown.manifest.text) == (ONE.label, ONE.manifest.decode())
    assert [(process.pid, process.still) for process in shown.processes] == [(main.pid, True)]
    assert [(owner.port, owner.pid) for owner in shown.owners] == [(7001, main.pid)]
    assert shown.open_ports == (7001,)
    assert (shown.state_writable, shown.state_error) == (True, "")
    assert shown.status is not None
    assert shown.status.code == 0
    assert shown.others == ()
    assert shown.whole == (ground.supervisor == "systemd")
    assert len(shown.rights) == 3
    assert [config.missing for config in shown.configs] == [False]
    assert shown.marks.verified is not None
    assert shown.running is not None
    assert [digest.path for digest in shown.interpreters] == ["/usr/bin/python3"]
    assert HostEvidence.from_json(shown.to_json()) == shown


def test_p1_a_host_on_which_nothing_runs_shows_that(ground: Ground) -> None:
    shown = look(ground)
    assert (shown.current, shown.main) == ("none", 0)
    assert (shown.runs, shown.group, shown.processes, shown.owners) == ((), (), (), ())
    assert (shown.artifact, shown.disk, shown.manifest, shown.status) == (None, None, None, None)


# --- what is read ---------------------------------------------------------------------------------


def test_what_runs_is_read_once_and_past_the_cache(ground: Ground) -> None:
    ground.deploy(ONE)
    look(ground)  # the interpreter is remembered from here on
    asked = points(ground)
    assert [what for what in asked if what.startswith("digest_disk")] == ["digest_disk router"]
    assert "digest of a held file" not in asked


def test_a_disk_that_lost_what_programs_still_see_is_found_out(systemd: Ground) -> None:
    node = systemd.host.computer.find(f"{systemd.root}/current/router")
    assert node is not None
    node.rot(b"other bytes")
    shown = look(systemd)
    assert shown.disk is not None
    assert shown.disk.sha == sha256(b"other bytes")


def test_a_wave_does_not_read_again_what_was_just_staged(ground: Ground) -> None:
    token = ground.lock()
    ground.stage(ONE, token)
    seen = Points()
    answer = ground.done(switch(ONE, token, show=Probe(read_disk=False)), hook=seen)
    assert answer.evidence is not None
    assert [run.sha for run in answer.evidence.runs] == [ONE.release]
    assert not [what for what in seen.seen if what.startswith("digest_disk")]


@pytest.mark.parametrize("what", ["written", "another boot"])
def test_what_was_staged_is_read_where_anything_speaks_against_it(
    ground: Ground, what: str
) -> None:
    token = ground.lock()
    ground.stage(ONE, token)
    node = ground.host.computer.find(f"{ground.root}/releases/{ONE.release}/router")
    assert node is not None
    if what == "written":
        ground.host.computer.disk.overwrite(node, node.content + b"#")
    else:
        ground.host.computer.sync()
        ground.host.reboot()
    answer = ground.activate(ONE, token, show=Probe(read_disk=False))
    assert answer.evidence is not None
    assert [run.sha for run in answer.evidence.runs] == [sha256(node.content)]


def test_another_release_than_the_target_is_neither_read_nor_asked(ground: Ground) -> None:
    ground.deploy(ONE)
    probe = Probe(release=TWO.release, only_target=True)
    asked = points(ground, probe)
    assert not [what for what in asked if what.startswith(("digest_disk", "run ", "ask "))]
    shown = look(ground, probe)
    assert (shown.status, shown.disk, shown.asked_release) == (None, None, "absent")
    assert [run.sha for run in shown.runs] == [None]


def test_an_interpreter_is_remembered_until_it_changes(ground: Ground) -> None:
    ground.deploy(ONE)
    first = look(ground).interpreters
    assert "digest of a held file" not in points(ground)
    # It is replaced in place, as an upgrade that does not care would.
    node = ground.host.computer.find("/usr/bin/python3")
    assert node is not None
    ground.host.computer.disk.overwrite(node, b"\x7fELF python4\n")
    changed = look(ground).interpreters
    assert [digest.sha for digest in changed] == [sha256(b"\x7fELF python4\n")]
    assert changed != first


@pytest.mark.parametrize("text", ["", "\0\n", "x y\n", f"{'0' * 40}\n1:1:1:1 {'a' * 64}\n"])
def test_remembered_digests_that_are_not_from_here_are_not_believed(
    ground: Ground, text: str
) -> None:
    ground.deploy(ONE)
    before = look(ground).interpreters
    ground.write("digests", text)
    assert look(ground).interpreters == before


def test_digests_of_another_boot_are_not_believed(ground: Ground) -> None:
    """A device's number may be another's by now."""
    ground.deploy(ONE)
    before = look(ground).interpreters
    kept = ground.mark("digests")
    assert kept is not None
    boot, line = kept.split("\n")[:2]
    assert boot == ground.host.computer.boot_id
    inode = line.split(" ")[0]
    ground.write("digests", f"another\n{inode} {'a' * 64}\n")
    assert look(ground).interpreters == before


# --- what may act as the service ------------------------------------------------------------------


def test_a_copy_is_found_wherever_it_lies(systemd: Ground) -> None:
    task = stray(systemd, ONE.artifact)
    (other,) = look(systemd).others
    assert (other.pid, other.role, other.release) == (task.pid, "acts", ONE.release)


def test_a_copy_that_an_interpreter_read_and_closed_is_found(systemd: Ground) -> None:
    computer = systemd.host.computer
    computer.put("/tmp/x", ONE.artifact)
    task = computer.spawn(("python3", "/tmp/x"))
    (other,) = look(systemd).others
    assert (other.pid, other.ways, other.release) == (task.pid, ("interprets",), ONE.release)


def test_a_pruned_release_is_known_still(systemd: Ground) -> None:
    for build, plan in ((TWO, "plan2"), (THREE, "plan3")):
        systemd.deploy(build, plan)
    token = systemd.lock("plan4")
    systemd.done(Unlock(token=token, keep=1, release=THREE.release))
    assert ONE.release not in systemd.names("releases")
    stray(systemd, ONE.artifact)
    (other,) = look(systemd).others
    assert (other.role, other.release) == ("acts", ONE.release)


def test_a_release_that_was_never_here_is_found_where_it_is_asked_for(systemd: Ground) -> None:
    stray(systemd, THREE.artifact + b"#")
    sha = sha256(THREE.artifact + b"#")
    assert look(systemd).others == ()
    known = KnownRelease(sha=sha, size=len(THREE.artifact) + 1)
    (other,) = look(systemd, Probe(known=(known,))).others
    assert (other.role, other.release) == ("acts", sha)


def test_more_files_than_are_read_are_said_to_be_unseen(systemd: Ground) -> None:
    """As large as the release, and of other bytes: an account can start any number of them."""
    for number in range(100):
        content = b"%04d" % number + b"." * (len(ONE.artifact) - 4)
        stray(systemd, content, f"/tmp/{number}")
    task = stray(systemd, ONE.artifact, "/tmp/last")
    others = {other.pid: other.role for other in look(systemd).others}
    assert others[task.pid] in {"unseen", "acts"}
    assert "unseen" in others.values()


def test_what_root_may_not_inspect_is_unseen_with_the_reason(systemd: Ground) -> None:
    task = stray(systemd, b"x")
    task.hidden = "its executable can't be read: Permission denied"
    (other,) = look(systemd).others
    assert (other.role, other.detail) == ("unseen", task.hidden)


def test_a_client_of_another_agent_is_no_stray(systemd: Ground) -> None:
    """A watch renews the lease at this moment."""
    computer = systemd.host.computer
    agent = computer.spawn(("python3", "-I", "agent"))
    agent.of_agent = True
    path = f"{systemd.root}/current/router"
    computer.spawn((path, "lease"), parent=agent.pid, account=999, opens=path)
    assert [other.role for other in look(systemd).others] == ["client"]


def strikes(computer: Computer, task: Task, do: Callable[[Computer, Task], None]) -> Any:
    """When that process is looked at for the second time, something has happened to it."""

    def hook(_run: Run, what: str) -> None:
        if what == f"process {task.pid}" and computer.alive(task):
            do(computer, task)

    return hook


def replaced(computer: Computer, task: Task) -> None:
    computer.end(task)
    later = computer.spawn(("/bin/true",))
    del computer.tasks[later.pid]
    later.pid, later.start = task.pid, task.start + 1
    computer.tasks[task.pid] = later


@pytest.mark.parametrize("what", [lambda computer, task: computer.end(task), replaced])
def test_a_stray_that_was_seen_once_is_told_although_it_ended(
    systemd: Ground, what: Callable[[Computer, Task], None]
) -> None:
    task = stray(systemd, ONE.artifact)
    shown = look(systemd, hook=strikes(systemd.host.computer, task, what))
    assert [(other.pid, other.role) for other in shown.others] == [(task.pid, "acts")]
    assert {p.pid: p.still for p in shown.processes} == {task.pid: False, systemd.main.pid: True}


# --- what fails -----------------------------------------------------------------------------------


def read_only(ground: Ground) -> None:
    ground.host.computer.disk.read_only = True


def full(ground: Ground) -> None:
    ground.host.computer.disk.room = 0


def unsynced(ground: Ground) -> None:
    ground.host.computer.disk.failing[("sync", "trial")] = errno.EIO


@pytest.mark.parametrize("breaks", [read_only, full, unsynced])
def test_p6_a_host_that_could_not_keep_a_latch_shows_that(
    ground: Ground, breaks: Callable[[Ground], None]
) -> None:
    ground.deploy(ONE)
    breaks(ground)
    shown = look(ground)
    assert shown.state_writable is False
    assert f"{ground.root}/state can't be written: " in shown.state_error
    assert [run.sha for run in shown.runs] == [ONE.release], "all else is shown as ever"


def test_a_trial_leaves_nothing_and_clears_away_what_a_killed_one_left(ground: Ground) -> None:
    ground.write("trial", "half")
    assert look(ground).state_writable is True
    assert "trial" not in ground.names("state")


def test_a_host_whose_processes_cannot_be_listed_is_not_shown(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No evidence is not evidence."""

    monkeypatch.setattr(MemoryProcesses, "survey", lambda self, _interest: fails(self))
    assert ground.refused(Probe()) == "cannot-look"


def test_the_service_is_no_stray_where_systemd_does_not_answer(
    systemd: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemorySupervisor, "state", fails)
    shown = look(systemd)
    assert (shown.main, shown.unit, shown.others) == (0, (), ())
    assert [run.sha for run in shown.runs] == [ONE.release]


def test_marks_that_cannot_be_read_are_named(ground: Ground) -> None:
    for name in ("halted", "lock"):
        ground.spoil(name)
    assert look(ground).marks.unreadable == ("lock", "halted")


@pytest.mark.parametrize("target", ["releases", "../../etc", "/etc", "releases/../../etc", "x"])
def test_a_link_that_names_no_release_leads_nowhere(ground: Ground, target: str) -> None:
    ground.host.computer.link(f"{ground.root}/current", target)
    shown = look(ground)
    assert (shown.current, shown.artifact, shown.disk) == (target, None, None)


def test_a_look_that_is_killed_anywhere_changes_nothing_that_counts(ground: Ground) -> None:
    ground.deploy(ONE)
    before = {name: text for name, text in ground.snapshot().items() if "/state/" not in name}
    marked = {name: ground.mark(name) for name in ("verified", "finished", "token")}
    for at in range(1, len(points(ground)) + 1):
        with pytest.raises(RunEnded):
            ground.ask(Probe(), hook=Points(at, killed))
        shown = look(ground)
        assert (shown.state_writable, [run.sha for run in shown.runs]) == (True, [ONE.release])
    after = {name: text for name, text in ground.snapshot().items() if "/state/" not in name}
    assert after == before
    assert {name: ground.mark(name) for name in marked} == marked


def fails(_run: Run) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_a_port_that_fails_anywhere_is_no_empty_evidence(ground: Ground) -> None:
    """Whatever can't be read is refused, or is not shown: it never looks like nothing there."""
    ground.deploy(ONE)
    whole = look(ground)
    for at, what in enumerate(points(ground), 1):
        answer = ground.ask(Probe(), hook=Points(at, fails))
        if isinstance(answer, RefusedAnswer):
            continue
        assert isinstance(answer, LookAnswer)
        shown = answer.evidence
        same = (shown.runs, shown.main, shown.owners, shown.others) == (
            whole.runs,
            whole.main,
            whole.owners,
            whole.others,
        )
        silent = shown.unit == () and not shown.main  # systemd did not answer
        assert same or (silent and (shown.runs == whole.runs or not shown.whole)), (at, what)


# --- the environment ------------------------------------------------------------------------------


def test_secrets_do_not_leave_the_host() -> None:
    shown = shown_environment(
        ("TOKEN=s3cret", "PATH=/usr/bin", "LD_PRELOAD=/tmp/x.so", "PYTHONPATH=/x", "A", "B=1=2")
    )
    assert shown == ("A", "B", "LD_PRELOAD=/tmp/x.so", "PATH=/usr/bin", "PYTHONPATH=/x", "TOKEN")


# --- what it was started with ---------------------------------------------------------------------

CONFIG = "/etc/router.json"


def test_p1_the_configuration_of_a_start_is_noted(ground: Ground) -> None:
    ground.deploy(ONE)
    shown = look(ground)
    assert shown.started is not None
    main = ground.main
    boot = ground.host.computer.boot_id
    assert (shown.started.pid, shown.started.start, shown.started.boot) == (
        main.pid,
        main.start,
        boot,
    )
    assert shown.started.configs == shown.configs
    assert [digest.sha for digest in shown.configs] == [sha256(b"{}\n")]


def test_p1_a_configuration_that_was_changed_since_is_told_from_what_runs(ground: Ground) -> None:
    ground.deploy(ONE)
    ground.host.computer.put(CONFIG, b'{"limit": 1}\n')
    shown = look(ground)
    assert shown.started is not None
    assert [digest.sha for digest in shown.started.configs] == [sha256(b"{}\n")]
    assert [digest.sha for digest in shown.configs] == [sha256(b'{"limit": 1}\n')]


def test_p1_one_that_changed_while_it_started_is_not_known(ground: Ground) -> None:
    token = ground.lock()
    ground.stage(ONE, token)

    def changes(_run: Run, what: str) -> None:
        if what.startswith("restart"):
            ground.host.computer.put(CONFIG, b"new\n")

    started = ground.done(switch(ONE, token), hook=changes).evidence.started
    assert started is not None
    assert [(digest.sha, digest.missing) for digest in started.configs] == [(None, False)]


def test_p1_a_start_that_the_agent_did_not_make_has_no_note(systemd: Ground) -> None:
    systemd.host.service.crash()
    systemd.host.pass_time(5)
    shown = look(systemd)
    assert shown.started is not None
    assert systemd.main.pid == shown.main != shown.started.pid


def test_a_file_that_is_not_there_is_noted_as_missing(ground: Ground) -> None:
    ground.host.computer.remove(CONFIG)
    ground.deploy(ONE)
    started = look(ground).started
    assert started is not None
    assert [(digest.sha, digest.missing) for digest in started.configs] == [(None, True)]


@pytest.mark.parametrize("text", ["", "x\n", "b 0 1\n", "b 5 1\nnothing /etc/x\n", "\0\n", "b 5\n"])
def test_a_note_that_cannot_be_read_is_none(ground: Ground, text: str) -> None:
    ground.deploy(ONE)
    ground.write("started", text)
    assert look(ground).started is None


def test_a_start_that_cannot_be_noted_is_a_start(ground: Ground) -> None:
    token = ground.lock()
    ground.stage(ONE, token)
    ground.host.computer.disk.failing[("sync", "started.new")] = errno.EIO
    answer = ground.activate(ONE, token)
    assert answer.evidence is not None
    assert answer.evidence.started is None
    assert ground.serves == ONE.release
