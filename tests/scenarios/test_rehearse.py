"""The scenarios, as a person plays them: on eight real SSH hosts of this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploytool.gate.records import read_all
from tests.unit.gate.repository import new_key

ROOT = Path(__file__).parents[2]
DEADLINE_S = 600


@pytest.mark.sshd
@pytest.mark.slow
@pytest.mark.parametrize("name", ["healthy", "copy-fails", "missed-host", "under-load"])
def test_a_scenario_shows_what_it_has_to_show(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploytool.cli.main", "rehearse", "--scenario", name]
    key = new_key(tmp_path, "ci")
    command += ["--record", str(tmp_path / "records"), "--sign", str(key)]
    done = subprocess.run(
        [*command, "--source", str(ROOT / "router_binary"), "--json"],
        cwd=tmp_path,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said = json.loads(done.stdout)
    (result,) = said["scenarios"]
    assert result["scenario"] == name
    assert result["passed"]
    assert len(result["points"]) >= 4
    # What it came to is written down, signed, for the gate.
    signers = tmp_path / "signers"
    signers.write_text(f"ci {key.with_suffix('.pub').read_text()}")
    (kept,) = read_all(tmp_path / "records", signers)
    assert kept.signer == "ci", kept.trouble
    assert kept.record is not None
    assert said["record"] == str(tmp_path / "records" / kept.place)
    (played,) = kept.record.scenarios
    assert (played.name, played.passed) == (name, True)
    assert played.held == played.points == len(result["points"])
    assert kept.record.shape.waves == (1, 3, 4)
    # Nothing is left: neither the fleet's folder nor a process of it.
    assert not (tmp_path / ".deploytool/rehearsal/local").exists()
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True)
    assert left.stdout == ""


@pytest.mark.sshd
def test_a_rehearsal_that_is_ended_takes_its_fleet_away(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploytool.cli.main", "rehearse", "--scenario", "healthy"]
    process = subprocess.Popen(
        [*command, "--source", str(ROOT / "router_binary")],
        cwd=tmp_path,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any("with sshd are up" in line for line in process.stdout), "no fleet came up"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, errors
    assert "What to do now:" in errors
    assert not (tmp_path / ".deploytool" / "rehearsal" / "local").exists()
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True)
    assert left.stdout == ""
