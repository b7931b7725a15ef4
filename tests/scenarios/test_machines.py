"""What needs a host with a power switch, as far as containers have one.

On virtual machines all of it is rehearsed by `make rehearse-vagrant`; here one scenario shows, in
every run, that it finds what it looks for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 600
NAME = "reboot-brings-old-build"


@pytest.mark.containers
@pytest.mark.slow
def test_what_waits_for_the_next_boot_is_found_before_it_and_proven_by_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploytool.cli.main", "rehearse", "--fleet", "container"]
    command += ["--scenario", NAME, "--hosts", "2", "--source", str(ROOT / "router_binary")]
    done = subprocess.run(
        [*command, "--json"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (played,) = json.loads(done.stdout)["scenarios"]
    assert played["scenario"] == NAME
    assert played["passed"], played
    assert len(played["points"]) >= 7, played
    assert not (tmp_path / ".deploytool/rehearsal/container").exists()
