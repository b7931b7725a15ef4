"""Killed again and again at random moments, deploy and resume alike: one release in the end (P7).

``DEPLOYTOOL_KILLS=50 DEPLOYTOOL_HOSTS=8 pytest tests/crash/test_fifty.py`` is the long run.
"""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from deploytool.rehearsal.faults.deployer import Operator

from .conftest import Theatre, shown

pytestmark = [pytest.mark.sshd, pytest.mark.slow]

KILLS = int(os.environ.get("DEPLOYTOOL_KILLS", "6"))
SEED = int(os.environ.get("DEPLOYTOOL_SEED", "20120801"))
LONGEST_S = 4.0
IN_A_ROW = 3
"""Kills of one rollout, the resumes that follow included, before it is let through."""


def _killed(operator: Operator, verb: str, arguments: list[str], after_s: float) -> bool:
    """Runs a command and kills it after so long; False where it had ended by then."""
    with operator.start(verb, *arguments) as deployer:
        time.sleep(after_s)
        alive = deployer.process.poll() is None
        if alive:
            deployer.send(signal.SIGKILL)
        ended = deployer.wait()
        assert alive or ended.code in {0, 3}, shown(ended)
        return alive


def _left(theatre: Theatre) -> bool:
    return any(seen.marked or seen.locked or seen.held for seen in theatre.look().values())


def test_p7_every_kill_is_mended(theatre: Theatre) -> None:
    chance = random.Random(SEED)  # noqa: S311 moments that can be drawn again, not a secret
    kills = rollouts = 0
    resumed: list[bool] = []  # whether it was done with an empty journal and an empty store
    new, old = theatre.new, theatre.old
    while kills < KILLS:
        rollouts += 1
        assert rollouts <= 3 * KILLS + 3, f"only {kills} kills in {rollouts} rollouts"
        operator, verb, arguments = theatre.operators.fresh("deployer"), "deploy", [new]
        row = 0
        while row < IN_A_ROW and kills < KILLS:
            if not _killed(operator, verb, arguments, chance.uniform(0.3, LONGEST_S)):
                break
            row, kills = row + 1, kills + 1
            if not _left(theatre):
                break
            resumed.append(len(resumed) % 2 == 0)
            operator = theatre.operators.fresh(f"operator{row}", store=not resumed[-1])
            verb, arguments = "resume", []
        ended = _end(theatre, resumed)
        assert ended == new or row > 0, f"rollout {rollouts} came to {ended[:8]}"
        if ended == new:
            old, new = new, old
    say = f"{kills} kills in {rollouts} rollouts of {len(theatre.hosts)} hosts, {len(resumed)}"
    print(f"{say} resumes, {sum(resumed)} of them elsewhere; seed {SEED}")


def _end(theatre: Theatre, resumed: list[bool]) -> str:
    """Ends what is left, and gives the one release that every host then truly runs."""
    if _left(theatre):
        resumed.append(len(resumed) % 2 == 0)
        ended = theatre.operators.fresh("last", store=not resumed[-1]).run("resume")
        if ended.code == 3 and ended.document.get("rule") == "RESUME_RELEASE":
            # Killed before any host held the release: only who has it can go on.
            resumed[-1] = False
            ended = theatre.operators.fresh("last").run("resume")
        assert ended.code == 0, shown(ended)
    proven = theatre.operators.fresh("last").run("status")
    assert proven.code == 0, shown(proven)
    assert len(proven.document["hosts"]) == len(theatre.hosts)
    release = str(proven.document["release"])
    assert theatre.everyone_runs(release)
    return release
