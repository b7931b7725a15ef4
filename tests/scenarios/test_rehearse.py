"""The scenarios, as a person plays them: on eight real SSH hosts of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 600


@pytest.mark.sshd
@pytest.mark.slow
@pytest.mark.parametrize("name", ["healthy", "copy-fails", "missed-host", "under-load"])
def test_a_scenario_shows_what_it_has_to_show(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploytool.cli.main", "rehearse", "--scenario", name]
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
    (result,) = json.loads(done.stdout)["scenarios"]
    assert result["scenario"] == name
    assert result["passed"]
    assert len(result["points"]) >= 4
    # Nothing is left: neither the fleet's folder nor a process of it.
    assert not (tmp_path / ".deploytool/rehearsal/local").exists()
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True)
    assert left.stdout == ""
