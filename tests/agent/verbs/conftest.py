"""Grounds for tests of the verbs: a host in memory, under either supervisor."""

from __future__ import annotations

import pytest

from .ground import Ground


@pytest.fixture(params=["systemd", "process"])
def ground(request: pytest.FixtureRequest) -> Ground:
    """A prepared host on which nothing runs yet."""
    return Ground(request.param)
