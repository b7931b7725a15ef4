"""What holds for all tests: one that can't run here says so, and under CI that is a failure."""

from __future__ import annotations

import functools
import os

import pytest

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets.engine import find_engine
from deploytool.rehearsal.fleets.run import find


@functools.cache
def _lacking(marker: str) -> str:
    """Why tests with this marker can't run on this machine; empty when they can."""
    try:
        if marker == "sshd":
            find("sshd", "openssh-server")
        if marker == "containers":
            find_engine()
    except EnvironmentProblem as problem:
        return f"{problem.what} {problem.now}"
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in ("sshd", "containers"):
        if item.get_closest_marker(marker) and (reason := _lacking(marker)):
            if os.environ.get("CI"):
                pytest.fail(f"under CI nothing is skipped: {reason}", pytrace=False)
            pytest.skip(reason)
