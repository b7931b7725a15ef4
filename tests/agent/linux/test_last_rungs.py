"""The last rungs of a stop: in the shell alone, on a host where nothing else works any more."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

import deploytool.agent
from deploytool.agent import marks
from deploytool.agent.linux import proc
from deploytool.agent.linux.files import LinuxFiles
from deploytool.agent.model import Latch

from .conftest import (
    CHURNING,
    PYTHON,
    Place,
    Ran,
    as_root,
    breeding,
    eventually,
    leaderless,
    members,
    running,
)

LAST_RUNGS = Path(deploytool.agent.__file__).with_name("last_rungs.sh")
KEYS = {"by": "ann", "reason": "much+too+much", "latch": "ab12", "since": "1796000000"}


def asked(verb: str, **keys: str) -> bytes:
    lines = "".join(f"{key} {value}\n" for key, value in keys.items())
    return f"deploytool/1 0a1b {verb}\n{lines}.\n".encode()


FENCE, LOOK = asked("fence", **KEYS), asked("look")
KILL = asked("kill", seconds="3", **KEYS)


def lines(ran: Ran) -> list[str]:
    """What stands between the lines of the frame; it was carried out."""
    text = ran.output.decode()
    begin, end = "\ndeploytool 0a1b begin\n", "deploytool 0a1b end ok\n"
    assert text.startswith(begin), ran
    assert text.endswith(end), ran
    return text[len(begin) : -len(end)].splitlines()


def alive(place: Place) -> list[str]:
    """What a look shows beside the stop itself."""
    return [line for line in lines(place.raw(LOOK)) if line.split()[0] not in {"halted", "fenced"}]


@pytest.fixture
def release(place: Place) -> Path:
    path = place.root / "releases" / "aa" / "router"
    path.parent.mkdir()
    shutil.copy("/usr/bin/sleep", path)
    return path


def serves(place: Place, process: subprocess.Popen[bytes]) -> None:
    """Has the pid file name a process, as the agent writes it."""
    (place.state / "pid").write_text(f"{process.pid} {proc.start_of(process.pid)}\n")


def test_fence_writes_what_python_reads(place: Place) -> None:
    assert lines(place.raw(FENCE)) == ["fenced yes"]
    state = LinuxFiles().open_root(str(place.state))
    found = marks.read_all(state)
    assert found.fenced
    assert found.latch == Latch(latch="ab12", by="ann", reason="much+too+much", since=1796000000)
    assert found.unreadable == ()
    state.close()
    assert sorted(os.listdir(place.state)) == ["fenced", "halted", "mutex", "probe.lock", "service"]


def test_a_fence_keeps_what_the_same_stop_wrote_down_before(place: Place) -> None:
    """What the artifact calls its own latch is in it, and a request to start has to name that."""
    state = LinuxFiles().open_root(str(place.state))
    told = Latch(latch="ab12", by="ann", reason="much too much", since=1796000000, artifact="c3")
    marks.put(state, halted=marks.text_of(told))
    assert lines(place.raw(FENCE)) == ["fenced yes"]
    assert marks.read_latch(state) == told
    marks.put(state, halted=marks.text_of(told.but(latch="ab13")))
    place.raw(FENCE)
    held = marks.read_latch(state)
    state.close()
    assert held is not None
    assert (held.latch, held.artifact) == ("ab12", None)


def test_kill_ends_the_service_and_strays_and_no_one_else(place: Place, release: Path) -> None:
    incoming = place.root / "releases" / ".incoming.aa" / "router"
    incoming.parent.mkdir()
    shutil.copy(release, incoming)
    hold = "import sys,time;f=open(sys.argv[1]);print(flush=True);time.sleep(60)"
    beside = release.with_name("notes")
    beside.touch()
    holder = (sys.executable, "-c", hold, release)
    reader = (sys.executable, "-c", hold, beside)
    with (
        running("sleep", "61") as main,
        running(release, "62") as stray,
        running(*holder, stdout=subprocess.PIPE) as held,
        running(*reader, stdout=subprocess.PIPE) as read,
        running(incoming, "63") as uploaded,
        running("sleep", "64") as other,
    ):
        for process in (held, read):
            assert process.stdout is not None
            process.stdout.readline()
        eventually(lambda: os.readlink(f"/proc/{stray.pid}/exe") == str(release))
        serves(place, main)
        assert set(alive(place)) == {f"alive {one.pid}" for one in (main, stray, held)}
        assert "killed" in lines(place.raw(KILL))[0]
        for process in (main, stray, held):
            assert process.wait(20) == -signal.SIGKILL
        assert alive(place) == []
        assert all(one.poll() is None for one in (read, uploaded, other))
    assert lines(place.raw(KILL)) == ["killed 0"]


def test_a_deleted_release_is_found_too(place: Place, release: Path) -> None:
    with running(release, "60") as stray:
        eventually(lambda: os.readlink(f"/proc/{stray.pid}/exe") == str(release))
        shutil.rmtree(release.parent)
        place.raw(KILL)
        assert stray.wait(20) == -signal.SIGKILL


def test_a_number_that_another_process_has_now_is_not_killed(place: Place) -> None:
    with running("sleep", "60") as other:
        start = proc.start_of(other.pid)
        assert start is not None
        (place.state / "pid").write_text(f"{other.pid} {start + 1}\n")
        assert lines(place.raw(KILL)) == ["killed 0"]
        assert alive(place) == []
        for text in ("", "x y\n", "-1 5\n", f"{other.pid}\n", "1 0\n", "* *\n", "0 0\n"):
            (place.state / "pid").write_text(text)
            assert lines(place.raw(KILL)) == ["killed 0"]
        assert other.poll() is None


def test_a_service_goes_on_without_its_first_thread(place: Place) -> None:
    """The kernel calls it a zombie, and it sends: it is alive, is killed, and then is gone."""
    with leaderless(PYTHON) as main:
        serves(place, main)
        assert alive(place) == [f"alive {main.pid}"]
        assert lines(place.raw(KILL)) == ["killed 1"]
        assert main.wait(20) == -signal.SIGKILL
        assert alive(place) == []


@pytest.mark.parametrize("way", ["executes", "holds"])
def test_a_stray_goes_on_without_its_first_thread(place: Place, release: Path, way: str) -> None:
    if way == "executes":
        shutil.copy(Path(PYTHON).resolve(), release)
    with leaderless(*((release,) if way == "executes" else (PYTHON, release))) as stray:
        assert alive(place) == [f"alive {stray.pid}"]
        place.raw(KILL)
        assert stray.wait(20) == -signal.SIGKILL
        assert alive(place) == []


def test_threads_that_come_and_go_hide_no_process(place: Place, release: Path) -> None:
    shutil.copy(Path(PYTHON).resolve(), release)
    with leaderless(release, program=CHURNING) as stray:
        for _ in range(5):
            ran = place.raw(LOOK).output
            assert f"alive {stray.pid}\n".encode() in ran or b"refused cannot-look" in ran


def test_who_only_holds_the_artifact_open_is_shown_and_not_killed(
    place: Place, release: Path
) -> None:
    """A backup, or a bus that was given its descriptor: of another account than the service's."""
    as_root()
    service = 54321
    os.chown(place.state / "service", service, service)
    for folder in (place.root.parent, place.root):
        folder.chmod(0o755)
    hold = "import sys,time;f=open(sys.argv[1]);print(flush=True);time.sleep(60)"
    holder = (PYTHON, "-c", hold, release)
    with (
        running(*holder, stdout=subprocess.PIPE) as backup,
        running(*holder, stdout=subprocess.PIPE, user=service) as interpreter,
        running(release, "60", user=54322) as stray,
    ):
        for process in (backup, interpreter):
            assert process.stdout is not None
            process.stdout.readline()
        eventually(lambda: os.readlink(f"/proc/{stray.pid}/exe") == str(release))
        assert set(alive(place)) == {f"alive {o.pid}" for o in (backup, interpreter, stray)}
        assert lines(place.raw(KILL)) == ["killed 2"]
        for process in (interpreter, stray):
            assert process.wait(20) == -signal.SIGKILL
        assert alive(place) == [f"alive {backup.pid}"]


FORGED = """
import os, sys, time
base, root, artifact, victim = sys.argv[1:]
path = f"{base}/a /proc/{victim}/exe -> {root}/releases/x"
os.makedirs(os.path.dirname(path))
held = [open(path, "w"), open(artifact)]
print(flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("victim", ["another", "1"])
def test_no_file_s_name_stands_for_another_process(
    place: Place, release: Path, tmp_path: Path, victim: str
) -> None:
    """A file may be called as a line of the list: it kills no other process, and hides none."""
    as_root()
    with running("sleep", "60") as other:
        number = str(other.pid) if victim == "another" else victim
        forger = (PYTHON, "-c", FORGED, tmp_path / "x", place.root, release, number)
        with running(*forger, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            assert alive(place) == [f"alive {holder.pid}"]
            assert lines(place.raw(KILL)) == ["killed 1"]
            assert holder.wait(20) == -signal.SIGKILL
        assert other.poll() is None


NAMED = (
    "import ctypes,sys,time;ctypes.CDLL(None).prctl(15,sys.argv[1].encode());"
    "print(flush=True);time.sleep(60)"
)


@pytest.mark.parametrize("name", [") Z", "\n) Z 0 0 0", "a) \n", "\n" * 15, "a) Z\n", ") Z 1 ("])
@pytest.mark.parametrize("role", ["main", "stray"])
def test_whatever_a_process_calls_itself(place: Place, release: Path, role: str, name: str) -> None:
    shutil.copy(Path(PYTHON).resolve(), release)
    program = PYTHON if role == "main" else release
    with running(program, "-c", NAMED, name, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if role == "main":
            serves(place, process)
        assert alive(place) == [f"alive {process.pid}"]
        assert place.raw(FENCE + KILL).output.count(b" end ok\n") == 2
        assert process.wait(20) == -signal.SIGKILL


def test_strays_that_follow_one_another_are_no_empty_host(place: Place, release: Path) -> None:
    """Each is gone when the next look comes; what starts them is not the service's to be killed."""
    script = f"while :; do {release} 0.2; done"
    with running("sh", "-c", script):
        time.sleep(0.3)
        assert alive(place)[0].startswith("alive ")
        assert lines(place.raw(asked("kill", seconds="1", **KEYS)))[0] != "killed 0"


def test_what_runs_as_the_service_s_account_may_send(place: Place) -> None:
    as_root()
    os.chown(place.state / "service", 54321, 54321)
    place.settings = place.settings.but(supervisor="systemd", name="deploytool-none")
    place.write_agent()
    with running("sleep", "60", user=54321) as shell:
        assert lines(place.raw(LOOK)) == [f"may {shell.pid}"]
        assert lines(place.raw(KILL))[0] == "killed 0"
        assert shell.poll() is None


def test_a_host_that_may_not_be_inspected_is_no_empty_one(place: Place, release: Path) -> None:
    """Without CAP_SYS_PTRACE root sees nothing of what runs as another account."""
    as_root()
    place.settings = place.settings.but(supervisor="systemd", name="deploytool-none")
    place.write_agent()
    for folder in (place.root.parent, place.root):
        folder.chmod(0o755)
    with running(release, "60", user=54322):
        ended = subprocess.run(
            ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", place.agent],
            input=LOOK, capture_output=True, env=place.environment, timeout=60,
        )  # fmt: skip
        assert b"end refused cannot-look " in ended.stdout, ended


def test_a_number_that_was_given_away_since_the_look_is_not_killed() -> None:
    script = f". {LAST_RUNGS}; KILLED=' ' killed=0 BORN=$(started $1); kill_seen $2; echo $killed"
    with running("sleep", "60") as first:
        time.sleep(0.05)  # starts are told in hundredths of a second
        with running("sleep", "60") as second:
            for born, seen, killed in ((first, second, 0), (second, first, 1), (second, second, 1)):
                argv = ["sh", "-c", script, "sh", str(born.pid), str(seen.pid)]
                ended = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
                assert ended.stdout == f"{killed}\n", (born.args, ended.stderr)


def test_a_number_that_left_the_control_group_is_not_signalled(group: Path) -> None:
    """Between the list of the group and the signal, another process may have been given it."""
    script = (
        f'. {LAST_RUNGS}; SUPERVISOR=systemd HALT_SIGNAL=KILL NAME=$1; MEMBERS="$2 $3"'
        "; signal_members; MEMBERS=$3; signal_members || echo none"
    )
    name = group.name[: -len(".service")]
    joins = 'echo $$ >"$1/below/cgroup.procs"; exec sleep 60'
    with running("sleep", "60") as other, running("sh", "-c", joins, "sh", group) as member:
        eventually(lambda: str(member.pid) in members(group))
        argv = ["sh", "-c", script, "sh", name, str(member.pid), str(other.pid)]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
        assert ended.stdout == "none\n"
        assert member.wait(20) == -signal.SIGKILL
        assert other.poll() is None


def test_the_artifact_is_told_to_halt_before_it_is_killed_unless_it_was(place: Place) -> None:
    place.settings = place.settings.but(halt_signal="USR1")
    place.write_agent()
    heard = place.state / "service" / "heard"
    code = (
        "import signal,sys,time\n"
        "def heard(*_):\n    open(sys.argv[1],'w').close(); time.sleep(0.3); sys.exit()\n"
        "signal.signal(signal.SIGUSR1,heard);print(flush=True);time.sleep(60)"
    )
    program = (sys.executable, "-c", code, heard)
    with running(*program, stdout=subprocess.PIPE) as main:
        assert main.stdout is not None
        main.stdout.readline()
        serves(place, main)
        assert lines(place.raw(FENCE)) == ["fenced yes"]
        assert heard.exists()
        assert main.wait(20) == 0, "it had its time to cancel"
    heard.unlink()
    with running(*program, stdout=subprocess.PIPE) as main:
        assert main.stdout is not None
        main.stdout.readline()
        serves(place, main)
        assert lines(place.raw(FENCE)) == ["fenced yes"]
        assert not heard.exists(), "the same stop had told it already"


def test_ports_that_are_open_are_said(place: Place) -> None:
    code = (
        "import socket,time;s=socket.create_server(('127.0.0.1',0));"
        "print(s.getsockname()[1],flush=True);time.sleep(60)"
    )
    with running(sys.executable, "-c", code, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        place.settings = place.settings.but(ports=(1, port))
        place.write_agent()
        assert lines(place.raw(LOOK)) == [f"open {port}"]


def test_look_shows_the_stop(place: Place) -> None:
    place.raw(FENCE)
    assert lines(place.raw(LOOK)) == [
        "halted latch ab12 by ann reason much+too+much since 1796000000 ",
        "fenced",
    ]


def test_neither_a_mutex_nor_a_change_in_progress_is_waited_for(place: Place) -> None:
    held = ["flock", str(place.state / "mutex"), "flock", str(place.state / "probe.lock")]
    with running(*held, "sh", "-c", "echo held; exec sleep 60", stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        ran = place.raw(FENCE + KILL + LOOK)
        assert ran.output.count(b" end ok\n") == 3


def test_a_state_that_can_not_be_written_is_said_and_what_runs_is_killed(
    place: Place, release: Path
) -> None:
    as_root()
    with running(release, "60") as stray:
        eventually(lambda: os.readlink(f"/proc/{stray.pid}/exe") == str(release))
        script = f"mount --bind -o ro {place.root} {place.root} && exec {place.agent}"
        ended = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script],
            input=FENCE + KILL,
            capture_output=True,
            env=place.environment,
        )
        assert ended.stdout.count(b" end ok\n") == 2, ended
        assert b"fenced no\n" in ended.stdout
        assert stray.wait(20) == -signal.SIGKILL


@pytest.mark.parametrize(
    "broken",
    ["absent", "/bin/false", "hangs", "garbage"],
)
def test_it_works_whatever_python_is(place: Place, tmp_path: Path, broken: str) -> None:
    as_root()
    fake = tmp_path / "fake"
    fake.write_bytes(b"\x7fELF garbage" if broken == "garbage" else b"#!/bin/sh\nsleep 1234\n")
    fake.chmod(0o644 if broken == "absent" else 0o755)
    target = Path(PYTHON).resolve()
    source = broken if broken.startswith("/") else fake
    script = f"mount --bind {source} {target} && exec {place.agent}"
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        input=FENCE + KILL + LOOK,
        capture_output=True,
        env=place.environment,
        timeout=60,
    )
    assert ended.stdout.count(b" end ok\n") == 3, ended
    assert (place.state / "fenced").exists()


BAD = [
    asked("fence"),
    asked("fence", **{**KEYS, "latch": "AB12"}),
    asked("fence", **{**KEYS, "latch": "$(touch /tmp/x)"}),
    asked("fence", **{**KEYS, "by": "a b"}),
    asked("fence", **{**KEYS, "reason": "x" * 300}),
    asked("fence", **{**KEYS, "since": "-1"}),
    asked("fence", **{**KEYS, "since": "9" * 30}),
    asked("kill", **KEYS),
    asked("kill", seconds="-1", **KEYS),
    asked("kill", seconds="08", **KEYS),
    asked("kill", seconds="1000", **KEYS),
    asked("kill", seconds="3;4", **KEYS),
    asked("fence", ROOT="x", **KEYS),
    asked("fence", PATH="x", **KEYS),
    b"deploytool/1 0a1b fence\nby ann\n",
    b"deploytool/1 0a1b fence\n" + b"by ann\n" * 100 + b".\n",
    b"deploytool/1 0a1b look\nby \xff\n.\n",
]


@pytest.mark.parametrize("sent", BAD, ids=range(len(BAD)))
def test_what_is_no_request_of_theirs_changes_nothing(place: Place, sent: bytes) -> None:
    ran = place.raw(sent + LOOK)
    assert b"deploytool 0a1b end refused bad-request " in ran.output, ran
    assert ran.output.count(b" end ") == 1, "it ends after a refusal"
    assert sorted(os.listdir(place.state)) == ["mutex", "probe.lock", "service"]


@pytest.mark.parametrize("seconds", ["0", "1", "3"])
def test_kill_has_a_bound_where_a_process_can_not_be_killed(place: Place, seconds: str) -> None:
    """A process that is always there: another starts as soon as one ends."""
    release = place.root / "releases" / "aa" / "router"
    release.parent.mkdir()
    shutil.copy("/usr/bin/sleep", release)
    script = f"while :; do {release} 60; done"
    with running("sh", "-c", script) as breeder:
        begun = time.monotonic()
        ran = place.raw(asked("kill", seconds=seconds, **KEYS), deadline_s=120)
        assert lines(ran)[0].startswith("killed ")
        assert time.monotonic() - begun < 100
        breeder.kill()
        breeder.wait()
        place.raw(KILL)


def test_it_goes_on_in_the_same_conversation_after_the_last_rungs(place: Place) -> None:
    ran = place.raw(LOOK + b"deploytool/2 0b latch\n{}\n" + b"deploytool/2 0c latch\n{}\n")
    assert ran.output.count(b" end ok\n") == 3


@pytest.mark.parametrize("by", ["cgroup.kill", "cgroup.freeze", "each"])
def test_kill_ends_a_control_group_that_breeds_and_what_is_below_it(
    place: Place, group: Path, by: str
) -> None:
    """What the group names is killed first: in one write, frozen, or until it is empty.

    In a single pass: no list of the whole host, which takes longer, is waited for.
    """
    place.settings = place.settings.but(supervisor="systemd", name=group.name[: -len(".service")])
    place.write_agent()
    ways = ["cgroup.kill", "cgroup.freeze", "each"]
    hidden = [path for name in ways[: ways.index(by)] if (path := group / name).exists()]
    script = "".join(f"mount --bind /dev/full {path}\n" for path in hidden)
    told = asked("kill", seconds="0", **KEYS) + LOOK
    with breeding(group):
        ended = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", f"{script}exec {place.agent}"],
            input=told, capture_output=True, env=place.environment, timeout=60,
        )  # fmt: skip
        assert ended.stdout.count(b" end ok\n") == 2, ended
        assert b"\nalive " not in ended.stdout, ended
        assert not members(group)


def test_no_group_is_too_deep_or_hidden_by_its_name(place: Place, group: Path) -> None:
    place.settings = place.settings.but(supervisor="systemd", name=group.name[: -len(".service")])
    place.write_agent()
    deep = group / "below" / ".hidden" / "..two dots" / "and deep"
    deep.mkdir(parents=True)
    joins = 'echo $$ >"$1/cgroup.procs"; exec sleep 60'
    with running("sh", "-c", joins, "sh", deep) as member:
        eventually(lambda: str(member.pid) in members(group))
        assert alive(place) == [f"alive {member.pid}"]
        assert lines(place.raw(KILL))[0] == "killed 1"
        assert member.wait(20) == -signal.SIGKILL
        assert alive(place) == []


def test_more_groups_than_are_looked_at_are_no_empty_one(place: Place, group: Path) -> None:
    place.settings = place.settings.but(supervisor="systemd", name=group.name[: -len(".service")])
    place.write_agent(lambda content: content.replace(b"groups=1000", b"groups=3"))
    for number in range(4):
        (group / "below" / str(number)).mkdir()
    assert b"end refused cannot-look " in place.raw(LOOK).output


def test_long_arguments_keep_no_hung_service_alive(place: Place, release: Path) -> None:
    """Twelve processes with 1.7 MB of arguments each: nothing of a stop reads what they say."""
    many = ["0" * 100_000] * 17
    with ExitStack() as stack:
        hung = [stack.enter_context(running(release, "60", *many)) for _ in range(6)]
        for _ in range(6):
            stack.enter_context(running("sleep", "60", *many))
        for process in hung:
            process.send_signal(signal.SIGSTOP)
        serves(place, hung[0])
        ended = lines(place.raw(KILL))
        assert ended == [f"killed {len(hung)}"]
        assert alive(place) == []


def test_a_look_that_is_cut_short_shows_nothing(place: Place) -> None:
    """Else a host that is too slow to list its processes would be taken for an empty one."""

    def hangs(content: bytes) -> bytes:
        lists = b"timeout -k 1 3 ls -lnq "
        assert content.count(lists) == 1
        return content.replace(lists, b"timeout -k 1 0.1 sh -c 'exec sleep 9' ")

    place.write_agent(hangs)
    assert b"end refused cannot-look " in place.raw(LOOK).output
    assert lines(place.raw(asked("kill", seconds="1", **KEYS))) == ["killed 0"]
