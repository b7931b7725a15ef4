"""What isn't written down isn't done: the journal's disk is full, or the file damaged (P7)."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploytool.rehearsal.faults.catalogue import Moment
from deploytool.rehearsal.faults.deployer import Operator
from tests.unable import unable

from .conftest import Theatre, shown

pytestmark = [pytest.mark.sshd, pytest.mark.slow]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        unable("a small disk needs the right to mount")
    where = tmp_path / "small"
    where.mkdir()
    options = ["-t", "tmpfs", "-o", "size=256k", "small", str(where)]
    subprocess.run(["mount", *options], check=True, timeout=10)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True, timeout=10)


def _fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return


def _operator(theatre: Theatre, journal: Path) -> Operator:
    plain = theatre.operators.fresh("full")
    return Operator(plain.inventory, plain.store, journal)


def test_p7_a_full_disk_before_the_deploy_stops_it_before_anything_is_done(
    theatre: Theatre, small_disk: Path
) -> None:
    before = theatre.look()
    _fill(small_disk)
    ended = _operator(theatre, small_disk).run("deploy", theatre.new)
    assert ended.code == 2, shown(ended)
    assert str(small_disk) in ended.document["what"]
    assert theatre.look() == before


@pytest.mark.parametrize("moment", [Moment.STAGING, Moment.STAGED, Moment.BETWEEN])
def test_p7_a_full_disk_stops_the_deploy_before_its_next_effect(
    theatre: Theatre, small_disk: Path, moment: Moment
) -> None:
    operator = _operator(theatre, small_disk)
    with operator.start("deploy", theatre.new) as deployer:
        assert deployer.wait_for(moment)
        deployer.send(signal.SIGSTOP)
        _fill(small_disk)
        deployer.send(signal.SIGCONT)
        ended = deployer.wait()

    assert ended.code == 5, shown(ended)
    assert any("can't be written" in str(line) for line in ended.document["details"])
    seen = theatre.look()
    switched = [host for host in theatre.hosts if seen[host].linked == theatre.new]
    # What had been begun may end; the effect after it may not begin.
    at_most = {Moment.STAGING: 0, Moment.STAGED: 1, Moment.BETWEEN: len(theatre.hosts)}[moment]
    assert len(switched) <= at_most, switched
    assert all(item.locked for item in seen.values()), "nobody may build on a fleet that is held"

    mended = theatre.operators.fresh("elsewhere").run("resume")
    assert mended.code == 0, shown(mended)
    assert theatre.everyone_runs(theatre.new)


def test_p7_a_file_that_may_not_grow_is_a_full_disk_too(theatre: Theatre) -> None:
    operator = theatre.operators.fresh("limited")
    with operator.start("deploy", theatre.new) as deployer:
        assert deployer.wait_for(Moment.STAGED)
        resource.prlimit(deployer.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        ended = deployer.wait()
    assert ended.code == 5, shown(ended)
    assert any("can't be written" in str(line) for line in ended.document["details"])
    mended = theatre.operators.fresh("elsewhere").run("rollback")
    assert mended.code == 0, shown(mended)
    assert theatre.everyone_runs(theatre.old)


@pytest.mark.parametrize("damage", [b"this is no database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_p7_a_damaged_journal_stops_every_command_before_anything_is_done(
    theatre: Theatre, damage: bytes
) -> None:
    before = theatre.look()
    operator = theatre.operators.fresh("damaged")
    journal = operator.journal / "throwaway-local.sqlite"
    journal.write_bytes(damage)
    ended = operator.run("deploy", theatre.new)
    assert ended.code == 2, shown(ended)
    assert journal.name in ended.document["what"]
    assert theatre.look() == before
    assert journal.read_bytes()[:16] == damage[:16], "what is damaged is left for a person to see"


def test_p7_a_journal_that_is_damaged_afterwards_can_be_moved_away_and_the_deploy_resumed(
    theatre: Theatre,
) -> None:
    operator = theatre.operators.fresh("damaged")
    with operator.start("deploy", theatre.new) as deployer:
        assert deployer.wait_for(Moment.BETWEEN)
        deployer.send(signal.SIGKILL)
        deployer.wait()
    for path in operator.journal.glob("*"):
        path.write_bytes(b"\0" * 100)
    refused = operator.run("resume")
    assert refused.code == 2, shown(refused)
    for path in operator.journal.glob("*"):
        path.unlink()
    mended = operator.run("resume")
    assert mended.code == 0, shown(mended)
    assert theatre.everyone_runs(theatre.new)
