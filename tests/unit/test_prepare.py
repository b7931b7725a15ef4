"""Who prepares a host lets in what nobody forbids to run there, and nothing else."""

from __future__ import annotations

import re
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from deploytool.fleet.prepare import Prepared, what_left

SCRIPT = resources.files("deploytool.fleet").joinpath("prepare.sh").read_text(encoding="utf-8")
LET_IN = re.search(r"^let_in\(\) \{.*?^\}\n", SCRIPT, re.MULTILINE | re.DOTALL)
PYTHON = re.search(r"^python_there\(\) \{.*?^\}\n", SCRIPT, re.MULTILINE | re.DOTALL)
TRUSTED = resources.files("deploytool.agent").joinpath("trusted.sh").read_text(encoding="utf-8")
SYSTEMD = """
changed() { printf 'changed %s\\n' "$1"; }
no() { printf 'no %s\\n' "$*"; exit 1; }
systemctl() { # a unit whose state lies in a file
    case $1 in
    is-enabled) cat "$ROOT/unit" ;;
    unmask) echo disabled >"$ROOT/unit" ;;
    enable) echo enabled >"$ROOT/unit" ;;
    esac
}
"""
MARKS = ("fenced", "expired", "held", "rollout", "lock", "deadman")


def let_in(root: Path, unit: str, *marks: str) -> tuple[list[str], str]:
    """What it says, and what the unit is afterwards."""
    assert LET_IN is not None
    (root / "state").mkdir()
    (root / "unit").write_text(f"{unit}\n")
    for mark in marks:
        (root / "state" / mark).touch()
    script = f"set -uf\nROOT=$1\n{SYSTEMD}\n{LET_IN.group(0)}\nlet_in router.service"
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(root)], capture_output=True, text=True, timeout=10
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines(), (root / "unit").read_text().strip()


def python_there(python: str | Path) -> str:
    """What a preparation says of an interpreter; empty where it takes it."""
    assert PYTHON is not None
    script = f"set -uf\nPYTHON=$1\n{SYSTEMD}\n{TRUSTED}\n{PYTHON.group(0)}\npython_there"
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(python)], capture_output=True, text=True, timeout=10
    )
    return done.stdout


def test_an_interpreter_that_others_may_change_is_refused(tmp_path: Path) -> None:
    real = Path("/usr/bin/python3").resolve()
    assert python_there("") == python_there(real) == ""
    link = tmp_path / "python3"
    link.symlink_to(real)
    assert python_there(link) == f"no {link} can be changed by others than root\n", "/tmp is theirs"
    assert "as /no/such/python3" in python_there("/no/such/python3")


def test_it_is_called_where_a_unit_is_placed() -> None:
    assert '    let_in "$NAME.service"\n' in SCRIPT
    assert len(re.findall(r"systemctl (?:unmask|enable) ", SCRIPT)) == 2


def test_a_bare_or_retired_host_is_let_in(tmp_path: Path) -> None:
    said = ["changed router.service unmasked", "changed router.service enabled"]
    assert let_in(tmp_path, "masked") == (said, "enabled")


def test_a_host_that_serves_is_left_alone_and_nothing_said(tmp_path: Path) -> None:
    assert let_in(tmp_path, "enabled", "lock", "rollout") == ([], "enabled")


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("unit", ["masked", "disabled"])
def test_p1_what_nobody_has_verified_is_not_let_in_by_whoever_prepares_the_host(
    mark: str, unit: str, tmp_path: Path
) -> None:
    assert let_in(tmp_path, unit, mark) == ([f"left {unit} {mark}"], unit)


def test_whoever_prepares_is_told_what_lets_it_in_again() -> None:
    assert what_left(None) == ""
    assert "deploytool start" in what_left("masked fenced rollout")
    rollout = what_left("masked expired rollout lock")
    assert "state/expired, state/rollout, state/lock" in rollout
    assert "deploytool resume, or rollback" in rollout
    assert str(Prepared(("a",), rollout)) == f"changed: a; {rollout}"
    assert str(Prepared(())) == "nothing had to be changed"
