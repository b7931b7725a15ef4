"""The script of docs/api.md deploys to real hosts, and what the gate refuses it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import deploytool.operations as api
from deploytool.errors import InputError, Refused
from deploytool.operations import Candidate, Workspace, find_candidate
from deploytool.release.model import Release
from deploytool.simulation import program

from .conftest import Theatre

DOCS = Path(__file__).resolve().parents[2] / "docs/api.md"
TIMEOUT_S = 300


def script() -> str:
    found = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.sshd
def test_the_script_deploys_and_prints_typed_findings(theatre: Theatre, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "store").symlink_to(theatre.store)
    inventory = theatre.operators.inventory_of("straight")
    done = subprocess.run(
        [sys.executable, "-c", script(), str(inventory), theatre.new],
        env={**os.environ, "DEPLOYTOOL_HOME": str(home)},
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{host} MATCH" for host in theatre.hosts]
    assert theatre.everyone_runs(theatre.new)


def test_it_takes_ten_lines() -> None:
    assert len(script().strip().splitlines()) <= 10


def test_the_gate_is_below_every_door(tmp_path: Path) -> None:
    """No release for rehearsals alone, and no other service's, becomes a candidate."""
    from deploytool.simulation import fleet

    base = fleet.inventory(2)
    manifest = program.build("2026.1")[0]
    space = Workspace(
        base.model_copy(update={"throwaway": False}), tmp_path / "i.yaml", tmp_path, tmp_path
    )
    with pytest.raises(Refused) as caught:
        Candidate(space, Release(manifest.model_copy(update={"rehearsal_only": True}), ""))
    assert caught.value.rule == "RELEASE_REHEARSAL_ONLY"
    with pytest.raises(InputError, match="the service is"):
        Candidate(space, Release(manifest.model_copy(update={"name": "another"}), ""))
    with pytest.raises(InputError):
        find_candidate(space, "2026.1")


def test_all_that_is_public_is_there_and_documented() -> None:
    assert sorted({*api.__all__}) == sorted({*api._PLACES})
    text = DOCS.read_text(encoding="utf-8")
    for name in api.__all__:
        found = getattr(api, name)
        assert found.__doc__, name
        assert name[0].isupper() or f"`{name}`" in text or f"`{name}(" in text, name
