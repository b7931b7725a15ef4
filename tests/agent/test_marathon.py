"""Many deployers, many strikes: whatever happened, the next one brings the host to its release."""

from __future__ import annotations

import pytest

from .invariants.marathon import contest_violations, marathon_violations

SEEDS = 40


@pytest.mark.parametrize("supervisor", ["systemd", "process"])
def test_a_marathon(supervisor: str, request: pytest.FixtureRequest) -> None:
    first = request.config.getoption("--seed")
    for seed in range(first, first + SEEDS):
        assert list(marathon_violations(seed, supervisor)) == [], f"--seed {seed}"


@pytest.mark.parametrize("supervisor", ["systemd", "process"])
def test_a_contest(supervisor: str, request: pytest.FixtureRequest) -> None:
    first = request.config.getoption("--seed")
    for seed in range(first, first + SEEDS):
        assert list(contest_violations(seed, supervisor)) == [], f"--seed {seed}"
