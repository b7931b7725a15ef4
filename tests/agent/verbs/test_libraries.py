"""An interpreter's libraries come to one digest, which is remembered until one may have changed."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable

import pytest

from deploytool.agent.interpreters import is_library
from deploytool.agent.model import FileDigest
from deploytool.agent.requests import LookAnswer, Probe
from deploytool.agent.serve import serve
from deploytool.simulation.memory.agent import MemoryAgent
from deploytool.simulation.memory.files import MemoryFiles
from deploytool.simulation.memory.host import Points, SentBytes

from .ground import ONE, SHA, Ground

OS = "/usr/lib/python3/os.py"
READ = "digest /usr/lib/python3"


@pytest.fixture
def served() -> Ground:
    ground = Ground("systemd")
    ground.host.computer.make_folders("/usr/lib/python3/json")
    ground.host.computer.make_folders("/usr/lib/python2.7")
    ground.host.computer.put(OS, b"import sys\n")
    ground.host.computer.put("/usr/lib/python3/json/__init__.py", b"#\n")
    ground.host.computer.put("/usr/lib/python2.7/os.py", b"import sys\n")
    ground.deploy(ONE)
    return ground


def shown(ground: Ground, *, whole: bool = False) -> tuple[tuple[FileDigest, ...], bool]:
    """What is shown of them, and whether they were read for that."""
    seen = Points()
    probe = Probe(surroundings=True, whole=whole)
    found: tuple[FileDigest, ...] = ground.done(probe, hook=seen).evidence.libraries
    return found, READ in seen.seen


def test_they_are_read_once_and_again_when_one_was_written_to(served: Ground) -> None:
    first, _ = shown(served)
    assert [(file.path, file.sha is not None) for file in first] == [("/usr/bin/python3", True)]
    assert shown(served) == (first, False)
    assert shown(served, whole=True) == (first, True)
    served.host.computer.put("/usr/lib/python2.7/os.py", b"another version's\n")
    assert shown(served) == (first, False)
    served.host.computer.put(OS, b"import evil\n")
    changed, read = shown(served)
    assert changed != first
    assert read


def in_one_run(ground: Ground) -> Callable[[], tuple[tuple[FileDigest, ...], bool]]:
    """The same of one run of the agent, asked to read all of them whatever is remembered."""
    seen = Points()
    agent = MemoryAgent(ground.host.service, hook=seen)
    line = json.dumps(Probe(surroundings=True, whole=True).to_json()).encode()

    def ask() -> tuple[tuple[FileDigest, ...], bool]:
        seen.seen.clear()
        answer = serve(agent, SHA, Probe, line, SentBytes(b""))
        assert isinstance(answer, LookAnswer), answer
        return answer.evidence.libraries, READ in seen.seen

    return ask


def test_a_run_reads_them_once_itself_and_again_when_one_was_written_to(served: Ground) -> None:
    before, _ = shown(served)
    ask = in_one_run(served)
    assert (ask(), ask(), ask()) == ((before, True), (before, False), (before, False))
    served.host.computer.put(OS, b"import evil\n")
    changed, read = ask()
    assert read
    assert changed != before
    assert ask() == (changed, False)
    served.host.computer.put(OS, b"import sys\n")
    assert ask() == (before, True)


def test_a_mark_that_lies_is_not_believed_by_who_reads_all(served: Ground) -> None:
    true, _ = shown(served)
    boot, stamp, _ = (served.mark("libraries") or "").split()
    served.write("libraries", f"{boot} {stamp} {'a' * 64}\n")
    ask = in_one_run(served)
    assert ask() == (true, True)
    assert (served.mark("libraries") or "").split() == [boot, stamp, true[0].sha]


def test_what_may_change_unnoticed_is_read_each_time(
    served: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MemoryFiles.digest_trees
    monkeypatch.setattr(MemoryFiles, "digest_trees", lambda *a: (real(*a)[0], ""))
    first, _ = shown(served)
    assert shown(served) == (first, True)
    assert served.mark("libraries") is None
    ask = in_one_run(served)
    assert (ask(), ask()) == ((first, True), (first, True))


def test_a_wave_does_not_pay_for_it(served: Ground) -> None:
    seen = Points()
    assert served.done(Probe(), hook=seen).evidence.libraries == ()
    assert READ not in seen.seen


def test_what_is_remembered_of_another_boot_or_damaged_is_not_believed(served: Ground) -> None:
    first, _ = shown(served)
    boot, stamp, _ = (served.mark("libraries") or "").split()
    for text in ("x", f"{boot} {stamp} zz\n", f"another {stamp} {'a' * 64}\n"):
        served.write("libraries", text)
        assert shown(served) == (first, True)


def test_one_that_can_t_be_read_has_no_digest(served: Ground) -> None:
    served.host.computer.disk.failing["digest", "/usr/lib/python3"] = errno.EIO
    assert shown(served)[0] == (FileDigest(path="/usr/bin/python3"),)


@pytest.mark.parametrize(
    ("program", "name", "its"),
    [
        ("/usr/bin/python3.11", "python3.11", True),
        ("/usr/bin/python3.11", "python3", True),
        ("/usr/bin/python3.11", "python3.1", True),
        ("/usr/bin/python3.11", "python3.9", False),
        ("/usr/bin/python3.11", "python-apt", False),
        ("/usr/bin/perl", "perl5", True),
        ("/usr/bin/perl", "perl", True),
        ("/usr/bin/node", "node_modules", True),
        ("/opt/r/router", "router", False),
    ],
)
def test_which_folders_are_an_interpreter_s(program: str, name: str, *, its: bool) -> None:
    assert is_library(program, name) is its
