"""Processes against real ones: what is seen of them, how they are told apart, and how they end."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from deploytool.agent.linux import killing, proc
from deploytool.agent.linux.machine import LinuxMachine
from deploytool.agent.linux.processes import LinuxProcesses
from deploytool.agent.linux.survey import ProcSurvey
from deploytool.agent.port import Interest, View
from tests.unable import unable

from .conftest import CHURNING, PYTHON, as_root, breeding, eventually, leaderless, running

PROCESSES = LinuxProcesses("/usr/local/libexec/deploytool/router/agent")
ACCOUNT = 65534
"""Nobody's: it exists everywhere."""


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release of a root: a program that any process may run."""
    path = tmp_path.resolve() / "releases" / "aa" / "router"
    path.parent.mkdir(parents=True)
    shutil.copy("/usr/bin/sleep", path)
    return path


def interest(release: Path, **more: object) -> Interest:
    return Interest(root=str(release.parents[1])).but(**more)


def seen(wanted: Interest, pid: int) -> View | None:
    return {view.process.pid: view for view in PROCESSES.survey(wanted)}.get(pid)


def found(wanted: Interest, pid: int) -> View:
    """The view of a process that has just been started: exec(2) may be still to come."""
    eventually(lambda: seen(wanted, pid) is not None)
    view = seen(wanted, pid)
    assert view is not None
    return view


def ways(view: View) -> set[tuple[str, str]]:
    return {(file.how, file.path) for file in view.files}


def test_age_counts_from_a_process_own_start(release: Path) -> None:
    machine = LinuxMachine()
    with running(release, "60") as process:
        child, own = found(interest(release), process.pid).process, PROCESSES.process(os.getpid())
        assert own is not None
        before = machine.uptime()
        ages = machine.age(child.start), machine.age(own.start), machine.age(0)
        assert 0 <= ages[0] <= ages[1] < before <= ages[2] <= machine.uptime()


def test_a_process_is_seen_by_what_it_executes(release: Path) -> None:
    with running(release, "60") as process:
        view = found(interest(release), process.pid)
        assert ways(view) == {("exe", str(release))}
        assert view.process.parent == os.getpid()
        assert view.process.still
        assert view.arguments == (str(release), "60")
        assert view.hidden == ""
        assert view.accounts == (os.getuid(),) * 4
        digest = hashlib.sha256(release.read_bytes()).hexdigest()
        assert PROCESSES.digest(view.files[0]) == digest
        release.unlink()
        view = found(interest(release), process.pid)
        assert (view.files[0].deleted, view.files[0].path) == (True, str(release))
        assert PROCESSES.digest(view.files[0]) == digest, "the bytes live as long as the process"
    assert PROCESSES.digest(view.files[0]) is None
    assert seen(interest(release), process.pid) is None


def test_a_process_is_seen_by_its_size_wherever_the_file_is(release: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copy(release, elsewhere)
    with release.open("ab") as content:
        content.write(b"one more byte")
    with running(elsewhere, "60") as process:
        assert seen(interest(release), process.pid) is None
        sized = interest(release, sizes=(elsewhere.stat().st_size,))
        assert ways(found(sized, process.pid)) == {("exe", str(elsewhere))}


def test_an_interpreter_is_seen_by_what_it_holds_maps_and_names(release: Path) -> None:
    wanted = interest(release)
    hold = "import sys,time;f=open(sys.argv[1]);print(flush=True);time.sleep(60)"
    execute = (
        "import mmap,sys,time;f=open(sys.argv[1],'rb');"
        "m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ|mmap.PROT_EXEC,flags=mmap.MAP_PRIVATE);"
        "f.close();print(flush=True);time.sleep(60)"
    )
    named = "import time;print(flush=True);time.sleep(60)"
    for code, how in ((hold, "fd"), (execute, "map"), (named, "argument")):
        program = (sys.executable, "-c", code, str(release))
        with running(*program, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            view = found(wanted, process.pid)
            assert (how, str(release)) in ways(view)
            assert PROCESSES.digest(view.files[0]) == PROCESSES.digest(
                found(interest(release), process.pid).files[0]
            )


@pytest.mark.parametrize("word", ["router", "./router", "../aa/router"])
def test_an_argument_is_read_in_the_folder_of_its_process(release: Path, word: str) -> None:
    code = "import time;print(flush=True);time.sleep(60)"
    program = (sys.executable, "-c", code, "--option", word)
    with running(*program, cwd=release.parent, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert ways(found(interest(release), process.pid)) == {("argument", word)}


def test_names_that_are_no_text_are_seen_and_shown(release: Path) -> None:
    odd = os.fsencode(release.parent) + b"/\xff\n(deleted)"
    Path(os.fsdecode(odd)).write_bytes(release.read_bytes())
    Path(os.fsdecode(odd)).chmod(0o755)
    with running(odd, b"60") as process:  # type: ignore[arg-type] # a name of bytes
        view = found(interest(release), process.pid)
        assert [file.how for file in view.files] == ["exe"]
        assert view.files[0].path.isascii()
        assert view.to_json()
        assert PROCESSES.digest(view.files[0]) is not None


def test_a_command_that_looks_like_a_line_of_stat_is_read_right(release: Path) -> None:
    odd = release.with_name("a) R 1 (b")
    release.rename(odd)
    with running(odd, "60") as process:
        view = found(interest(release), process.pid)
        assert view.process.parent == os.getpid()
        assert view.process == PROCESSES.process(process.pid)


def test_huge_arguments_have_a_bound(release: Path) -> None:
    many = ["x" * 100_000] * 15
    with running(release, "60", *many) as process:
        with suppress(AssertionError):
            eventually(lambda: seen(interest(release), process.pid), 5)
        view = seen(interest(release), process.pid)
        if view is not None:
            assert sum(map(len, view.arguments)) <= proc.ARGUMENTS_AT_MOST
    with running("/bin/sh", "-c", f"exec {release} 60", *many) as process:
        view = found(interest(release), process.pid)
        assert len(view.process.command) <= proc.COMMAND_AT_MOST


def test_processes_of_an_account_and_their_parents_are_seen(release: Path) -> None:
    as_root()
    with running("sleep", "60", user=ACCOUNT, group=ACCOUNT) as process:
        view = found(interest(release, accounts=(ACCOUNT,)), process.pid)
        assert view.accounts == (ACCOUNT,) * 4
        assert view.process.account == ACCOUNT
        assert view.files == ()
        assert seen(interest(release), process.pid) is None
    script = f"{release} 60; :"
    with running("/bin/sh", "-c", script, process_group=0) as parent:
        found(interest(release), parent.pid)
        os.killpg(parent.pid, signal.SIGKILL)


def test_what_an_account_may_not_inspect_is_hidden_or_left_out() -> None:
    as_root()
    code = (
        "import os,sys;sys.path.insert(0,sys.argv[1]);"
        "from deploytool.agent.linux.processes import LinuxProcesses as P;"
        "from deploytool.agent.port import Interest;"
        "whole=sys.argv[2]=='whole';"
        "v=P('/a').survey(Interest(root='/nowhere',whole=whole));"
        "print(len(v),sorted({x.hidden for x in v})[:1])"
    )
    source = str(Path(proc.__file__).parents[3])
    if not os.access(source, os.X_OK) or not _reachable(source):
        unable("an account without rights can't read these sources here")
    said = {}
    for mode in ("whole", "own"):
        ended = subprocess.run(
            ["/usr/bin/python3", "-I", "-S", "-B", "-c", code, source, mode],
            capture_output=True,
            text=True,
            user=ACCOUNT,
            group=ACCOUNT,
        )
        said[mode] = ended.stdout
        assert ended.returncode == 0, ended
    assert "Permission denied" in said["whole"]
    assert said["own"].split() == ["0", "[]"]


def _reachable(path: str) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in Path(path).parents)


def test_listeners_and_connections_are_seen_in_every_network_namespace(release: Path) -> None:
    as_root()
    code = (
        "import socket,sys,subprocess,time\n"
        "subprocess.run(['ip','link','set','lo','up'],check=True)\n"
        "s=socket.create_server(('127.0.0.1',0));port=s.getsockname()[1]\n"
        "c=socket.create_connection(('127.0.0.1',port))\n"
        "print(port,flush=True);time.sleep(60)"
    )
    for before in ((), ("unshare", "--net")):
        program = (*before, sys.executable, "-c", code)
        with running(*program, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            view = found(interest(release, ports=(port,)), process.pid)
            assert [(s.port, s.listens) for s in view.sockets] == [(port, True)]
            peers = (f"127.0.0.1:{port}",)
            view = found(interest(release, peers=peers), process.pid)
            assert [(s.listens, s.peer) for s in view.sockets] == [(False, peers[0])]
            assert PROCESSES.listening((port,)) == (frozenset() if before else {port})


def test_a_listener_of_ipv6_is_seen(release: Path) -> None:
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        unable("this machine has no IPv6")
    with listening:
        port = listening.getsockname()[1]
        assert PROCESSES.listening((port,)) == {port}
        connected = socket.create_connection(("::1", port))
        with connected, running("cat", stdin=connected.fileno()) as process:
            view = found(interest(release, peers=(f"[::1]:{port}",)), process.pid)
            assert [socket.peer for socket in view.sockets] == [f"[::1]:{port}"]


@pytest.mark.parametrize("peer", ["", "x", "1.2.3.4", "1.2.3:4", "300.1.1.1:1", "[::z]:1"])
def test_a_peer_that_is_no_address_is_an_error(release: Path, peer: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011 EINVAL
        PROCESSES.survey(interest(release, peers=(peer,)))


def test_other_agents_and_what_they_run_are_told_apart(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"import subprocess;subprocess.run([{str(release)!r},'60'])"
    own = LinuxProcesses("/the/agent")
    wanted = interest(release)
    with running(release, "60") as process:
        assert found(wanted, process.pid).client, "what this very agent runs is its client"
    monkeypatch.setattr(os, "getpid", lambda: 2)  # as if this were no agent
    for name, is_client in (("/the/agent", True), ("/another", False)):
        with running(sys.executable, "-c", code, name) as agent:
            eventually(lambda: any(v.process.parent == agent.pid for v in own.survey(wanted)))
            views = [view for view in own.survey(wanted) if view.process.parent == agent.pid]
            assert [view.client for view in views] == [is_client]
            os.kill(views[0].process.pid, signal.SIGKILL)


@pytest.mark.parametrize("pid", [-1, 0, 1, -(2**31), 2**22, 2**53])
def test_numbers_of_no_process_are_neither_read_nor_signalled(pid: int) -> None:
    assert pid == 1 or PROCESSES.process(pid) is None
    assert pid == 1 or proc.start_of(pid) is None
    with suppress(OSError, OverflowError):
        assert PROCESSES.signal(pid, 0, signal.SIGKILL) is False


@pytest.mark.parametrize("with_pidfd", [True, False])
def test_a_signal_hits_that_very_process_only(
    monkeypatch: pytest.MonkeyPatch, *, with_pidfd: bool
) -> None:
    if not with_pidfd:

        def lacks(_pid: int) -> int:
            raise OSError(38, "the kernel lacks it")

        monkeypatch.setattr(os, "pidfd_open", lacks)
    with running("sleep", "60") as process:
        start = proc.start_of(process.pid)
        assert start is not None
        assert not PROCESSES.signal(process.pid, start + 1, signal.SIGKILL)
        assert process.poll() is None
        assert PROCESSES.signal(process.pid, start, signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM
    assert not PROCESSES.signal(process.pid, start, signal.SIGTERM)


def test_environment_and_mappings_are_those_of_that_very_process() -> None:
    with running("sleep", "60", env={"A": "1", "PATH": os.environ["PATH"]}) as process:
        eventually(
            lambda: (
                (PROCESSES.process(process.pid) or 0)
                and "sleep" in str(PROCESSES.process(process.pid))
            )
        )
        one = PROCESSES.process(process.pid)
        assert one is not None
        assert "A=1" in PROCESSES.environment(one)
        eventually(lambda: any("libc" in file.path for file in PROCESSES.mapped(one)))
        mapped = PROCESSES.mapped(one)
        assert mapped[0].how == "exe"
        later = one.but(start=one.start + 1)
        for call in (PROCESSES.environment, PROCESSES.mapped):
            with pytest.raises(OSError):  # noqa: PT011 ESRCH
                call(later)


@pytest.mark.parametrize("way", ["exe", "fd"])
def test_a_process_goes_on_without_its_first_thread(release: Path, way: str) -> None:
    """The kernel calls it a zombie and shows none of its files; another thread shows all."""
    if way == "exe":
        shutil.copy(Path(PYTHON).resolve(), release)
    with leaderless(*((release,) if way == "exe" else (PYTHON, release))) as process:
        shown = PROCESSES.process(process.pid)
        assert shown is not None
        assert shown.state == "R"
        view = found(interest(release), process.pid)
        assert (view.process.state, view.hidden) == ("R", "")
        assert way in {how for how, _ in ways(view)}
        held = next(file for file in view.files if file.how == way)
        assert PROCESSES.digest(held) == hashlib.sha256(release.read_bytes()).hexdigest()
        assert PROCESSES.mapped(shown)[0].how == "exe"
        assert any(line.startswith("PATH=") for line in PROCESSES.environment(shown))
        assert PROCESSES.signal(process.pid, shown.start, signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL


def test_threads_that_come_and_go_hide_no_process(release: Path) -> None:
    """Each may end while the process is inspected by it: then it is said that it was not seen."""
    shutil.copy(Path(PYTHON).resolve(), release)
    with leaderless(release, program=CHURNING) as process:
        for _ in range(20):
            view = seen(interest(release, whole=True), process.pid)
            assert view is not None
            assert ("exe", str(release)) in ways(view) or "threads begin and end" in view.hidden


@pytest.mark.parametrize("name", ["", "/", "relative", "/../..", "/no/such/group", "/a/../.."])
def test_a_group_that_is_none_has_nobody(name: str) -> None:
    assert PROCESSES.group(name) == ()
    PROCESSES.kill_group(name)


@pytest.mark.parametrize("by", ["cgroup.kill", "cgroup.freeze", "each"])
def test_a_group_is_killed_whole_also_while_it_breeds(
    group: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """In one write, frozen, or one by one until it is empty: as the kernel allows."""
    ways = ["cgroup.kill", "cgroup.freeze", "each"]
    lacks = ways[: ways.index(by)]
    real, written = killing._write, []

    def write(path: str, text: bytes) -> bool:
        name = path.rpartition("/")[2]
        taken = name not in lacks and real(path, text)
        written.extend([name] if taken else [])
        return taken

    monkeypatch.setattr(killing, "_write", write)
    name = f"/system.slice/{group.name}"
    with breeding(group):
        PROCESSES.kill_group(name)
        eventually(lambda: not PROCESSES.group(name))
    assert (by in written) is (group / by).exists()


def test_what_takes_too_long_to_inspect_is_hidden(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may hold a million descriptors, and an account open many network namespaces."""
    wanted = interest(release, ports=(1,))
    with running(release, "60") as process:
        found(interest(release), process.pid)
        survey = ProcSurvey(wanted, "/agent")
        in_time = iter([False, True])
        monkeypatch.setattr(survey, "_late", lambda: next(in_time))
        one = survey._look(process.pid)
        assert one is not None
        assert "within 20 s" in one.hidden
        monkeypatch.undo()
        whole = survey._look(process.pid)
        assert whole is not None
        assert whole.hidden == ""
        whole.network = b"net:[1]"  # one that was not read yet
        survey._until = 0.0
        survey._sockets({process.pid: whole})
        assert "within 20 s" in whole.hidden
