"""An interpreter's libraries come to one digest, which is remembered until one may have changed."""

from __future__ import annotations

import errno

import pytest

from deploytool.agent.interpreters import is_library
from deploytool.agent.model import FileDigest
from deploytool.agent.requests import Probe
from deploytool.simulation.memory.host import Points

from .ground import ONE, Ground

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
    served.host.computer.disk.failing["stamp", "/usr/lib/python3"] = errno.EIO
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
