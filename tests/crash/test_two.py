"""Two deployers at once, from two places: one wins, the other is refused by name (P1, P2, P7)."""

from __future__ import annotations

import time

import pytest

from .conftest import Theatre, called, shown

pytestmark = [pytest.mark.sshd, pytest.mark.slow]

# From "at the same instant" to "while the first holds all locks", either one in front.
LEADS_S = (0.0, 0.01, -0.01, 0.03, -0.03, 0.06, -0.1, 0.2, -0.4, 0.8)


@pytest.mark.parametrize("lead_s", LEADS_S)
def test_p7_one_wins_and_the_other_is_told_who(theatre: Theatre, lead_s: float) -> None:
    names = ("ann", "bob") if lead_s >= 0 else ("bob", "ann")
    first, second = (called(theatre.operators.fresh(name), name) for name in names)
    with first.start("deploy", theatre.new) as leading:
        time.sleep(abs(lead_s))
        with second.start("deploy", theatre.new) as following:
            ends = {names[0]: leading.wait(), names[1]: following.wait()}

    codes = sorted(str(ended.code) for ended in ends.values())
    assert codes == ["0", "3"], "\n".join(shown(ended) for ended in ends.values())
    winner = next(name for name, ended in ends.items() if ended.code == 0)
    loser = next(ended for ended in ends.values() if ended.code == 3)
    assert loser.document["rule"] in {"LOCK_HELD", "PREFLIGHT_LOCK"}, shown(loser)
    assert any(f"{winner}@" in str(line) for line in loser.document["details"]), shown(loser)
    assert theatre.everyone_runs(theatre.new)
