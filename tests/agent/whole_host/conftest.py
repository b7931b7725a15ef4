"""A throwaway host of each test's own, on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.whole_host.hosts import Place, prepared


@pytest.fixture
def place() -> Iterator[Place]:
    """Not below pytest's own folder, which no other account can enter."""
    with tempfile.TemporaryDirectory(prefix="deploytool-host-") as folder:
        Path(folder).chmod(0o755)
        with prepared(Path(folder)) as made:
            yield made
