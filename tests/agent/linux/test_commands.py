"""Programs that the agent runs: bounded, with the account's rights, and nothing stays behind."""

from __future__ import annotations

import errno
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploytool.agent.linux import killing, proc, running
from deploytool.agent.linux.commands import LinuxCommands
from deploytool.agent.model import Asked
from deploytool.agent.words import DOCUMENT_AT_MOST

from .conftest import Place, as_root, eventually, settings_for

ACCOUNT = "daemon"
ME = (os.getpid(), proc.start_of(os.getpid()) or 0)


def commands(place: Place, **changed: object) -> LinuxCommands:
    return LinuxCommands(settings_for(place.root, **changed))


def run(
    place: Place, script: str, given: bytes = b"", deadline_s: float = 20.0
) -> tuple[object, ...]:
    asked = commands(place).run(("/bin/sh", "-c", script), given=given, deadline_s=deadline_s)
    return asked.code, asked.answer, asked.errors


def test_what_a_program_prints_and_how_it_ends(place: Place) -> None:
    assert run(place, "echo out; echo err >&2; exit 3") == (3, "out\n", "err")
    assert run(place, "exit 0") == (0, "", "")
    assert run(place, "printf '\\377'") == (0, "\ufffd", "")


def test_a_program_that_is_not_there_is_told_as_a_shell_tells_it(place: Place) -> None:
    for word, code in (("/no/such/program", 127), (str(place.state / "mutex"), 126)):
        asked = commands(place).run((word,), given=b"", deadline_s=5)
        assert asked.code == code
        assert word in asked.errors
        assert asked.answer == ""


def test_its_environment_is_closed_and_no_descriptor_is_inherited(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD_NOT", "x")
    monkeypatch.setenv("SECRET", "x")
    reads, writes = os.pipe()
    # What whoever runs these tests left open for all of its children is not the agent's.
    others = {name for name in os.listdir("/proc/self/fd") if _is_inheritable(int(name))}
    code, answer, errors = run(place, "env; ls -l /proc/self/fd; ps -o pid=,pgid=,sid= -p $$")
    assert (code, errors) == (0, "")
    lines = str(answer).splitlines()
    names = {line.partition("=")[0] for line in lines if "=" in line and " " not in line}
    assert names <= {"PATH", "LANG", "PWD", "SHLVL", "_", "OLDPWD"}
    inherited = {line.split()[8] for line in lines if "->" in line} - others
    assert inherited <= {"0", "1", "2", "3"}
    pid, group, session = lines[-1].split()
    assert pid == group == session
    os.close(reads)
    os.close(writes)


def _is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False  # the listing's own


def test_signals_and_limits_of_the_agent_are_not_inherited(place: Place) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**40, hard))
    try:
        code, answer, _ = run(place, "grep SigIgn /proc/self/status; ulimit -v")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGHUP, before)
    assert code == 0
    ignored, memory = str(answer).split()[1:]
    assert int(ignored, 16) & (2**31 - 1) == 0, "the kernel's and libc's own come after these"
    assert memory == "unlimited"


@pytest.mark.parametrize("size", [0, 1, 65536, 1_000_000])
def test_what_is_given_and_printed_at_once_does_not_lock_up(place: Place, size: int) -> None:
    code, answer, errors = run(place, "tee /dev/stderr | wc -c", b"x" * size)
    assert (code, str(answer).strip()) == (0, str(size))
    assert len(str(errors)) == min(size, running.ERRORS_AT_MOST)


def test_one_that_reads_nothing_is_no_error(place: Place) -> None:
    assert run(place, "exec <&-; echo done", b"x" * 1_000_000) == (0, "done\n", "")


@pytest.mark.parametrize("script", ["yes", "cat /dev/zero", "while :; do echo x; done"])
def test_one_that_prints_without_end_is_ended(place: Place, script: str) -> None:
    code, answer, errors = run(place, script)
    assert code is None
    assert len(str(answer)) == DOCUMENT_AT_MOST
    assert "printed more" in str(errors)


@pytest.mark.parametrize("ignores", ["", "trap '' TERM; "])
def test_one_that_does_not_end_in_time_is_killed_with_what_it_started(
    place: Place, ignores: str
) -> None:
    script = f"{ignores}sleep 1234 & echo $!; sleep 1234; sleep 1234"
    code, answer, errors = run(place, script, deadline_s=0.5)
    assert code is None
    assert "did not end within 0.5 s" in str(errors)
    eventually(lambda: not _alive(int(str(answer))))


def _alive(pid: int) -> bool:
    found = proc.process_of(pid)
    return found is not None and found.state != "Z"


def test_what_it_leaves_behind_is_killed_and_not_waited_for(place: Place) -> None:
    code, answer, _ = run(place, "sleep 1234 & echo $!")
    assert code == 0
    eventually(lambda: not _alive(int(str(answer))))


def test_one_that_kills_itself_has_no_code(place: Place) -> None:
    code, answer, errors = run(place, "echo x; kill -9 $$")
    assert (code, answer) == (None, "x\n")
    assert "signal 9" in str(errors)


def test_without_pidfd_it_is_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_descriptor_of", lambda _pid: None)
    assert run(place, "echo out; exit 3") == (3, "out\n", "")
    assert run(place, "exec sleep 1234", deadline_s=0.3)[0] is None


def test_no_descriptor_and_no_child_is_left(place: Place) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for script in ("exit 1", "yes", "exec sleep 100"):
        run(place, script, deadline_s=0.3)
    commands(place).run(("/no/such",), given=b"x", deadline_s=1)
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_it_has_the_rights_of_the_account_and_can_gain_none(place: Place) -> None:
    as_root()
    script = "id -un; id -Gn; grep -E 'NoNewPrivs|CapEff' /proc/self/status"
    asked = commands(place, account=ACCOUNT).run(
        ("/bin/sh", "-c", script), given=b"", deadline_s=20
    )
    account, groups, *rest = asked.answer.split()
    assert (account, groups) == (ACCOUNT, ACCOUNT)
    assert rest == ["CapEff:", "0" * 16, "NoNewPrivs:", "1"]


def trial(place: Place, script: str, deadline_s: float = 20.0) -> Asked:
    as_root()
    tried = commands(place, account=ACCOUNT)
    return tried.try_out(("/bin/sh", "-c", script), deadline_s=deadline_s)


def test_p6_unproven_code_runs_as_no_one_and_may_do_nothing(place: Place) -> None:
    secret = place.state / "service" / "secret"
    secret.write_text("x")
    shutil.chown(secret, ACCOUNT)
    secret.chmod(0o600)
    asked = trial(
        place,
        f"grep -E '^(Uid|Groups|NoNewPrivs|CapEff):' /proc/self/status; cat {secret}; exit 0",
    )
    found = dict(line.split(":", 1) for line in asked.answer.splitlines())
    (number,) = {*found["Uid"].split()}
    with pytest.raises(KeyError):
        pwd.getpwuid(int(number))
    assert found["Groups"].split() == []
    assert (found["CapEff"].strip(), found["NoNewPrivs"].strip()) == ("0" * 16, "1")
    assert "secret" in asked.errors
    assert "x" not in asked.answer.splitlines()


@pytest.mark.parametrize("ends", ["exit 0", "exec sleep 1234"])
def test_p6_whatever_unproven_code_leaves_behind_is_gone_when_it_has_answered(
    place: Place, ends: str
) -> None:
    """It left its session, its parent and its output: its control group it can't leave."""
    hides = "setsid sh -c 'sleep 1234 & echo $!; wait' 2>/dev/null </dev/null & sleep 0.3"
    asked = trial(place, f"({hides}); {ends}", deadline_s=2)
    assert (asked.code == 0) is (ends == "exit 0")
    hidden = int(asked.answer)
    assert not _alive(hidden)
    assert not list(Path("/sys/fs/cgroup").glob("**/deploytool-trial-*"))


def test_p6_unproven_code_that_no_group_can_hold_is_not_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(killing, "_HIERARCHIES", ("/no/such/hierarchy",))
    with pytest.raises(FileNotFoundError):
        trial(place, "exit 0")


def test_a_word_that_looks_like_an_option_is_none(place: Place) -> None:
    as_root()
    asked = commands(place, account=ACCOUNT).run(("--help",), given=b"", deadline_s=20)
    assert asked.code == 127


# --- the socket -------------------------------------------------------------------------------


@contextmanager
def answering(path: Path, *parts: bytes, keep_open: bool = False) -> Iterator[list[bytes]]:
    """A socket of this very process that answers each connection with these parts."""
    heard: list[bytes] = []
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o666)
        listening.listen()
        done = threading.Event()

        def serve() -> None:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(1000))
                for part in parts:
                    try:
                        connection.sendall(part)
                    except OSError:
                        return
                if keep_open:
                    done.wait(30)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            done.set()
            # Else it would go on to wait at the next socket that gets this one's number.
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_socket_is_asked_for_a_line(place: Place) -> None:
    path = place.state / "service" / "ask"
    with answering(path, b'{"a"', b": 1}\nrest", keep_open=True) as heard:
        asked = commands(place).ask_socket(str(path), "status", frozenset({ME}), 5.0)
    assert (asked.way, asked.code, asked.answer) == ("socket", 0, '{"a": 1}')
    assert heard == [b"status\n"]
    with answering(path, b"all of it"):
        asked = commands(place).ask_socket(str(path), "status", frozenset({ME}), 5.0)
    assert asked.answer == "all of it"


@pytest.mark.parametrize("peers", [frozenset(), {(ME[0], ME[1] + 1)}, {(ME[0] + 1, ME[1])}])
def test_another_process_that_answers_is_not_believed(
    place: Place, peers: frozenset[tuple[int, int]]
) -> None:
    path = place.state / "service" / "ask"
    with answering(path, b"lies\n") as heard, pytest.raises(PermissionError):
        commands(place).ask_socket(str(path), "status", frozenset(peers), 5.0)
    assert heard in ([], [b""])


def test_a_socket_that_does_not_answer_or_says_too_much_is_an_error(place: Place) -> None:
    path = place.state / "service" / "ask"
    quick = commands(place)
    for parts, kept in (((), True), ((b"x",), True), ((b"x" * 100_000,), False)):
        with answering(path, *parts, keep_open=kept), pytest.raises(OSError):  # noqa: PT011
            quick.ask_socket(str(path), "status", frozenset({ME}), 1.0)
    with socket.socket(socket.AF_UNIX) as listening:
        path.unlink()
        listening.bind(str(path))
        with pytest.raises(ConnectionRefusedError):
            quick.ask_socket(str(path), "status", frozenset({ME}), 1.0)
        listening.listen(0)
        filling = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for one in filling:
            one.setblocking(False)
            try:
                one.connect(str(path))
            except BlockingIOError:
                break
        with pytest.raises(OSError) as raised:  # noqa: PT011 the number is checked
            quick.ask_socket(str(path), "status", frozenset({ME}), 1.0)
        assert raised.value.errno == errno.ETIMEDOUT
        for one in filling:
            one.close()
    with pytest.raises(FileNotFoundError):
        quick.ask_socket(str(path) + "x", "status", frozenset({ME}), 5.0)


def test_an_account_can_not_lead_root_to_a_socket_of_roots(place: Place) -> None:
    as_root()
    for folder in (place.root.parent, place.root, place.state, place.state / "service"):
        folder.chmod(0o755)
    private = place.root.parent / "private"
    private.mkdir(mode=0o700)
    link = place.state / "service" / "ask"
    with answering(private / "ask", b"secret\n"):
        link.symlink_to(private / "ask")
        assert commands(place).ask_socket(str(link), "x", frozenset({ME}), 5.0).answer == "secret"
    link.unlink()
    with answering(private / "ask", b"secret\n"):
        link.symlink_to(private / "ask")
        with pytest.raises(PermissionError):
            commands(place, account=ACCOUNT).ask_socket(str(link), "x", frozenset({ME}), 5.0)
    assert (os.geteuid(), os.getegid()) == (0, 0)
    assert os.access(private, os.R_OK)
    with answering(place.state / "service" / "own", b"mine\n"):
        path = str(place.state / "service" / "own")
        asked = commands(place, account=ACCOUNT).ask_socket(path, "x", frozenset({ME}), 5.0)
    assert asked.answer == "mine"


# --- signatures -------------------------------------------------------------------------------


@pytest.fixture
def signers(place: Place) -> dict[str, Path]:
    """Two keys, of whom ann's is in the signers file."""
    keys = {}
    for name in ("ann", "eve"):
        keys[name] = place.root.parent / name
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", keys[name]],
            check=True,
        )
    public = keys["ann"].with_suffix(".pub").read_text()
    (place.root / "signers").write_text(f'ann namespaces="start.deploytool" {public}')
    return keys


def test_who_signed_exactly_this(place: Place, signers: dict[str, Path]) -> None:
    own = commands(place, signers=str(place.root / "signers"))
    text, namespace = b'{"host":"router1"}\n', "start.deploytool"
    good = _signature(signers["ann"], text, namespace)
    assert own.signer(good, text, namespace) == "ann"
    assert own.signer(good, text + b" ", namespace) is None
    assert own.signer(good, text, "another") is None
    assert own.signer(_signature(signers["eve"], text, namespace), text, namespace) is None
    assert own.signer(_signature(signers["ann"], text, "another"), text, namespace) is None
    for bad in ("", "x", good[:-40], good.replace("A", "B"), "\0", "x" * 100_000):
        assert own.signer(bad, text, namespace) is None
    assert commands(place).signer(good, text, namespace) is None
    gone = commands(place, signers=str(place.root / "missing"))
    assert gone.signer(good, text, namespace) is None


def _signature(key: Path, text: bytes, namespace: str) -> str:
    ended = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-f", key, "-n", namespace],
        input=text,
        capture_output=True,
        check=True,
    )
    return ended.stdout.decode()
