"""What the command line can ask of the matrices: more cases than every run can afford."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is the machine's business.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("deploytool")
    group.addoption("--singles", default="6", metavar="N|all", help="cases of each fault")
    group.addoption("--pairs", default="200", metavar="N|all", help="pairs of faults")
    group.addoption("--crashes", default="20", metavar="N|all", help="faults beside crashes")
    group.addoption("--seed", default=20120801, type=int, help="which of them are drawn")


@pytest.fixture(autouse=True)
def same_folder_afterwards() -> Iterator[None]:
    """Fails the test that leaves its process in another folder: only later tests would notice."""
    before = Path.cwd()
    yield
    after = Path.cwd()
    if after != before:
        os.chdir(before)
        pytest.fail(f"The test left the process in {after}.")
